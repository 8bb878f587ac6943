//! Real build tools: the same bytes and modes as on the real tree.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ggr_ir::{Harvest, Kind, Limits, ObjectStore};
use ggr_shim::bench::command;

use crate::harness::*;

/// Names, bytes and modes (under umask 022) of the files of a directory.
type Tree = BTreeMap<String, (Vec<u8>, u32)>;

fn tree(dir: &Path) -> Tree {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.path().to_str().unwrap().to_owned(), (std::fs::read(entry.path()).unwrap(), mode & !0o022))
        })
        .collect()
}

/// Runs each call in the sandbox over the tree as it was before, and plainly; and compares what changed.
#[test]
fn binutils_and_the_linker_leave_what_they_leave_on_the_real_tree() {
    let mut place = Place::new();
    let project = place.dir.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("a.c"), "int a(void) { return 1; }\n").unwrap();
    std::fs::write(project.join("main.c"), "int a(void); int main(void) { return a() - 1; }\n").unwrap();
    place.kit.gcc(&project.join("a.c"), &[]).unwrap();
    for tool in ["ar", "ranlib", "strip", "objcopy", "ld"] {
        place.kit.program(&Path::new("/usr/bin").join(tool)).unwrap();
    }
    place.kit.linker().unwrap();
    let tools = place.kit.inputs.clone();
    for call in [
        "gcc -g -c a.c",
        "gcc -g -c main.c",
        "ar rcs liba.a a.o",
        "ranlib liba.a",
        "ar r liba.a main.o",
        "ar d liba.a main.o",
        "gcc -o main main.o liba.a",
        "strip -o small main",
        "strip main",
        "strip main",
        "objcopy -S a.o b.o",
        "strip -g a.o",
        "gcc -shared -fPIC -o liba.so a.c",
    ] {
        let before = tree(&project);
        place.kit.inputs = tools.clone();
        for path in before.keys() {
            place.kit.file(Path::new(path)).unwrap();
        }
        let words: Vec<&str> = call.split(' ').collect();
        let program = format!("/usr/bin/{}", words[0]);
        let args: Vec<&str> = std::iter::once(&*program).chain(words[1..].iter().copied()).collect();
        let thunk = place.kit.thunk(command(&args, project.to_str().unwrap()), &[], Harvest::Everything);
        place.last += 1;
        place.client.run(place.last, thunk, Kind::Link, Limits::default()).unwrap();
        let attempt = place.client.answer().unwrap().1;
        let mut after = before.clone();
        for entry in reduced(&attempt).outputs.values() {
            let bytes = place.store().get_bytes(entry.blob).unwrap();
            after.insert(entry.path.to_string(), (bytes, entry.permissions & !0o022));
        }
        assert!(Command::new(&program).args(&args[1..]).current_dir(&project).status().unwrap().success());
        let plain = tree(&project);
        let names =
            |tree: &Tree| tree.iter().map(|(name, (_, mode))| format!("{name} {mode:o}")).collect::<Vec<_>>();
        assert_eq!(names(&after), names(&plain), "{call}");
        assert!(after == plain, "{call}: other bytes");
    }
}
