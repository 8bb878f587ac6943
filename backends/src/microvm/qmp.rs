//! QEMU's machine protocol (docs/interop/qmp-spec.rst), as far as snapshots need it: a line of JSON each way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

/// No command that is sent here takes longer, under TCG on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The longest line that is taken from QEMU, in bytes.
const LONGEST: u64 = 1 << 20;

/// A connection.
pub(super) struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Greets QEMU.
    pub(super) fn open(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.line()?;
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        (&mut self.reader).take(LONGEST).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "QEMU has ended"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Sends a command and waits for its answer; events in between are passed over.
    pub(super) fn ask(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.reader.get_ref().write_all(text.as_bytes())?;
        self.answer(command)
    }

    /// Gives QEMU a descriptor under a name.
    pub(super) fn give(&mut self, name: &str, file: &File) -> io::Result<()> {
        let text = json!({ "execute": "getfd", "arguments": { "fdname": name } }).to_string();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(rights.push(SendAncillaryMessage::ScmRights(&fds)), "the space is for one descriptor");
        let bytes = [IoSlice::new(text.as_bytes())];
        // A command is far shorter than a socket's buffer, which is empty: it goes as a whole.
        sendmsg(self.reader.get_ref(), &bytes, &mut rights, SendFlags::NOSIGNAL)?;
        self.answer("getfd").map(drop)
    }

    fn answer(&mut self, command: &str) -> io::Result<Value> {
        loop {
            let mut line = self.line()?;
            if let Some(value) = line.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = line.get("error") {
                return Err(io::Error::other(format!("`{command}`: {}", error["desc"])));
            }
        }
    }

    /// Waits until a migration in either direction is complete.
    pub(super) fn migrated(&mut self) -> io::Result<()> {
        let limit = Instant::now() + LIMIT;
        while Instant::now() < limit {
            let state = self.ask("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => return Err(io::Error::other(format!("migration: {state}"))),
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Leaves memory that is in a shared file out of snapshots.
    pub(super) fn leave_memory_out(&mut self) -> io::Result<()> {
        let capability = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
        self.ask("migrate-set-capabilities", capability).map(drop)
    }
}
