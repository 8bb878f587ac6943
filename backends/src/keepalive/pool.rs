//! Warm places, under a bound on their memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// What a policy says when a place becomes idle. Both are counted from that moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// When to have it loaded; zero: it stays loaded. Otherwise it is unloaded at once.
    pub load_after: Duration,
    /// Until when it is kept, if nobody uses it.
    pub keep_until: Duration,
}

/// A policy: from the idle times of a key to a window.
pub trait Windows<K> {
    /// Learns that `key` was idle (no place of it in use) for so long, and then used.
    fn observe(&mut self, key: &K, idle: Duration);

    /// The window for a place of `key` that becomes idle now. Has no effect.
    fn window(&self, key: &K) -> Window;
}

/// What a start found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// A place that was ready.
    Warm,
    /// Nothing: one has to be made.
    Cold,
}

/// What the caller has to do. It comes in the order in which it falls due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action<K> {
    /// Make a place for this key.
    Load(K),
    /// Remove an idle place of this key.
    Unload(K),
}

/// Sums since the start.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Usage {
    /// Starts that found a place.
    pub warm: u64,
    /// Starts that did not.
    pub cold: u64,
    /// Idle places times seconds.
    pub idle_seconds: f64,
    /// Places that were removed, or not made, for the sake of the bound.
    pub evicted: u64,
}

#[derive(Clone, Debug)]
struct Place<K> {
    key: K,
    /// Since when it is loaded and idle.
    since: Duration,
    until: Duration,
}

#[derive(Clone, Debug)]
enum Timer<K> {
    Expire,
    Load { key: K, until: Duration },
}

#[derive(Clone, Debug, Default)]
struct Use {
    busy: u64,
    /// When the last busy place became idle.
    quiet_since: Option<Duration>,
    idle: BTreeSet<u64>,
    /// Timers of places that were unloaded and are to be loaded again.
    loads: BTreeSet<(Duration, u64)>,
    /// How many idle places a running build wants, and until when.
    expected: Option<(usize, Duration)>,
}

/// The warm places of all keys. Time never runs backwards: an earlier `now` counts as the latest seen.
#[derive(Clone, Debug)]
pub struct Pool<K, P> {
    policy: P,
    /// Bytes of an idle place.
    each: u64,
    bound: u64,
    now: Duration,
    next: u64,
    keys: HashMap<K, Use>,
    /// By number, which grows with time: the first is the least recently used.
    places: BTreeMap<u64, Place<K>>,
    timers: BTreeMap<(Duration, u64), Timer<K>>,
    usage: Usage,
    actions: Vec<Action<K>>,
}

impl<K: Eq + Hash + Clone, P: Windows<K>> Pool<K, P> {
    /// An empty pool, whose idle places, `each` of so many bytes, take at most `bound` bytes together.
    pub fn new(policy: P, each: u64, bound: u64) -> Self {
        Self {
            policy,
            each,
            bound,
            now: Duration::ZERO,
            next: 0,
            keys: HashMap::new(),
            places: BTreeMap::new(),
            timers: BTreeMap::new(),
            usage: Usage::default(),
            actions: Vec::new(),
        }
    }

    /// A thunk of `key` starts now.
    pub fn start(&mut self, key: &K, now: Duration) -> Start {
        self.advance(now);
        let used = self.keys.entry(key.clone()).or_default();
        if used.busy == 0
            && let Some(since) = used.quiet_since
        {
            self.policy.observe(key, self.now - since);
        }
        used.busy += 1;
        // The most recently used: its pages are the likeliest to be in a cache, and the others can run out.
        let Some(number) = used.idle.last().copied() else {
            // The place that is made now stands for one that was to be loaded: two would be one too many.
            if let Some(load) = used.loads.pop_first() {
                self.timers.remove(&load);
            }
            self.usage.cold += 1;
            return Start::Cold;
        };
        self.take(number);
        self.usage.warm += 1;
        Start::Warm
    }

    /// A thunk of `key` has ended now; its place is idle.
    pub fn end(&mut self, key: &K, now: Duration) {
        self.advance(now);
        let now = self.now;
        let used = self.keys.entry(key.clone()).or_default();
        used.busy = used.busy.saturating_sub(1);
        if used.busy == 0 {
            used.quiet_since = Some(now);
        }
        let expected = used.expected.filter(|(count, until)| *until > now && used.idle.len() < *count);
        let window = self.policy.window(key);
        let until = now.saturating_add(window.keep_until);
        if let Some((_, expected_until)) = expected {
            self.settle(key, until.max(expected_until));
        } else if window.load_after.is_zero() {
            self.settle(key, until);
        } else {
            self.actions.push(Action::Unload(key.clone()));
            if window.load_after < window.keep_until {
                let number = self.number();
                let timer = Timer::Load { key: key.clone(), until };
                let at = (now.saturating_add(window.load_after), number);
                self.timers.insert(at, timer);
                self.keys.entry(key.clone()).or_default().loads.insert(at);
            }
        }
    }

    /// A build's graph says that `count` thunks of `key` are ready soon, and not later than `until`: that many idle places are
    /// had now and kept until then, whatever the policy says, as far as the bound allows. A later call replaces this one.
    pub fn expect(&mut self, key: &K, count: usize, until: Duration, now: Duration) {
        self.advance(now);
        let used = self.keys.entry(key.clone()).or_default();
        used.expected = (count > 0).then_some((count, until));
        let kept: Vec<_> = used.idle.iter().rev().take(count).copied().collect();
        let missing = count.saturating_sub(kept.len());
        for number in kept {
            let Some(place) = self.places.get_mut(&number) else { continue };
            if place.until < until {
                self.timers.remove(&(place.until, number));
                place.until = until;
                self.timers.insert((until, number), Timer::Expire);
            }
        }
        // More than the bound holds would only push each other out.
        let room = self.bound.checked_div(self.each).unwrap_or(u64::MAX);
        for _ in 0..missing.min(usize::try_from(room).unwrap_or(usize::MAX)) {
            self.actions.push(Action::Load(key.clone()));
            self.settle(key, until);
        }
    }

    /// Does what fell due until now.
    pub fn advance(&mut self, now: Duration) {
        while let Some((&(at, number), _)) = self.timers.first_key_value()
            && at <= now
        {
            let Some(timer) = self.timers.remove(&(at, number)) else { return };
            self.now = self.now.max(at);
            match timer {
                Timer::Expire => self.unload(number),
                Timer::Load { key, until } => {
                    self.keys.entry(key.clone()).or_default().loads.remove(&(at, number));
                    self.actions.push(Action::Load(key.clone()));
                    self.settle(&key, until);
                }
            }
        }
        self.now = self.now.max(now);
    }

    /// When [`advance`](Self::advance) has something to do.
    pub fn due(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// What there is to do since the last call.
    pub fn actions(&mut self) -> Vec<Action<K>> {
        std::mem::take(&mut self.actions)
    }

    /// Bytes of idle places now; at most the bound.
    pub fn idle_bytes(&self) -> u64 {
        self.places.len() as u64 * self.each
    }

    /// How many places of `key` are ready.
    pub fn ready(&self, key: &K) -> usize {
        self.keys.get(key).map_or(0, |used| used.idle.len())
    }

    /// Sums up to the latest time seen.
    pub fn usage(&self) -> Usage {
        let open: f64 = self.places.values().map(|place| (self.now - place.since).as_secs_f64()).sum();
        Usage { idle_seconds: self.usage.idle_seconds + open, ..self.usage }
    }

    /// The policy, to be asked.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// The policy with what it learnt, when the places are no longer wanted.
    pub fn into_policy(self) -> P {
        self.policy
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds an idle place, and makes room for it; or unloads it, if there can be none.
    fn settle(&mut self, key: &K, until: Duration) {
        if until <= self.now || self.each > self.bound {
            self.usage.evicted += u64::from(self.each > self.bound);
            self.actions.push(Action::Unload(key.clone()));
            return;
        }
        while self.idle_bytes() + self.each > self.bound
            && let Some((&oldest, _)) = self.places.first_key_value()
        {
            self.usage.evicted += 1;
            self.unload(oldest);
        }
        let number = self.number();
        self.places.insert(number, Place { key: key.clone(), since: self.now, until });
        self.timers.insert((until, number), Timer::Expire);
        self.keys.entry(key.clone()).or_default().idle.insert(number);
    }

    fn unload(&mut self, number: u64) {
        if let Some(key) = self.take(number) {
            self.actions.push(Action::Unload(key));
        }
    }

    /// Removes a place from the idle ones.
    fn take(&mut self, number: u64) -> Option<K> {
        let place = self.places.remove(&number)?;
        self.timers.remove(&(place.until, number));
        self.usage.idle_seconds += (self.now - place.since).as_secs_f64();
        if let Some(used) = self.keys.get_mut(&place.key) {
            used.idle.remove(&number);
        }
        Some(place.key)
    }
}
