//! The shared store over two servers that nobody here wrote, with what can happen to a bucket.

#[path = "../../../../tests/s3/mod.rs"]
mod s3;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ggr_ir::{BlobId, Lookup, ObjectStore, Reduction, ReductionCache, StoreError, ThunkId};
use s3::proxy::{Fate, Proxy};
use s3::{BUCKET, Server};
use tempfile::TempDir;

use super::*;
use crate::store::contract::{self, reduction};
use crate::store::{FsReductionCache, FsStore, Trouble};

/// A machine: a local store, and the bucket behind it.
struct Machine {
    dir: TempDir,
    local: Arc<FsStore>,
    shared: Arc<SharedStore>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Machine {
    fn new(endpoint: &str, access: Access) -> Self {
        Self::open(endpoint, BUCKET, access).unwrap()
    }

    fn open(endpoint: &str, bucket: &str, access: Access) -> Result<Self, OpenError> {
        let dir = tempfile::tempdir().unwrap();
        let local = Arc::new(FsStore::new(dir.path()));
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let shared = SharedStore::open(SharedOptions {
            address: Address::parse(&format!("s3://{bucket}/some/prefix")).unwrap(),
            endpoint: Some(endpoint.to_owned()),
            access,
            rate: 0,
            memo: dir.path().join("memo"),
            local: Arc::clone(&local),
            notice: Box::new(move |text| heard.lock().unwrap().push(text)),
        })?;
        Ok(Self { dir, local, shared, said })
    }

    fn writer(server: &Server) -> Self {
        Self::new(server.endpoint(), Access::ReadWrite)
    }

    /// Its two levels of results.
    fn tiered(&self) -> TieredCache {
        let local = FsReductionCache::new(self.dir.path(), self.local.clone());
        TieredCache::new(Arc::new(local), Arc::clone(&self.shared)).unwrap()
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

fn finish(cache: &TieredCache) -> Left {
    cache.finish(Duration::from_secs(60), |_| true)
}

/// Bytes that do not compress.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..len).map(|_| step()).collect()
}

/// Records a result for each of these texts by way of the two levels, as a build does.
fn build(machine: &Machine, texts: &[&str]) -> Left {
    let cache = machine.tiered();
    for (number, text) in (1..).zip(texts) {
        let reduction = reduction(&*machine.local, text);
        cache.put(ThunkId::synthetic(number), &reduction).unwrap();
    }
    finish(&cache)
}

/// What another machine finds of the results 1, 2, …
fn found(machine: &Machine, count: u64) -> Vec<Option<Reduction>> {
    let cache = machine.tiered();
    (1..=count).map(|number| cache.get(ThunkId::synthetic(number))).collect()
}

fn check_contract(server: &Server) {
    let machine = Machine::writer(server);
    let files = tempfile::tempdir().unwrap();
    contract::check(&*machine.shared, files.path());
    contract::check_cache(&*machine.shared, &*machine.shared);
    let fresh = Machine::writer(server);
    assert_eq!(fresh.shared.get_bytes(BlobId::of(b"good")).unwrap(), b"good", "another machine sees it");
    let large: Vec<u8> = (0..5_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(fresh.shared.get_bytes(BlobId::of(&large)).unwrap(), large);
}

#[test]
fn it_keeps_the_contract_over_s3s() {
    let Some(server) = s3::s3s("it_keeps_the_contract_over_s3s") else { return };
    check_contract(&server);
}

#[test]
fn two_levels_keep_the_contract_of_caches() {
    let Some(server) = s3::s3s("two_levels_keep_the_contract_of_caches") else { return };
    let machine = Machine::writer(&server);
    contract::check_cache(&machine.tiered(), &*machine.local);
}

#[test]
fn it_keeps_the_contract_over_moto() {
    let Some(server) = s3::moto("it_keeps_the_contract_over_moto") else { return };
    check_contract(&server);
}

#[test]
fn a_large_blob_goes_in_parts_and_comes_back() {
    let Some(server) = s3::s3s("a_large_blob_goes_in_parts_and_comes_back") else { return };
    let proxy = Proxy::new(&server.address(), |_, _| Fate::Pass);
    let bytes = noise(1, 20 << 20);
    let id = BlobId::of(&bytes);
    Machine::new(proxy.endpoint(), Access::ReadWrite).shared.put_bytes(&bytes).unwrap();
    let parts = proxy.seen().iter().filter(|request| request.target.contains("partNumber")).count();
    assert_eq!(parts, 3);
    assert_eq!(Machine::writer(&server).shared.get_bytes(id).unwrap(), bytes);
}

#[test]
fn a_large_file_that_changed_leaves_no_object() {
    let Some(server) = s3::s3s("a_large_file_that_changed_leaves_no_object") else { return };
    let machine = Machine::writer(&server);
    for len in [1 << 20, 18 << 20] {
        let path = machine.dir.path().join("changed");
        fs::write(&path, noise(2, len)).unwrap();
        let claimed = BlobId::of(&noise(5, len));
        let put = ObjectStore::put(&*machine.shared, &[(claimed, path)]);
        assert!(matches!(put[..], [Err(StoreError::Changed { .. })]), "{put:?}");
    }
    assert_eq!(server.objects("/blobs/"), Vec::<std::path::PathBuf>::new());
}

/// A bucket that takes its time to say that it has taken something.
fn slow_to_take(server: &Server) -> Proxy {
    Proxy::new(&server.address(), |request, _| if request.writes() { Fate::Slow(20) } else { Fate::Pass })
}

#[test]
fn a_build_waits_for_its_uploads_no_longer_than_it_was_told() {
    let Some(server) = s3::s3s("a_build_waits_for_its_uploads_no_longer_than_it_was_told") else { return };
    let machine = Machine::new(slow_to_take(&server).endpoint(), Access::ReadWrite);
    let cache = machine.tiered();
    let result = reduction(&*machine.local, "one");
    cache.put(ThunkId::synthetic(1), &result).unwrap();
    let left = cache.finish(Duration::from_millis(50), |_| true);
    assert_eq!(left, Left { overflowed: 0, not_stored: 1 });
    assert_eq!(cache.get(ThunkId::synthetic(1)), Some(result), "it is here");
    let stopped = machine.tiered();
    stopped.put(ThunkId::synthetic(2), &reduction(&*machine.local, "two")).unwrap();
    assert_eq!(stopped.finish(Duration::from_secs(600), |_| false).not_stored, 1, "told to stop");
}

#[test]
fn what_does_not_fit_into_the_queue_is_counted_and_not_waited_for() {
    let Some(server) = s3::s3s("what_does_not_fit_into_the_queue_is_counted_and_not_waited_for") else {
        return;
    };
    let machine = Machine::new(slow_to_take(&server).endpoint(), Access::ReadWrite);
    let uploader = uploader::Uploader::start(Arc::clone(&machine.shared)).unwrap();
    let result = reduction(&*machine.local, "the same for all");
    for number in 0..40_000 {
        uploader.offer(uploader::Order::Reduction(ThunkId::synthetic(number), result.clone()));
        uploader.offer(uploader::Order::Reduction(ThunkId::synthetic(number), result.clone()));
    }
    let left = uploader.finish(Duration::from_millis(50), |_| true);
    assert!(left.overflowed > 0 && left.overflowed < 40_000, "{left:?}");
    assert!(left.overflowed + left.not_stored <= 40_000, "{left:?}");
}

#[test]
fn what_is_here_and_not_in_the_bucket_is_uploaded_when_it_is_used() {
    let Some(server) = s3::s3s("what_is_here_and_not_in_the_bucket_is_uploaded_when_it_is_used") else {
        return;
    };
    let machine = Machine::writer(&server);
    let local = FsReductionCache::new(machine.dir.path(), machine.local.clone());
    local.put(ThunkId::synthetic(1), &reduction(&*machine.local, "old")).unwrap();
    let cache = machine.tiered();
    assert!(matches!(cache.look(ThunkId::synthetic(1)), Lookup::Hit(_)));
    assert_eq!(finish(&cache), Left::default());
    assert!(found(&Machine::writer(&server), 1)[0].is_some());
}

#[test]
fn many_small_blobs_take_few_requests_each_way() {
    let Some(server) = s3::s3s("many_small_blobs_take_few_requests_each_way") else { return };
    let texts: Vec<String> = (0..500).map(|n| format!("{n} {:?}", noise(n + 1, 300))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let writer = Machine::writer(&server);
    assert_eq!(build(&writer, &texts), Left::default());
    let counts = writer.shared.counts();
    assert!(counts.stored == 500 && counts.requests < 10, "{counts:?}");
    let reader = Machine::writer(&server);
    assert!(found(&reader, 500).iter().all(Option::is_some));
    let counts = reader.shared.counts();
    assert!(counts.hits == 500 && counts.requests < 10 && counts.up == 0, "{counts:?}");
    // What was read before is read from this machine's own disk.
    let again = found(&reader, 500);
    assert!(again.iter().all(Option::is_some));
    assert_eq!(reader.shared.counts(), counts);
}

#[test]
fn a_result_is_never_in_the_bucket_before_its_outputs() {
    let Some(server) = s3::s3s("a_result_is_never_in_the_bucket_before_its_outputs") else { return };
    let writer = Machine::writer(&server);
    let reduction = reduction(&*writer.local, "output");
    let early = ReductionCache::put(&*writer.shared, ThunkId::synthetic(1), &reduction);
    assert!(matches!(early, Err(StoreError::Missing(_))), "{early:?}");
    // Packs are refused, the index is not.
    let proxy = Proxy::new(&server.address(), |request, _| match request.target.contains("/packs/") {
        true => Fate::Refuse(403, "AccessDenied"),
        false => Fate::Pass,
    });
    let refused = Machine::new(proxy.endpoint(), Access::ReadWrite);
    assert_eq!(build(&refused, &["output"]).not_stored, 1);
    assert!(refused.said().contains("do not allow `s3:PutObject`"), "{}", refused.said());
    assert!(!proxy.seen().iter().any(|request| request.writes() && request.target.contains("/index/")));
    assert_eq!(found(&Machine::writer(&server), 1), [None]);
}

#[test]
fn a_reader_writes_nothing_and_is_served() {
    let Some(server) = s3::s3s("a_reader_writes_nothing_and_is_served") else { return };
    build(&Machine::writer(&server), &["one", "two"]);
    let proxy = Proxy::new(&server.address(), |_, _| Fate::Pass);
    let reader = Machine::new(proxy.endpoint(), Access::ReadOnly);
    assert!(found(&reader, 2).iter().all(Option::is_some));
    assert_eq!(build(&reader, &["one", "other"]), Left::default());
    assert!(reader.shared.put_bytes(b"x").is_err());
    assert!(!proxy.seen().is_empty() && !proxy.seen().iter().any(|request| request.writes()));
}

/// Spoils every object whose key holds `kind`, and looks at what two machines make of it: the first loses a result and
/// stores it again, the second finds it.
fn check_heals(test: &str, kind: &str, spoil: fn(&std::path::Path)) {
    let Some(server) = s3::s3s(test) else { return };
    let large = "x".repeat(600 << 10);
    let texts: &[&str] = if kind == "/blobs/" { &[&large] } else { &["small"] };
    build(&Machine::writer(&server), texts);
    let objects = server.objects(kind);
    assert_eq!(objects.len(), 1, "{objects:?}");
    spoil(&objects[0]);
    let finder = Machine::writer(&server);
    let cache = finder.tiered();
    let id = ThunkId::synthetic(1);
    assert_eq!(cache.look(id), Lookup::Far, "it looks as if it were there");
    assert_eq!(cache.get(id), None);
    assert_eq!(cache.look(id), Lookup::Miss, "it is not tried again");
    assert_eq!(finder.said(), "");
    // The thunk runs.
    cache.put(id, &reduction(&*finder.local, texts[0])).unwrap();
    assert_eq!(finish(&cache), Left::default());
    assert!(found(&Machine::writer(&server), 1)[0].is_some());
}

#[test]
fn a_pack_that_has_gone_is_stored_again() {
    check_heals("a_pack_that_has_gone_is_stored_again", "/packs/", |path| fs::remove_file(path).unwrap());
}

#[test]
fn a_pack_that_is_damaged_is_stored_again() {
    check_heals("a_pack_that_is_damaged_is_stored_again", "/packs/", flip);
}

#[test]
fn a_large_blob_that_has_gone_is_stored_again() {
    check_heals("a_large_blob_that_has_gone_is_stored_again", "/blobs/", |path| {
        fs::remove_file(path).unwrap()
    });
}

#[test]
fn a_large_blob_that_is_damaged_is_stored_again() {
    check_heals("a_large_blob_that_is_damaged_is_stored_again", "/blobs/", flip);
}

fn flip(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_index_is_an_empty_one() {
    let Some(server) = s3::s3s("a_damaged_index_is_an_empty_one") else { return };
    build(&Machine::writer(&server), &["one"]);
    flip(&server.objects("/index/")[0]);
    assert_eq!(found(&Machine::writer(&server), 1), [None]);
    build(&Machine::writer(&server), &["one"]);
    assert!(found(&Machine::writer(&server), 1)[0].is_some());
}

#[test]
fn many_segments_become_one_that_says_the_same() {
    let Some(server) = s3::s3s("many_segments_become_one_that_says_the_same") else { return };
    let writer = Machine::writer(&server);
    let texts: Vec<String> = (0..70).map(|n| format!("text {n}")).collect();
    for (number, text) in (1..).zip(&texts) {
        let reduction = reduction(&*writer.shared, text);
        ReductionCache::put(&*writer.shared, ThunkId::synthetic(number), &reduction).unwrap();
    }
    let before = server.objects("/index/").len();
    assert!(before >= 70, "{before}");
    let tidier = Machine::writer(&server);
    tidier.shared.tidy().unwrap();
    assert_eq!(server.objects("/index/").len(), 1);
    assert!(found(&Machine::writer(&server), 70).iter().all(Option::is_some));
}

#[test]
fn answers_that_are_cut_off_are_asked_for_again() {
    let Some(server) = s3::s3s("answers_that_are_cut_off_are_asked_for_again") else { return };
    let text = "y".repeat(1000);
    build(&Machine::writer(&server), &[&text]);
    let proxy = Proxy::new(&server.address(), |_, before| if before < 2 { Fate::Cut } else { Fate::Pass });
    let reader = Machine::new(proxy.endpoint(), Access::ReadOnly);
    assert!(found(&reader, 1)[0].is_some(), "{}", reader.said());
}

#[test]
fn a_bucket_that_stays_busy_is_given_up_once_and_nothing_is_lost() {
    let Some(server) = s3::s3s("a_bucket_that_stays_busy_is_given_up_once_and_nothing_is_lost") else {
        return;
    };
    build(&Machine::writer(&server), &["one", "two", "three", "four", "five"]);
    let proxy = Proxy::new(&server.address(), |request, _| match request.target.contains("/packs/") {
        true => Fate::Refuse(503, "SlowDown"),
        false => Fate::Pass,
    });
    let machine = Machine::new(proxy.endpoint(), Access::ReadWrite);
    let cache = machine.tiered();
    assert!((1..=5).all(|number| cache.get(ThunkId::synthetic(number)).is_none()));
    assert_eq!(machine.said().matches("the service is busy").count(), 1, "{}", machine.said());
    let asked = proxy.seen().len();
    assert_eq!(cache.get(ThunkId::synthetic(1)), None);
    assert_eq!(proxy.seen().len(), asked, "a bucket that was given up is not asked");
    let again = reduction(&*machine.local, "one");
    cache.put(ThunkId::synthetic(1), &again).unwrap();
    assert_eq!(cache.get(ThunkId::synthetic(1)), Some(again), "the local cache goes on");
    finish(&cache);
}

#[test]
fn what_a_bucket_refuses_at_the_start_is_told_with_what_to_do() {
    let Some(server) = s3::s3s("what_a_bucket_refuses_at_the_start_is_told_with_what_to_do") else { return };
    let check = |status, code, trouble: Trouble, hint: &str| {
        let proxy = Proxy::new(&server.address(), move |_, _| Fate::Refuse(status, code));
        match Machine::open(proxy.endpoint(), BUCKET, Access::ReadWrite).map(drop) {
            Err(OpenError::Bucket(error)) => {
                assert_eq!(error.trouble, trouble, "{error}");
                assert!(error.hint().contains(hint), "{}", error.hint());
                assert!(error.to_string().contains(proxy.endpoint()), "{error}");
            }
            other => panic!("{code}: {other:?}"),
        }
    };
    check(403, "AccessDenied", Trouble::Denied, "allow `s3:ListBucket` on `team`");
    check(400, "ExpiredToken", Trouble::Expired, "get new credentials");
    check(403, "InvalidAccessKeyId", Trouble::BadCredentials, "check the access key");
    check(301, "PermanentRedirect", Trouble::WrongRegion(Some("eu-north-1".into())), "AWS_REGION=eu-north-1");
    match Machine::open(server.endpoint(), "nobody", Access::ReadOnly).map(drop) {
        Err(OpenError::Bucket(error)) => assert_eq!(error.trouble, Trouble::NoBucket, "{error}"),
        other => panic!("{other:?}"),
    }
}
