//! How many thunks a second go through the scheduler and the driver, and what each costs in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggr_ir::{
    BlobId, Command, Entry, Harvest, Kind, Limits, Mode, Network, Object, OutputRef, RootPath, Thunk, ThunkId,
};

use crate::drive::{Driver, Options, Submission};
use crate::null::{Gate, NullBackend};
use crate::scheduler::Urgency;

/// Slots of the null backend: as many as the project's own target for one build.
const SLOTS: usize = 1000;

/// Dependencies are taken from this many thunks before: a build's graph is wide, and mostly local.
const NEIGHBOURHOOD: u64 = 1000;

/// What [`scale`] or [`scale_held`] measured.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How many thunks.
    pub thunks: u64,
    /// From the first submission until all were finished, the making of the thunks included.
    pub elapsed: Duration,
    /// Of these, how long making the thunks and their ids took.
    pub traced: Duration,
    /// Processor time that all this took, on all cores: what `elapsed` is on a busy machine says little.
    pub cpu: Duration,
    /// How much the resident set of the process has grown, in bytes; measured where it is largest.
    pub memory: u64,
}

impl Report {
    /// Thunks a second.
    pub fn per_second(&self) -> f64 {
        self.thunks as f64 / self.elapsed.as_secs_f64()
    }

    /// Bytes of resident memory for each thunk.
    pub fn bytes_each(&self) -> f64 {
        self.memory as f64 / self.thunks as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} thunks in {:.2} s: {:.0} a second, {:.0} bytes each ({:.2} s of processor time; making them took {:.2} s)",
            self.thunks,
            self.elapsed.as_secs_f64(),
            self.per_second(),
            self.bytes_each(),
            self.cpu.as_secs_f64(),
            self.traced.as_secs_f64()
        )
    }
}

/// Sends a synthetic build of `n` thunks through a driver with the null backend, while it is being traced. Each thunk has
/// its real canonical id, reads a blob and outputs of up to three of the thunks before it, and is resolved and hashed
/// again when it is ready, as in a real build. Must be called inside a multi-threaded tokio runtime; in a fresh process,
/// or the memory is not that of the build alone.
///
/// # Panics
/// If a thunk does not finish.
pub async fn scale(n: u64) -> Report {
    measure(n, NullBackend::new(SLOTS), None).await
}

/// As [`scale`], but nothing runs until all has been traced: the most that a build can hold in memory.
///
/// # Panics
/// If a thunk does not finish.
pub async fn scale_held(n: u64) -> Report {
    let (backend, gate) = NullBackend::gated(SLOTS);
    measure(n, backend, Some(gate)).await
}

async fn measure(n: u64, backend: NullBackend, gate: Option<Gate>) -> Report {
    let (memory, cpu, begin) = (resident(), processor_time(), Instant::now());
    let driver = Driver::spawn(vec![Arc::new(backend)], Options::default());
    let mut synthetic = Synthetic::new();
    let mut traced = Duration::ZERO;
    for _ in 0..n {
        let made = Instant::now();
        let submission = synthetic.next();
        traced += made.elapsed();
        driver.submit(submission).await;
    }
    let mut peak = 0;
    if let Some(gate) = gate {
        let taken = driver.counts().wait_for(|counts| counts.traced == n).await.is_ok();
        assert!(taken, "the driver takes every submission");
        peak = resident();
        gate.open();
    }
    driver.idle().await;
    let elapsed = begin.elapsed();
    let memory = peak.max(resident()).saturating_sub(memory);
    let cpu = processor_time().saturating_sub(cpu);
    let counts = *driver.counts().borrow();
    assert_eq!((counts.ran, counts.failed), (n, 0), "every thunk finishes");
    driver.shutdown().await;
    Report { thunks: n, elapsed, traced, cpu, memory }
}

/// User and system time of the process so far, as proc_pid_stat(5) has it in its fields 14 and 15: in ticks of 10 ms.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, which may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// Resident memory in bytes; 0 where `/proc` is not mounted.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Makes the thunks of a build that never was.
struct Synthetic {
    made: u64,
    recent: Vec<ThunkId>,
    random: u64,
    program: RootPath,
    dir: RootPath,
    source: BlobId,
}

impl Synthetic {
    fn new() -> Self {
        Self {
            made: 0,
            recent: Vec::new(),
            random: 0,
            program: path("/usr/bin/cc"),
            dir: path("/build"),
            source: BlobId::of(b"int x;"),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn next(&mut self) -> Submission {
        let number = self.made;
        let mut inputs = BTreeMap::from([(
            path(&format!("/build/{number}.c")),
            Entry { object: Object::Blob(self.source), mode: Mode::Regular },
        )]);
        for _ in 0..self.below(4) {
            let Some(back) = (number > 0).then(|| 1 + self.below(number.min(NEIGHBOURHOOD))) else { break };
            let dep = number - back;
            let thunk = self.recent[(dep % NEIGHBOURHOOD) as usize];
            let object = Object::Output(OutputRef { thunk, name: format!("/build/{dep}.o").as_str().into() });
            inputs.insert(path(&format!("/build/{dep}.o")), Entry { object, mode: Mode::Regular });
        }
        let output = path(&format!("/build/{number}.o"));
        let thunk = Thunk {
            command: Command {
                program: self.program.clone(),
                args: vec!["cc".to_owned(), "-c".to_owned(), format!("{number}.c")],
                env: BTreeMap::new(),
                dir: self.dir.clone(),
            },
            inputs,
            outputs: BTreeMap::from([(output.as_str().into(), output)]),
            harvest: Harvest::Declared,
            network: Network::None,
        };
        self.submission(thunk)
    }

    fn submission(&mut self, thunk: Thunk) -> Submission {
        let id = thunk.id();
        let place = (self.made % NEIGHBOURHOOD) as usize;
        match self.recent.get_mut(place) {
            Some(slot) => *slot = id,
            None => self.recent.push(id),
        }
        let label = format!("cc {}.o", self.made).as_str().into();
        self.made += 1;
        Submission {
            id,
            thunk: Arc::new(thunk),
            kind: Kind::Compile,
            label,
            limits: Limits::default(),
            estimate: None,
            cacheable: false,
            urgency: Urgency::Eventual,
        }
    }
}

fn path(text: &str) -> RootPath {
    RootPath::new(text).expect("synthetic paths are absolute and normal")
}
