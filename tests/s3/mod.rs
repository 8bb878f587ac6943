//! S3 servers that nobody here wrote, and a proxy in front of them that makes faults. All on loopback, at free ports; a
//! server ends with its test, or by itself after a while.
//!
//! Used by the integration tests and by those of `ggr-backends`, each of which uses a part of it.
#![allow(dead_code)]

pub(crate) mod proxy;

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The bucket that each server has.
pub(crate) const BUCKET: &str = "team";

/// The longest that a server may live, in seconds.
const LIFE: &str = "900";

/// How long a server may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// A server with an empty bucket.
pub(crate) struct Server {
    process: Child,
    endpoint: String,
    root: TempDir,
}

impl Server {
    /// The crate `s3s-fs`, whose objects are plain files; nothing if tests/setup has not built it.
    pub(crate) fn s3s() -> Option<Self> {
        let program = home("GGR_S3S", "ggr-s3s")?.join("bin/s3s-fs");
        let root = root();
        std::fs::create_dir(root.path().join(BUCKET)).expect("the directory is new");
        Self::start(root, |root, port| {
            let mut server = Command::new("timeout");
            server.arg(LIFE).arg(program).args(["--host", "127.0.0.1", "--port", port]);
            // It checks signatures.
            server.args(["--access-key", "test", "--secret-key", "test"]).arg(root);
            server
        })
    }

    /// `moto`; nothing if tests/setup has not installed it.
    pub(crate) fn moto() -> Option<Self> {
        let program = home("GGR_VENV", "ggr-venv")?.join("bin/moto_server");
        let server = Self::start(root(), |_, port| {
            let mut server = Command::new("timeout");
            server.arg(LIFE).arg(program).args(["-H", "127.0.0.1", "-p", port]);
            server
        })?;
        let answer = proxy::exchange(
            &server.address(),
            format!(
                "PUT /{BUCKET} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                server.address()
            )
            .as_bytes(),
        );
        let answer = answer.expect("moto answers");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        Some(server)
    }

    fn start(root: TempDir, command: impl FnOnce(&Path, &str) -> Command) -> Option<Self> {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut command = command(root.path(), &port.to_string());
        if !Path::new(command.get_args().nth(1)?).exists() {
            return None;
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("timeout(1) is there");
        let server = Self { process, endpoint: format!("http://127.0.0.1:{port}"), root };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(server.address()).is_err() {
            assert!(Instant::now() < deadline, "the S3 server does not listen at {}", server.endpoint);
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    /// Its URL.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> String {
        self.endpoint.trim_start_matches("http://").to_owned()
    }

    /// The files of the bucket's objects, with `s3s` only, whose keys hold this text.
    pub(crate) fn objects(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.root.path().join(BUCKET)];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("the server's directory").flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                    _ if entry.path().to_string_lossy().contains(text) => found.push(entry.path()),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `timeout` passes it on to the server.
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// `s3s`, for this test; nothing, and said so, where it is not installed.
pub(crate) fn s3s(test: &str) -> Option<Server> {
    let server = Server::s3s();
    if server.is_none() {
        skipped(test, "s3s-fs is not installed (tests/setup)");
    }
    server
}

/// `moto`, for this test; nothing, and said so, where it is not installed.
pub(crate) fn moto(test: &str) -> Option<Server> {
    let server = Server::moto();
    if server.is_none() {
        skipped(test, "moto is not installed (tests/setup)");
    }
    server
}

/// Says that a test cannot run on this machine; `tests/run` counts these lines.
fn skipped(name: &str, why: &str) {
    // Not `eprintln!`: the test harness would keep that to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

fn root() -> TempDir {
    tempfile::Builder::new().prefix("ggr-s3-").tempdir().expect("a temporary directory")
}

/// What tests/setup has made, if it has.
fn home(variable: &str, name: &str) -> Option<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from);
    let found = given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache").join(name)))?;
    found.is_dir().then_some(found)
}
