//! The places of a service, kept warm as the [keep-alive policy](crate::keepalive) says, on the real clock.
//!
//! A place is for one program of one tenant (a [`Key`]). It counts as used while at least one job runs in it, so the idle
//! times that the policy learns from are those between bursts. Programs that are no part of a toolchain (a test that was just
//! built) share one place per tenant.
//!
//! **Invariant:** idle places are never taken to use more than the bound. **Invariant:** a place with a job in it is not
//! given up.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ggr_ir::protocol::service::PoolStatus;
use ggr_ir::{Attempt, Job};
use tokio::sync::Notify;

use super::place::{Isolation, Place};
use super::tenants::Tenant;
use crate::keepalive::{Action, Hybrid, Mode, Pool, Settings, Usage, Windows};

/// Where programs of toolchains are.
const SYSTEM: [&str; 5] = ["/usr/", "/lib/", "/lib64/", "/bin/", "/opt/"];

/// What all other programs of a tenant are called.
const OTHERS: &str = "*";

/// Programs of one tenant that have places of their own; those beyond share the place of the others. A tenant chooses the
/// names, so there is a bound.
const PROGRAMS: usize = 64;

/// What a place is for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    tenant: Arc<str>,
    program: Arc<str>,
}

struct Held {
    tenant: Arc<Tenant>,
    place: Option<Arc<Place>>,
    running: u32,
    hits: u64,
    misses: u64,
    foreseen: u64,
    /// Its place was made ready because a build had announced a thunk, and none has come yet.
    announced: bool,
    /// Until when that thunk may come.
    expected: Option<Duration>,
}

struct State {
    pool: Pool<Key, Hybrid<Key>>,
    held: HashMap<Key, Held>,
}

/// The places.
pub(super) struct Pools {
    isolation: Isolation,
    slots: usize,
    memory: u64,
    began: Instant,
    state: Mutex<State>,
    /// Told when something falls due earlier than before.
    changed: Notify,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

/// What idle places take.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// One of them, in bytes.
    pub each: u64,
    /// All of them, in bytes.
    pub bound: u64,
}

impl Pools {
    pub(super) fn new(isolation: Isolation, slots: usize, memory: Memory) -> Self {
        let pool = Pool::new(Hybrid::new(Settings::default()), memory.each, memory.bound);
        Self {
            isolation,
            slots,
            memory: memory.bound,
            began: Instant::now(),
            state: Mutex::new(State { pool, held: HashMap::new() }),
            changed: Notify::new(),
        }
    }

    pub(super) fn isolation(&self) -> &'static str {
        self.isolation.name()
    }

    /// No code that holds the lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn key(state: &State, tenant: &Tenant, program: &str) -> Key {
        let named = |program: &str| Key { tenant: Arc::clone(&tenant.name), program: program.into() };
        let key = named(program);
        let of_tenant = || state.held.keys().filter(|key| key.tenant == tenant.name).count();
        let toolchain = SYSTEM.iter().any(|dir| program.starts_with(dir));
        if toolchain && (state.held.contains_key(&key) || of_tenant() < PROGRAMS) {
            key
        } else {
            named(OTHERS)
        }
    }

    /// A place for this job, which counts as used until what is returned is dropped.
    ///
    /// # Errors
    /// Why none can be had.
    pub(super) fn lend(self: &Arc<Self>, tenant: &Arc<Tenant>, job: &Job) -> Result<Lent, String> {
        let mut state = self.lock();
        let key = Self::key(&state, tenant, job.thunk.command.program.as_str());
        let State { pool, held } = &mut *state;
        let place = held.entry(key.clone()).or_insert_with(|| Held::of(tenant));
        if place.running == 0 {
            pool.start(&key, self.now());
            if place.place.is_some() {
                place.hits += 1
            } else {
                place.misses += 1
            }
            place.foreseen += u64::from(std::mem::take(&mut place.announced) && place.place.is_some());
            place.expected = None;
        }
        place.running += 1;
        let opened = match &place.place {
            Some(there) => Ok(Arc::clone(there)),
            None => self.isolation.open(tenant, self.slots).map(Arc::new),
        };
        place.place = opened.as_ref().ok().cloned();
        drop(state);
        // On an error it is dropped, and so given back.
        let mut lent = Lent { pools: Arc::clone(self), key, place: None };
        lent.place = Some(opened?);
        Ok(lent)
    }

    /// A running build says that a thunk of this program is near. If there is no place for it, one is made ready.
    pub(super) fn announce(&self, tenant: &Arc<Tenant>, program: &str, within: Duration) {
        let key = Self::key(&self.lock(), tenant, program);
        let was_there = self.lock().held.get(&key).is_some_and(|held| held.place.is_some());
        self.expect(tenant, program, within);
        if let Some(held) = self.lock().held.get_mut(&key).filter(|held| held.running == 0) {
            held.announced |= !was_there && held.place.is_some();
            held.expected = Some(self.now() + within);
        }
    }

    fn give_back(&self, key: &Key) {
        let mut state = self.lock();
        let State { pool, held } = &mut *state;
        let Some(place) = held.get_mut(key) else { return };
        place.running -= 1;
        if place.running == 0 {
            pool.end(key, self.now());
            self.carry_out(&mut state);
            self.changed.notify_one();
        }
    }

    /// Has a place for this program ready now, and until `within` has passed at least.
    pub(super) fn expect(&self, tenant: &Arc<Tenant>, program: &str, within: Duration) -> Option<Arc<Place>> {
        let mut state = self.lock();
        let key = Self::key(&state, tenant, program);
        let now = self.now();
        state.held.entry(key.clone()).or_insert_with(|| Held::of(tenant));
        state.pool.expect(&key, 1, now + within, now);
        self.carry_out(&mut state);
        self.changed.notify_one();
        state.held.get(&key).and_then(|held| held.place.clone())
    }

    /// Does what falls due, for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.lock();
                state.pool.advance(self.now());
                self.carry_out(&mut state);
                state.pool.due()
            };
            let wait = due.map_or(Duration::from_secs(3600), |due| due.saturating_sub(self.now()));
            // Not less than the timer's own step.
            let wait = wait.max(Duration::from_millis(1));
            let _ = tokio::time::timeout(wait, self.changed.notified()).await;
        }
    }

    /// Makes what the policy wants ready, and gives up what it does not.
    fn carry_out(&self, state: &mut State) {
        let State { pool, held } = state;
        for action in pool.actions() {
            match action {
                Action::Load(key) => {
                    let Some(place) = held.get_mut(&key) else { continue };
                    if place.place.is_some() {
                        continue;
                    }
                    // A place that cannot be opened is found out by its next job.
                    place.place = self.isolation.open(&place.tenant, self.slots).ok().map(Arc::new);
                    if let Some(opened) = place.place.clone() {
                        tokio::spawn(async move {
                            let _ = opened.warm().await;
                            Place::close(opened);
                        });
                    }
                }
                Action::Unload(key) => {
                    let Some(place) = held.get_mut(&key) else { continue };
                    if place.running == 0
                        && pool.ready(&key) == 0
                        && let Some(old) = place.place.take()
                    {
                        place.announced = false;
                        Place::close(old);
                    }
                }
            }
        }
    }

    /// Sums over all keys, and the bytes of idle places with their bound.
    pub(super) fn usage(&self) -> (Usage, u64, u64) {
        let mut state = self.lock();
        state.pool.advance(self.now());
        (state.pool.usage(), state.pool.idle_bytes(), self.memory)
    }

    /// What there is for one tenant, or for all.
    pub(super) fn status(&self, of: Option<&str>) -> Vec<PoolStatus> {
        let state = self.lock();
        let seen = |key: &&Key| of.is_none_or(|tenant| *key.tenant == *tenant);
        let mut keys: Vec<_> = state.held.keys().filter(seen).collect();
        keys.sort_unstable();
        keys.into_iter().map(|key| describe(&state, key, self.now())).collect()
    }

    /// Gives up all places. Jobs in them are lost.
    pub(super) fn clear(&self) {
        let held = std::mem::take(&mut self.lock().held);
        // Each may take seconds, so all at once.
        std::thread::scope(|scope| {
            for place in held.into_values().filter_map(|held| held.place) {
                scope.spawn(move || drop(place));
            }
        });
    }
}

fn describe(state: &State, key: &Key, now: Duration) -> PoolStatus {
    let held = &state.held[key];
    let policy = state.pool.policy();
    let window = policy.window(key);
    let mode = match policy.mode(key) {
        Mode::Fallback => "fallback".to_owned(),
        Mode::Histogram(width) => format!("histogram of {} s bins", width.as_secs_f64()),
        Mode::Forecast(next) => format!("forecast of {} s", next.as_secs()),
    };
    PoolStatus {
        tenant: key.tenant.to_string(),
        program: key.program.to_string(),
        running: held.running,
        warm: held.place.is_some(),
        hits: held.hits,
        misses: held.misses,
        foreseen: held.foreseen,
        expected: held.expected.is_some_and(|until| until > now),
        mode,
        head_s: window.load_after.as_secs_f64(),
        tail_s: window.keep_until.as_secs_f64(),
    }
}

impl Held {
    fn of(tenant: &Arc<Tenant>) -> Self {
        Self {
            tenant: Arc::clone(tenant),
            place: None,
            running: 0,
            hits: 0,
            misses: 0,
            foreseen: 0,
            announced: false,
            expected: None,
        }
    }
}

/// A place that is in use until this is dropped.
pub(super) struct Lent {
    pools: Arc<Pools>,
    key: Key,
    place: Option<Arc<Place>>,
}

impl Lent {
    pub(super) async fn run(&self, job: &Job) -> Attempt {
        match &self.place {
            Some(place) => place.run(job).await,
            None => unreachable!("it is lent with a place, and has it until it is dropped"),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // First the place: it may be given up when the last user is gone.
        self.place = None;
        self.pools.give_back(&self.key);
    }
}
