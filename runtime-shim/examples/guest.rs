//! The guest by itself: PID 1 of a microVM, or, as `guest agent ROOT`, an agent that is a plain process with the host's
//! socket as descriptor 0 (for tests without a machine).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use ggr_shim::guest;
use ggr_shim::worker::{Isolation, WorkerOptions, serve};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("agent") => agent(&arguments[2]).expect("the agent serves"),
        Some("worker") => {
            let options =
                WorkerOptions { slots: 1, root: (&arguments[2]).into(), isolation: Isolation::Auto };
            serve(&options).expect("the worker serves");
        }
        _ => guest::run(&arguments),
    }
}

fn agent(root: &str) -> std::io::Result<()> {
    let host = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (ours, theirs) = UnixStream::pair()?;
    let mut worker = Command::new("/proc/self/exe");
    worker.args(["worker", root]).stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut child = worker.spawn()?;
    drop(worker);
    let done = guest::serve(host.try_clone()?, host, root.as_ref(), ours);
    child.wait()?;
    done
}
