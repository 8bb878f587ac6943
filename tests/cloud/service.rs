//! Services on loopback: moto, which nobody here wrote, and a stand-in that says what a test tells it to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long moto may take to start: Python reads some thousand files.
const START: Duration = Duration::from_secs(60);

/// moto's server; it ends with this value.
pub(crate) struct Moto {
    process: Child,
    address: SocketAddr,
}

impl Moto {
    /// Starts one; nothing where `tests/setup` has not installed it.
    pub(crate) fn start() -> Option<Self> {
        let program = installed("moto_server")?;
        let address = free_address();
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto can be started");
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < START, "moto does not listen at {address}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self { process, address })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks it directly: method, path and body; the answer's status and body.
    pub(crate) fn ask(&self, service: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        // moto goes by the service that a signature names, and checks none.
        let signed = format!("AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {signed}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let reply = String::from_utf8_lossy(&exchange(self.address, request.as_bytes())).into_owned();
        let status = reply.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it is HTTP");
        (status, reply.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program of the virtual environment that `tests/setup` makes.
fn installed(name: &str) -> Option<PathBuf> {
    let of_home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/ggr-venv"));
    let venv = std::env::var_os("GGR_VENV").map(PathBuf::from).or_else(of_home)?;
    Some(venv.join("bin").join(name)).filter(|path| path.is_file())
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

/// Sends a request whose answer ends with the connection.
fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request).expect("it reads");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("it answers");
    reply
}

/// An answer in HTTP.
pub(crate) fn reply(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Answers each request as `answer` says for its first line, or passes it on to moto. Ends with the test's process.
pub(crate) fn stand_in(
    behind: Option<&Moto>,
    answer: impl Fn(&str) -> Option<String> + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let behind = behind.map(|moto| moto.address);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let Some(request) = whole_request(&mut stream) else { continue };
            let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
            let reply = match (answer(&line), behind) {
                (Some(reply), _) => reply.into_bytes(),
                (None, Some(moto)) => exchange(moto, &closing(&request)),
                (None, None) => reply(500, "", "").into_bytes(),
            };
            let _ = stream.write_all(&reply);
        }
    });
    url
}

/// A request to the end of its body.
fn whole_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut seen = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let head = seen.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
            let length = text.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap_or(0));
            if text.contains("expect: 100-continue") && seen.len() == head + 4 {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
            }
            if seen.len() >= head + 4 + length {
                return Some(seen);
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
        }
    }
}

/// The request, asking that the connection be closed after the answer.
fn closing(request: &[u8]) -> Vec<u8> {
    let line = request.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    [&request[..line], b"Connection: close\r\n", &request[line..]].concat()
}
