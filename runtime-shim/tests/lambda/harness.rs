//! A store in a fresh directory, a bootstrap in its jail, and the service's side of the runtime API.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ggr_backends::store::FsStore;
use ggr_ir::protocol::lambda::{Answer, Invocation, StoreAddress, decode, encode};
use ggr_ir::{
    Attempt, Follower, Harvest, Job, Kind, Limits, ObjectStore, Outcome, ReadyThunk, Reduction, ToolFailure,
};
use ggr_shim::bench::{Kit, command};
use tempfile::TempDir;

/// The shell and these programs are in every root.
const PROGRAMS: [&str; 14] = [
    "dash", "cat", "sleep", "ls", "rm", "mkdir", "ln", "cp", "id", "chmod", "readlink", "head", "pwd", "env",
];

/// Nothing here takes longer on a machine that works.
const LIMIT: Duration = Duration::from_secs(120);

/// A bootstrap in its jail.
pub(crate) struct Function {
    /// Shared with the function.
    pub(crate) dir: TempDir,
    pub(crate) kit: Kit,
    process: Child,
    messages: Sender<String>,
    replies: Receiver<(String, Vec<u8>)>,
}

impl Function {
    /// None, said so, where there can be no jail. `GGR_BOOTSTRAP` names another bootstrap, such as a static one.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let bootstrap = std::env::var_os("GGR_BOOTSTRAP")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bootstrap")), PathBuf::from);
        let jail = Command::new("bwrap").args(["--unshare-user", "--ro-bind", "/", "/", "true"]).status();
        if !jail.is_ok_and(|status| status.success()) {
            println!("SKIPPED {test}: bwrap cannot make a jail here; tests/setup installs it");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // The function is another user.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut kit = Kit::new(dir.path());
        for program in PROGRAMS {
            kit.program(&Path::new("/usr/bin").join(program)).unwrap();
        }
        // The function's user stores there too.
        let shards = (0..256).map(|shard| format!("blobs/{shard:02x}"));
        for store in shards.chain(["tmp".to_owned()]) {
            std::fs::create_dir_all(dir.path().join(&store)).unwrap();
            open(&dir.path().join(store));
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = listener.local_addr().unwrap();
        let (messages, inbox) = channel();
        let (outbox, replies) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (inbox, outbox) = (inbox.clone(), outbox.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &inbox, &outbox));
            }
        });
        let process = Command::new(root.join("tests/jail"))
            .arg(bootstrap)
            .arg(api.to_string())
            .arg("--share")
            .arg(dir.path())
            .args(["--env", "AWS_SECRET_ACCESS_KEY=a secret"])
            .spawn()
            .unwrap();
        Some(Self { dir, kit, process, messages, replies })
    }

    pub(crate) fn store(&self) -> FsStore {
        FsStore::new(self.dir.path())
    }

    /// Sends a message as it is; the kind of the reply, and its bytes.
    pub(crate) fn send(&self, message: String) -> (String, Vec<u8>) {
        self.messages.send(message).unwrap();
        self.replies.recv_timeout(LIMIT).expect("every invocation is answered")
    }

    /// Runs a thunk, and stores here what came inside the answer.
    pub(crate) fn run(&self, thunk: ReadyThunk, limits: Limits) -> Attempt {
        self.answer(thunk, limits, Vec::new()).attempts.pop().unwrap()
    }

    /// Runs a thunk with those behind it; the same.
    pub(crate) fn answer(&self, thunk: ReadyThunk, limits: Limits, next: Vec<Follower>) -> Answer {
        let job = Job {
            id: thunk.id(),
            thunk: Arc::new(thunk),
            limits,
            kind: Kind::Other,
            label: "a test".to_owned(),
        };
        let store = StoreAddress::Directory(self.dir.path().to_str().unwrap().to_owned());
        let invocation = Invocation { store, jobs: vec![job], chains: vec![next], inline: Vec::new() };
        let (kind, bytes) = self.send(encode(&invocation));
        assert_eq!(kind, "response", "{}", String::from_utf8_lossy(&bytes));
        let answer: Answer = decode(&bytes).unwrap();
        for inline in &answer.inline {
            assert_eq!(self.store().put_bytes(&inline.bytes).unwrap(), inline.id);
        }
        answer
    }

    /// Runs a script in `/work`.
    pub(crate) fn sh(&self, script: &str, outputs: &[&str], harvest: Harvest) -> Attempt {
        let call = command(&["/usr/bin/dash", "-c", script], "/work");
        self.run(self.kit.thunk(call, outputs, harvest), Limits::default())
    }

    /// What a script that succeeds writes to its standard output.
    pub(crate) fn said(&self, script: &str) -> String {
        let attempt = self.sh(script, &[], Harvest::Declared);
        let stdout = self.store().get_bytes(reduced(&attempt).stdout).unwrap();
        String::from_utf8(stdout).unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn open(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
}

pub(crate) fn reduced(attempt: &Attempt) -> &Reduction {
    match &attempt.outcome {
        Outcome::Reduced(reduction) => reduction,
        Outcome::ToolFailed(failure) => {
            panic!("{failure:?}: {}", String::from_utf8_lossy(&failure.stderr))
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn failed(attempt: &Attempt) -> &ToolFailure {
    match &attempt.outcome {
        Outcome::ToolFailed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// One connection of the runtime: `next` waits for a message, `response` and `error` bring a reply.
fn serve(stream: TcpStream, inbox: &Mutex<Receiver<String>>, outbox: &Sender<(String, Vec<u8>)>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some((path, body)) = request(&mut reader) {
        let (status, text) = match path.rsplit('/').next().unwrap() {
            "next" => match inbox.lock().unwrap().recv() {
                Ok(message) => ("200 OK\r\nLambda-Runtime-Aws-Request-Id: 1", message),
                Err(_) => return,
            },
            kind => {
                let _ = outbox.send((kind.to_owned(), body));
                ("202 Accepted", String::new())
            }
        };
        let reply = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a request: its path and its body.
fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let header = line.trim().to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse().ok()?,
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(_) => {}
        }
    }
    assert!(!chunked, "Lambda's documentation asks for a length");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}
