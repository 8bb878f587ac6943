//! What the simulated cloud is like, and the state of its functions.

use std::time::Duration;

use crate::dice::Dice;

/// A time that is log-normally distributed.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Half are shorter.
    pub median: Duration,
    /// The standard deviation of the logarithm: 0.6 puts the 99th percentile at four times the median.
    pub sigma: f64,
}

impl Spread {
    /// The median in milliseconds, and the deviation of the logarithm.
    pub const fn new(millis: u64, sigma: f64) -> Self {
        Self { median: Duration::from_millis(millis), sigma }
    }

    /// The mean, which is above the median.
    pub fn mean(self) -> Duration {
        self.median.mul_f64((self.sigma * self.sigma / 2.0).exp())
    }

    pub(super) fn draw(self, dice: &mut Dice) -> Duration {
        self.median.mul_f64(dice.log_normal(self.sigma))
    }
}

/// What the cloud is like.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// How many functions the attempts go to in turn; 0: one for each thousand workers.
    pub functions: u32,
    /// New environments that one function gets at once, and again in each [`period`](Self::period).
    pub ramp: u32,
    /// See [`ramp`](Self::ramp).
    pub period: Duration,
    /// What the first attempt in an environment takes longer: its start, and fetching the toolchain.
    pub cold: Spread,
    /// From the start of an attempt to the start of its program.
    pub fetch: Spread,
    /// From the end of the program to the answer.
    pub store: Spread,
    /// The share of attempts that straggle.
    pub stragglers: f64,
    /// How many times longer a straggler's program takes: evenly between these.
    pub slower: [f64; 2],
    /// How far remembered durations are off: the deviation of the logarithm of the error.
    pub misjudged: f64,
    /// How many thunks a second the build is traced at; infinite: all are known at the start.
    pub traced_per_second: f64,
    /// Whether thunks travel together as [`Lambda`](crate::lambda) has it: short ones that are ready together in one
    /// invocation, and short ones behind the one that they wait for.
    pub together: bool,
}

impl Default for Cloud {
    /// Lambda's documented ramp (1,000 environments in 10 s for each function). A cold start is that of a small static
    /// program (some 100 ms) and 45 MB of toolchain at the 75 MB/s that functions get. Transfers: one round trip to
    /// a store within the region for each way. Two attempts in a hundred take 3 to 8 times as long.
    fn default() -> Self {
        Self {
            functions: 0,
            ramp: 1000,
            period: Duration::from_secs(10),
            cold: Spread::new(700, 0.3),
            fetch: Spread::new(20, 0.6),
            store: Spread::new(15, 0.6),
            stragglers: 0.02,
            slower: [3.0, 8.0],
            misjudged: 0.1,
            traced_per_second: f64::INFINITY,
            together: true,
        }
    }
}

impl Cloud {
    /// One without cold starts, ramp, transfers and stragglers, whose durations are known, and where each thunk goes alone:
    /// what is left is the scheduler's own order.
    pub fn ideal() -> Self {
        let none = Spread::new(0, 0.0);
        Self {
            ramp: u32::MAX,
            cold: none,
            fetch: none,
            store: none,
            stragglers: 0.0,
            misjudged: 0.0,
            together: false,
            ..Self::default()
        }
    }
}

/// What an attempt finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Environment {
    /// One that is there.
    Warm,
    /// A new one.
    Cold,
    /// None: the ramp allows no more for now.
    None,
}

/// The environments of each function.
#[derive(Debug)]
pub(super) struct Functions {
    functions: Vec<Function>,
    turn: usize,
}

#[derive(Clone, Debug)]
struct Function {
    idle: u32,
    /// New environments that it may still start in this period.
    left: u32,
    period: u64,
}

impl Functions {
    pub(super) fn new(cloud: &Cloud, workers: u32) -> Self {
        let count = if cloud.functions == 0 { workers.div_ceil(1000) } else { cloud.functions };
        let function = Function { idle: 0, left: cloud.ramp, period: 0 };
        Self { functions: vec![function; count.max(1) as usize], turn: 0 }
    }

    /// Takes an environment of the next function, in turn as [`Lambda`](crate::lambda) does.
    pub(super) fn take(&mut self, cloud: &Cloud, now: Duration) -> (usize, Environment) {
        self.turn = (self.turn + 1) % self.functions.len();
        let function = &mut self.functions[self.turn];
        let period = (now.as_nanos() / cloud.period.as_nanos().max(1)) as u64;
        if period > function.period {
            (function.period, function.left) = (period, cloud.ramp);
        }
        let found = if function.idle > 0 {
            function.idle -= 1;
            Environment::Warm
        } else if function.left > 0 {
            function.left -= 1;
            Environment::Cold
        } else {
            Environment::None
        };
        (self.turn, found)
    }

    /// An environment of this function is free again.
    pub(super) fn give_back(&mut self, function: usize) {
        self.functions[function].idle += 1;
    }
}
