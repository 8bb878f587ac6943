//! The loop that takes a run's calls down, one after the other, and lets each go.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};

use super::recorder::Recorder;
use crate::intercept::sys;

/// Why the loop ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The helper has something to say, or has ended.
    Helper,
    /// The session ends; the program goes on.
    Session,
}

/// Serves a run until its helper has something to say, or the session ends.
pub(super) fn until_spoken(
    listener: &OwnedFd,
    control: &UnixStream,
    ending: &PipeReader,
    recorder: &mut Recorder,
) -> End {
    // An older kernel refuses; calls are then slower, not wrong.
    let _ = sys::set_sync_wake_up(listener.as_fd());
    loop {
        let fds = [listener.as_fd(), control.as_fd(), ending.as_fd()];
        let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => {
                recorder.refuse("its calls could not be told");
                return End::Helper;
            }
        }
        let [told, spoken, ended] = [0, 1, 2].map(|n: usize| fds[n].revents());
        if told.contains(PollFlags::IN) {
            if let Err(error) = one(listener, recorder)
                && !matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT))
            {
                recorder.refuse("its calls could not be told");
                return End::Helper;
            }
        } else if !spoken.is_empty() {
            return End::Helper;
        } else if !ended.is_empty() {
            return End::Session;
        }
    }
}

/// Takes one call down. `ENOENT` if its process died meanwhile.
fn one(listener: &OwnedFd, recorder: &mut Recorder) -> io::Result<()> {
    let call = sys::receive(listener.as_fd())?;
    recorder.take(&call);
    sys::let_go(listener.as_fd(), call.id)
}
