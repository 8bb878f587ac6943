//! The encoding is pinned: each thunk of `tests/vectors/thunks/` has the id and the bytes that stand beside it.
//!
//! A change of any of them means that every cache of every user is void: raise `encode::VERSION` and write new vectors with
//! `GGR_WRITE_VECTORS=1 cargo test -p ggr-ir --test vectors`.

use std::fs;
use std::path::{Path, PathBuf};

use ggr_ir::{Hash, Thunk};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/thunks")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file beside a vector: the id, then the encoding in hexadecimal digits.
fn expected(thunk: &Thunk) -> String {
    format!("{}\n{}\n", thunk.id(), hex(&thunk.encode()))
}

#[test]
fn every_vector_has_its_id_and_bytes() {
    let mut count = 0;
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let thunk = Thunk::from_json(&text).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
        let pinned = path.with_extension("encoded");
        if std::env::var_os("GGR_WRITE_VECTORS").is_some() {
            fs::write(&pinned, expected(&thunk)).unwrap();
        }
        assert_eq!(fs::read_to_string(&pinned).unwrap(), expected(&thunk), "{}", path.display());
        assert_eq!(Thunk::decode(&thunk.encode()), Ok(thunk.clone()));
        assert_eq!(thunk.id().hash(), Hash::of(&thunk.encode()));
        count += 1;
    }
    assert_eq!(count, 8, "a vector was added or lost");
}

#[test]
fn every_field_of_a_thunk_decides_its_id() {
    let mut ids: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "encoded"))
        .map(|path| fs::read_to_string(path).unwrap().lines().next().unwrap().to_owned())
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "two vectors that differ have one id");
}
