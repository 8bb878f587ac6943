//! A proxy that reads requests, counts them, and does what a test tells it: it passes them on, answers them itself, or
//! spoils the answer. One request to a connection.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
pub(crate) enum Fate {
    /// It is passed on, and so is the answer.
    Pass,
    /// It is passed on; of the answer comes the first half.
    Cut,
    /// It is passed on; the answer comes at so many bytes a second.
    Slow(u64),
    /// It is not passed on: status and code of an error in S3's form.
    Refuse(u16, &'static str),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `GET`, `PUT`, …
    pub(crate) method: String,
    /// The path and what follows it.
    pub(crate) target: String,
}

impl Request {
    /// Whether it changes anything.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

/// Decides by request and by how many came before it.
type Decide = Box<dyn Fn(&Request, usize) -> Fate + Send + Sync>;

/// See the module's documentation. Its thread ends with the process.
pub(crate) struct Proxy {
    endpoint: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Proxy {
    /// In front of the server at this address.
    pub(crate) fn new(
        upstream: &str,
        decide: impl Fn(&Request, usize) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (seen, decide) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Box::new(decide) as Decide));
        let (log, upstream) = (Arc::clone(&seen), upstream.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, decide, upstream) = (Arc::clone(&log), Arc::clone(&decide), upstream.clone());
                // A client that goes away is its own business.
                std::thread::spawn(move || drop(serve(stream, &upstream, &log, &decide)));
            }
        });
        Self { endpoint, seen }
    }

    /// Its URL.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("no holder panics").clone()
    }

    /// Forgets them.
    pub(crate) fn clear(&self) {
        self.seen.lock().expect("no holder panics").clear();
    }
}

fn serve(
    mut client: TcpStream,
    upstream: &str,
    log: &Mutex<Vec<Request>>,
    decide: &Decide,
) -> io::Result<()> {
    let (head, mut body) = read_head(&mut client)?;
    let length = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    if header(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let had = body.len();
    body.resize(length, 0);
    if had < length {
        client.read_exact(&mut body[had..])?;
    }
    let mut words = head.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let request = Request { method: word(), target: word() };
    let before = {
        let mut seen = log.lock().expect("no holder panics");
        seen.push(request.clone());
        seen.len() - 1
    };
    let fate = decide(&request, before);
    if let Fate::Refuse(status, code) = fate {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the test</Message></Error>"
        );
        let region = if status == 301 { "x-amz-bucket-region: eu-north-1\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\n{region}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        return client.write_all(format!("{head}{body}").as_bytes());
    }
    let lines = head.split("\r\n").filter(|line| {
        let line = line.to_ascii_lowercase();
        !line.is_empty() && !line.starts_with("expect:") && !line.starts_with("connection:")
    });
    let head = lines.chain(["Connection: close"]).collect::<Vec<_>>().join("\r\n") + "\r\n\r\n";
    let answer = exchange(upstream, &[head.as_bytes(), &body].concat())?;
    match fate {
        Fate::Pass | Fate::Refuse(..) => client.write_all(&answer),
        Fate::Cut => client.write_all(&answer[..answer.len() / 2]),
        Fate::Slow(rate) => answer.chunks((rate / 20).max(1) as usize).try_for_each(|piece| {
            std::thread::sleep(Duration::from_millis(50));
            client.write_all(piece)
        }),
    }
}

/// Sends one request that closes its connection, and gives the whole answer.
pub(crate) fn exchange(address: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(address)?;
    server.write_all(request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

/// The head of a request, and what came after it.
fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match client.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let of = |line: &'a str| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name));
    head.split("\r\n").find_map(of).map(|(_, value)| value.trim())
}
