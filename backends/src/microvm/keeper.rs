//! A thread for each guest, as the kernel kills the guest when the *thread* that started it ends (prctl(2),
//! `PR_SET_PDEATHSIG`), and as starting, writing down and killing a guest block.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

use super::vmm::{Guest, VmmError};

enum Order {
    Save(PathBuf, oneshot::Sender<Result<(), VmmError>>),
    LastWords(oneshot::Sender<String>),
}

/// Holds a guest. Dropping it kills the guest, soon.
#[derive(Debug)]
pub(super) struct Keeper(Sender<Order>);

impl Keeper {
    /// Starts a guest on a thread of its own; gives the keeper and our end of the console.
    pub(super) async fn start(
        start: impl FnOnce() -> Result<Box<dyn Guest>, VmmError> + Send + 'static,
    ) -> Result<(Self, UnixStream), VmmError> {
        let (orders, inbox) = channel();
        let (reply, answer) = oneshot::channel();
        let thread = move || {
            let guest = match start().and_then(|guest| {
                let console = guest.console().map_err(|e| failed("taking the console", &e))?;
                Ok((guest, console))
            }) {
                Ok((guest, console)) => {
                    // Whoever asked may have been cancelled: then the inbox is closed, and the guest ends below.
                    let _ = reply.send(Ok(console));
                    guest
                }
                Err(error) => return drop(reply.send(Err(error))),
            };
            while let Ok(order) = inbox.recv() {
                match order {
                    Order::Save(devices, reply) => return drop(reply.send(guest.save(&devices))),
                    Order::LastWords(reply) => drop(reply.send(guest.last_words())),
                }
            }
        };
        let spawned = std::thread::Builder::new().name("ggr-guest".to_owned()).spawn(thread);
        spawned.map_err(|e| failed("starting a thread", &e))?;
        let console = answer.await.unwrap_or_else(|_| Err(gone()))?;
        Ok((Self(orders), console))
    }

    /// Writes the guest's devices down, and ends it.
    pub(super) async fn save(self, devices: PathBuf) -> Result<(), VmmError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Order::Save(devices, reply)).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// What the guest's kernel said last; nothing if there is no way to know.
    pub(super) async fn last_words(&self) -> String {
        let (reply, answer) = oneshot::channel();
        if self.0.send(Order::LastWords(reply)).is_err() {
            return String::new();
        }
        answer.await.unwrap_or_default()
    }
}

fn failed(doing: &'static str, error: &io::Error) -> VmmError {
    VmmError::Failed { doing, why: error.to_string(), console: String::new() }
}

fn gone() -> VmmError {
    failed("keeping a guest", &io::Error::other("its thread has ended"))
}
