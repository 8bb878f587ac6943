//! Thunks for this crate's tests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::hash::{BlobId, Hash, ThunkId};
use crate::job::Network;
use crate::path::RootPath;
use crate::thunk::{Command, Entry, Harvest, Mode, Object, OutputRef, Thunk};

/// A checked path.
pub(crate) fn path(text: &str) -> RootPath {
    RootPath::new(text).expect("tests write normal paths")
}

/// A thunk with every kind of input.
pub(crate) fn sample() -> Thunk {
    let blob = |text: &str| Object::Blob(BlobId::of(text.as_bytes()));
    let output = OutputRef { thunk: ThunkId::synthetic(1), name: "/w/a b.h".into() };
    let inputs = [
        ("/usr/bin/gcc", blob("gcc"), Mode::Executable),
        ("/lib", blob("usr/lib"), Mode::Symlink),
        ("/tmp", blob(""), Mode::Directory),
        ("/w/a.c", blob("int main;"), Mode::Regular),
        ("/w/a b.h", Object::Output(output), Mode::Regular),
    ];
    Thunk {
        command: Command {
            program: path("/usr/bin/gcc"),
            args: ["gcc", "-c", "a.c", "-o", "a.o", "-DX=\"\u{e4}\n\""].map(str::to_owned).to_vec(),
            env: [("LANG".into(), "C".into()), ("EMPTY".into(), String::new())].into(),
            dir: path("/w"),
        },
        inputs: inputs.into_iter().map(|(at, object, mode)| (path(at), Entry { object, mode })).collect(),
        outputs: [("/w/a.o".into(), path("/w/a.o")), ("depfile".into(), path("/w/a.d"))].into(),
        harvest: Harvest::Declared,
        network: Network::None,
    }
}

fn paths() -> impl Strategy<Value = RootPath> {
    "(/[a-c=#% .é]{1,3}){1,3}".prop_filter_map("not normal", |text| RootPath::new(&text).ok())
}

fn objects() -> impl Strategy<Value = Object> {
    let blobs = any::<(u64, u64)>()
        .prop_map(|(seed, size)| Object::Blob(BlobId::new(Hash::of(&seed.to_le_bytes()), size)));
    let outputs = (any::<u64>(), "[a=/#%\"]{0,6}").prop_map(|(seed, name)| {
        Object::Output(OutputRef { thunk: ThunkId::synthetic(seed), name: name.as_str().into() })
    });
    prop_oneof![blobs, outputs]
}

fn modes() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Regular, Mode::Executable, Mode::Symlink, Mode::Directory])
}

/// Any thunk, also ones that make no sense.
pub(crate) fn thunks() -> impl Strategy<Value = Thunk> {
    let command = (paths(), prop::collection::vec(".{0,8}", 0..4), environments(), paths())
        .prop_map(|(program, args, env, dir)| Command { program, args, env, dir });
    let entries = (objects(), modes()).prop_map(|(object, mode)| Entry { object, mode });
    let inputs = prop::collection::btree_map(paths(), entries, 0..6);
    let outputs =
        prop::collection::btree_map("[a=/ ]{0,4}".prop_map(|name| name.as_str().into()), paths(), 0..4);
    let harvest = prop::sample::select(vec![Harvest::Declared, Harvest::Everything]);
    let network = prop::sample::select(vec![Network::None, Network::Tenant, Network::Own]);
    let parts = (command, inputs, outputs, harvest, network);
    parts.prop_map(|(command, inputs, outputs, harvest, network)| Thunk {
        command,
        inputs,
        outputs,
        harvest,
        network,
    })
}

fn environments() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[A-C]{1,2}", "[a-z= \\n]{0,4}", 0..3)
}
