//! What the store costs, measured in processor time of its thread. The printed numbers are the ones to read
//! (`--nocapture`); the bounds allow for a busy machine, an unoptimised build, and the file system of the next paragraph.
//!
//! On ext4 without a journal a new inode costs 16 µs in a quiet directory and up to 800 µs where thousands of files were
//! deleted within the last minutes (`recently_deleted` in `fs/ext4/ialloc.c` walks over every one of them, each time). So
//! the store makes one inode per blob or reduction, and deletes none in its usual work.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ggr_ir::{BlobId, ObjectStore, OutputEntry, Reduction, ReductionCache, RootPath, ThunkId};
use rustix::time::{ClockId, clock_gettime};
use tempfile::tempdir;

use super::{FsReductionCache, FsStore};
use crate::memo::StatMemo;

/// As many as a warm build of Git looks up.
const UNITS: u32 = 600;

/// Runs a step for each unit, prints the mean, and holds it to a bound.
fn each<T>(what: &str, bound: Duration, mut step: impl FnMut(u32) -> T) {
    let start = processor_time();
    for unit in 0..UNITS {
        step(unit);
    }
    let mean = (processor_time() - start) / UNITS;
    println!("{what}: {mean:?}");
    assert!(mean < bound, "{what}: {mean:?}");
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_unit_s_steps_cost_microseconds() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("repo");
    let store = Arc::new(FsStore::new(&root));
    let cache = FsReductionCache::new(&root, store.clone());
    let none = store.put_bytes(b"").unwrap();
    let object = |unit: u32| unit.to_le_bytes().repeat(10_000);
    let reduction = |unit: u32| {
        let path = RootPath::new(&format!("/home/user/git/builtin/file-{unit}.o")).unwrap();
        let output = OutputEntry { path: path.clone(), blob: BlobId::of(&object(unit)), permissions: 0o666 };
        Reduction {
            outputs: [(path.as_str().into(), output)].into(),
            stdout: none,
            stderr: none,
            duration_us: unit.into(),
        }
    };
    let unit_id = |unit: u32| ThunkId::synthetic(unit.into());
    let ms = Duration::from_millis;
    each("put an object of 40 kB", ms(20), |unit| store.put_bytes(&object(unit)).unwrap());
    each("put it again", ms(2), |unit| store.put_bytes(&object(unit)).unwrap());
    each("put a reduction", ms(20), |unit| cache.put(unit_id(unit), &reduction(unit)).unwrap());

    let store = Arc::new(FsStore::new(&root));
    let cache = FsReductionCache::new(&root, store.clone());
    each("look up a reduction, first", ms(1), |unit| assert!(cache.get(unit_id(unit)).is_some()));
    each("look up a reduction, again", ms(1), |unit| assert!(cache.get(unit_id(unit)).is_some()));
    each("miss a reduction", ms(1), |unit| assert!(cache.get(unit_id(unit + UNITS)).is_none()));

    let source = |unit: u32| dir.path().join(format!("{unit}.c"));
    each("(write a source of 40 kB)", ms(20), |unit| fs::write(source(unit), object(unit + UNITS)).unwrap());
    let memo = StatMemo::new(dir.path().join("memo"));
    each("take in a source", ms(20), |unit| store.ingest(&source(unit)).unwrap());
    std::thread::sleep(2 * crate::memo::TICK);
    each("hash a known source", ms(2), |unit| memo.blob(&store, &source(unit)).unwrap());
    each("look up a remembered source", ms(1), |unit| memo.blob(&store, &source(unit)).unwrap());
    let to = fs::File::create(dir.path().join("a.o")).unwrap();
    each("materialize an object", ms(20), |unit| store.materialize(BlobId::of(&object(unit)), &to).unwrap());
    let ids: Vec<BlobId> = (0..300).map(|unit| BlobId::of(&object(unit))).collect();
    each("presence of 300 known blobs", ms(1), |_| assert!(store.missing(&ids).unwrap().is_empty()));
}
