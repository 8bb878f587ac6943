//! What a session spends on Lambda, and when it stops.
//!
//! Counted is every invocation, also one that failed, was thrown away as the slower of two, or gave no answer; every request to
//! the bucket, of functions and of this machine; and the bytes that leave AWS. Prices are list prices, so the sum is an
//! estimate of the bill.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ggr_ir::protocol::lambda::Answer;

use super::aws::ServiceError;
use super::price::Price;

/// What this machine asked of the bucket.
#[derive(Debug, Default)]
pub struct Requests {
    /// Objects written, and listings: they have one price.
    pub(super) puts: AtomicU64,
    /// Objects read.
    pub(super) gets: AtomicU64,
    /// Bytes sent.
    pub(super) sent: AtomicU64,
    /// Bytes received: they leave AWS.
    pub(super) received: AtomicU64,
    /// The first refusal that will not go away by itself.
    pub(super) refused: OnceLock<ServiceError>,
}

impl Requests {
    pub(super) fn count(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// A session's account.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Spending {
    /// Invocations that were begun.
    pub invocations: u64,
    /// Those of them that came to nothing: failures, and answers that nobody waited for any more.
    pub in_vain: u64,
    /// Thunks that were sent; several may share an invocation.
    pub thunks: u64,
    /// Those of them that came back done from behind another one.
    pub behind: u64,
    /// Requests to the bucket, of functions and of this machine.
    pub store_requests: u64,
    /// Bytes that this machine sent to the bucket.
    pub sent: u64,
    /// Bytes that this machine received, from functions and from the bucket.
    pub received: u64,
    /// All of it, in US dollars.
    pub dollars: f64,
}

/// Adds up, and closes.
pub(super) struct Account {
    price: Price,
    memory_mb: u32,
    /// US dollars.
    limit: Option<f64>,
    requests: Arc<Requests>,
    invocations: AtomicU64,
    in_flight: AtomicU64,
    in_vain: AtomicU64,
    thunks: AtomicU64,
    behind: AtomicU64,
    theirs: AtomicU64,
    received: AtomicU64,
    /// Billionths of a dollar, for invocations and what they asked of the bucket.
    nanodollars: AtomicU64,
    closed: OnceLock<String>,
    notice: Box<dyn Fn(&str) + Send + Sync>,
}

impl Account {
    pub(super) fn new(
        price: Price,
        memory_mb: u32,
        limit: Option<f64>,
        requests: Arc<Requests>,
        notice: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        Self {
            price,
            memory_mb,
            limit,
            requests,
            notice,
            invocations: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            in_vain: AtomicU64::default(),
            thunks: AtomicU64::default(),
            behind: AtomicU64::default(),
            theirs: AtomicU64::default(),
            received: AtomicU64::default(),
            nanodollars: AtomicU64::default(),
            closed: OnceLock::new(),
        }
    }

    /// Why nothing more is sent, if that is so.
    pub(super) fn closed(&self) -> Option<&str> {
        self.closed.get().map(String::as_str)
    }

    /// Sends nothing more; the user is told once.
    pub(super) fn close(&self, why: &str) {
        if self.closed.set(why.to_owned()).is_ok() {
            (self.notice)(&format!("no more thunks are sent to Lambda: {why}"));
        }
    }

    /// Closes if what runs now will reach the limit, each taken to cost what one cost in the mean so far.
    pub(super) fn look_at_limit(&self) {
        let Some(limit) = self.limit else { return };
        let spent = self.spending().dollars;
        let ended = self.invocations.load(Ordering::Relaxed) - self.in_flight.load(Ordering::Relaxed);
        let mean = if ended == 0 { 0.0 } else { spent / ended as f64 };
        if spent + mean * self.in_flight.load(Ordering::Relaxed) as f64 >= limit {
            self.close(&format!("`--max-cost {limit:.2}` is reached"));
        }
    }

    /// Begins an invocation of so many thunks; what is returned counts it when it is dropped, whatever became of it.
    pub(super) fn begin(&self, thunks: usize) -> Invoked<'_> {
        self.invocations.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.thunks.fetch_add(thunks as u64, Ordering::Relaxed);
        Invoked { account: self, started: Instant::now(), answered: false, nanodollars: 0 }
    }

    /// So many thunks came back done from behind another one.
    pub(super) fn note_behind(&self, thunks: usize) {
        self.behind.fetch_add(thunks as u64, Ordering::Relaxed);
    }

    pub(super) fn spending(&self) -> Spending {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (puts, gets) = (read(&self.requests.puts), read(&self.requests.gets));
        let received = read(&self.received) + read(&self.requests.received);
        let own = puts as f64 * self.price.put
            + gets as f64 * self.price.get
            + received as f64 / 1e9 * self.price.out_gb;
        Spending {
            invocations: read(&self.invocations),
            in_vain: read(&self.in_vain),
            thunks: read(&self.thunks),
            behind: read(&self.behind),
            store_requests: read(&self.theirs) + puts + gets,
            sent: read(&self.requests.sent),
            received,
            dollars: read(&self.nanodollars) as f64 / 1e9 + own,
        }
    }
}

/// An invocation that runs.
pub(super) struct Invoked<'a> {
    account: &'a Account,
    started: Instant,
    answered: bool,
    nanodollars: u64,
}

impl Invoked<'_> {
    /// It has ended; what it cost, in millionths of a dollar.
    pub(super) fn ended(&mut self, answer: Option<(&Answer, usize)>) -> u64 {
        let account = self.account;
        let took = self.started.elapsed();
        self.nanodollars = nano(account.price.of(account.memory_mb, took, answer.map(|(answer, _)| answer)));
        if let Some((answer, bytes)) = answer {
            self.answered = true;
            let traffic = answer.traffic;
            account.theirs.fetch_add(traffic.fetched + traffic.stored, Ordering::Relaxed);
            account.received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        self.nanodollars.div_ceil(1000)
    }

    /// How long it has run.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Invoked<'_> {
    fn drop(&mut self) {
        let account = self.account;
        account.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            account.in_vain.fetch_add(1, Ordering::Relaxed);
        }
        if self.nanodollars == 0 {
            // Nobody waits for its end. It runs on, for how long is not known: what it took so far is counted.
            self.nanodollars = nano(account.price.of(account.memory_mb, self.started.elapsed(), None));
        }
        account.nanodollars.fetch_add(self.nanodollars, Ordering::Relaxed);
    }
}

fn nano(dollars: f64) -> u64 {
    (dollars * 1e9).ceil() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ggr_ir::protocol::lambda::Traffic;

    use super::*;

    fn account(limit: Option<f64>) -> (Account, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&told);
        // A request costs a cent, a GB-second nothing.
        let price = Price { gb_second: 0.0, request: 0.01, put: 0.001, get: 0.0, out_gb: 1.0 };
        let notice = Box::new(move |text: &str| notes.lock().unwrap().push(text.to_owned()));
        (Account::new(price, 1024, limit, Arc::default(), notice), told)
    }

    #[test]
    fn failures_and_what_nobody_waits_for_are_counted_too() {
        let (account, _) = account(None);
        let traffic = Traffic { fetched: 5, stored: 2, ..Traffic::default() };
        let answer =
            Answer { attempts: Vec::new(), chains: Vec::new(), inline: Vec::new(), traffic, served: 0 };
        assert_eq!(account.begin(3).ended(Some((&answer, 1_000_000))), 12_000);
        let _ = account.begin(1).ended(None);
        drop(account.begin(1));
        Requests::count(&account.requests.puts, 4);
        Requests::count(&account.requests.received, 1_000_000);
        let spending = account.spending();
        assert_eq!((spending.invocations, spending.in_vain, spending.thunks), (3, 2, 5));
        assert_eq!((spending.store_requests, spending.received), (11, 2_000_000));
        assert!((spending.dollars - 0.038).abs() < 1e-9, "{spending:?}");
    }

    #[test]
    fn it_closes_before_what_is_in_flight_goes_over_the_limit_and_says_so_once() {
        let (account, told) = account(Some(0.035));
        let _ = account.begin(1).ended(None);
        account.look_at_limit();
        assert_eq!(account.closed(), None);
        let running = [account.begin(1), account.begin(1), account.begin(1)];
        account.look_at_limit();
        account.look_at_limit();
        drop(running);
        assert_eq!(account.closed(), Some("`--max-cost 0.04` is reached"));
        assert_eq!(told.lock().unwrap().len(), 1);
    }
}
