//! From an output of one thunk to an input of the next: from the moment that the bytes are in the producer's scratch file to
//! the moment that the consumer has read them at their path in its root.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ggr_ir::BlobId;

use super::percentile;
use crate::blobs::{As, Blobs};

/// The way of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Producer and consumer are on one worker: into its store, and a link out of it.
    Local,
    /// From one worker's store into another's, over TCP on loopback.
    Peer,
    /// From the worker's store into a store behind it, from there into the other worker's.
    ThroughStore,
    /// As local, and the blob and its directory are on the disk before the consumer hears of it.
    Durable,
}

impl Way {
    /// All of them, in the order of the table.
    pub const ALL: [Way; 4] = [Way::Local, Way::Peer, Way::ThroughStore, Way::Durable];

    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Way::Local => "local",
            Way::Peer => "peer",
            Way::ThroughStore => "through the store",
            Way::Durable => "durable (fsync)",
        }
    }
}

/// The sizes of the table, in bytes.
pub const SIZES: [usize; 3] = [1 << 10, 100 << 10, 1 << 20];

/// What one way took with one size.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    /// Which way.
    pub way: Way,
    /// How many bytes.
    pub size: usize,
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

/// Hands over `count` files of each size in each way, in a directory made below `root`, on whose file system it is measured.
///
/// # Errors
/// The file system's and the network's.
pub fn handoffs(root: &Path, count: u32) -> io::Result<Vec<Handed>> {
    let dir = root.join("bench-handoff");
    let rows = Hands::new(&dir).and_then(|mut hands| {
        let pairs = SIZES.into_iter().flat_map(|size| Way::ALL.map(|way| (way, size)));
        pairs.map(|(way, size)| hands.measure(way, size, count)).collect()
    });
    fs::remove_dir_all(&dir)?;
    rows
}

/// Two workers' stores, the store behind them, and a connection.
struct Hands {
    dir: PathBuf,
    near: Blobs,
    far: Blobs,
    behind: Blobs,
    to_peer: TcpStream,
    from_peer: TcpStream,
    made: u64,
}

impl Hands {
    fn new(dir: &Path) -> io::Result<Self> {
        let store = |name: &str| {
            let root = dir.join(name);
            fs::create_dir_all(root.join("blobs"))?;
            Ok::<_, io::Error>(Blobs::at(&root))
        };
        let (near, far, behind) = (store("near")?, store("far")?, store("behind")?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let to_peer = TcpStream::connect(listener.local_addr()?)?;
        let (from_peer, _) = listener.accept()?;
        // Without it a small message waits 44 ms for the answer to the one before.
        to_peer.set_nodelay(true)?;
        from_peer.set_nodelay(true)?;
        Ok(Self { dir: dir.to_owned(), near, far, behind, to_peer, from_peer, made: 0 })
    }

    fn measure(&mut self, way: Way, size: usize, count: u32) -> io::Result<Handed> {
        self.once(way, size)?;
        let mut times = (0..count).map(|_| self.once(way, size)).collect::<io::Result<Vec<_>>>()?;
        times.sort_unstable();
        Ok(Handed { way, size, p50: percentile(&times, 50), p99: percentile(&times, 99) })
    }

    fn once(&mut self, way: Way, size: usize) -> io::Result<Duration> {
        self.made += 1;
        // New bytes each time: what a store has already it does not write again.
        let mut bytes = vec![0; size];
        let seed = self.made.to_le_bytes();
        bytes.iter_mut().zip(seed.iter().cycle()).for_each(|(byte, seed)| *byte = *seed);
        let (made, wanted) = (self.dir.join("made"), self.dir.join("wanted"));
        fs::write(&made, &bytes)?;
        let begun = Instant::now();
        let id = self.near.adopt(&made).map_err(io::Error::other)?;
        let from = match way {
            Way::Local => &self.near,
            Way::Durable => {
                self.near.sync(id)?;
                &self.near
            }
            Way::Peer => {
                self.send_to_peer(id)?;
                &self.far
            }
            Way::ThroughStore => {
                for (from, to) in [(&self.near, &self.behind), (&self.behind, &self.far)] {
                    to.put(&from.bytes(id).map_err(io::Error::other)?).map_err(io::Error::other)?;
                }
                &self.far
            }
        };
        from.link(id, As::File, &wanted).map_err(io::Error::other)?;
        let read = fs::read(&wanted)?;
        let took = begun.elapsed();
        if read != bytes {
            return Err(io::Error::other("other bytes came than were sent"));
        }
        fs::remove_file(&wanted)?;
        Ok(took)
    }

    /// Both ends in one thread would fill the socket's buffer and wait for themselves; the sender has its own.
    fn send_to_peer(&mut self, id: BlobId) -> io::Result<()> {
        let bytes = self.near.bytes(id).map_err(io::Error::other)?;
        let mut received = vec![0; bytes.len()];
        let (mut out, mut back) = (&self.to_peer, &self.from_peer);
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || out.write_all(&bytes));
            back.read_exact(&mut received)?;
            sender.join().map_err(|_| io::Error::other("the sender panicked"))?
        })?;
        self.far.put(&received).map(drop).map_err(io::Error::other)
    }
}

impl Blobs {
    /// Brings a blob and its name to the disk.
    fn sync(&self, id: BlobId) -> io::Result<()> {
        let path = self.path(id);
        File::open(&path)?.sync_all()?;
        File::open(path.parent().expect("a blob is in a directory"))?.sync_all()
    }
}
