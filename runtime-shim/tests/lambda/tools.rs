//! Real build tools: the same bytes and modes as on the real tree.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ggr_ir::{Harvest, Limits, ObjectStore};
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

/// Runs each call in the jail over the tree as it was before, and plainly; and compares what changed.
#[test]
fn compilers_binutils_and_the_linker_leave_what_they_leave_on_the_real_tree() {
    let Some(mut function) = Function::start("compilers_binutils_and_the_linker") else { return };
    let project = function.dir.path().join("project");
    std::fs::create_dir(&project).unwrap();
    let main = "#include <stdio.h>\n#include <assert.h>\nint a(void);\n\
                int main(int n, char **v) { assert(n); puts(v[0]); puts(__FILE__); return a() - 1; }\n";
    std::fs::write(project.join("a.c"), "int a(void) { return 1; }\n").unwrap();
    std::fs::write(project.join("main.c"), main).unwrap();
    function.kit.gcc(&project.join("main.c"), &["-O2"]).unwrap();
    for tool in ["ar", "ranlib", "strip", "objcopy", "ld"] {
        function.kit.program(&Path::new("/usr/bin").join(tool)).unwrap();
    }
    function.kit.linker().unwrap();
    let lto1 = Command::new("gcc").arg("-print-prog-name=lto1").output().unwrap().stdout;
    function.kit.program(Path::new(String::from_utf8(lto1).unwrap().trim())).unwrap();
    let tools = function.kit.inputs.clone();
    let absolute = format!("gcc -O2 -g -MD -c {}/main.c -o main2.o", project.display());
    for call in [
        "gcc -g -c a.c",
        "gcc -O2 -g -MD -c main.c",
        &absolute,
        "gcc -g -c nothing.c",
        "ar rcs liba.a a.o",
        "ranlib liba.a",
        "ar r liba.a main.o",
        "ar d liba.a main.o",
        "gcc -g -o main main.o liba.a",
        "gcc -g -save-temps -o main2 main.c a.c",
        "strip -o small main",
        "strip main",
        "strip main",
        "objcopy -S a.o b.o",
        "strip -g a.o",
        "gcc -flto -O2 -o main3 main.c a.c",
        "gcc -shared -fPIC -o liba.so a.c",
    ] {
        let before = tree(&project);
        function.kit.inputs = tools.clone();
        for path in before.keys() {
            function.kit.file(Path::new(path)).unwrap();
        }
        let words: Vec<&str> = call.split(' ').collect();
        let program = format!("/usr/bin/{}", words[0]);
        let args: Vec<&str> = std::iter::once(&*program).chain(words[1..].iter().copied()).collect();
        let thunk = function.kit.thunk(command(&args, project.to_str().unwrap()), &[], Harvest::Everything);
        let attempt = function.run(thunk, Limits::default());
        let plain = Command::new(&program).args(&args[1..]).current_dir(&project).output().unwrap();
        if !plain.status.success() {
            let failure = failed(&attempt);
            assert_eq!(failure.code, plain.status.code(), "{call}");
            assert_eq!(String::from_utf8_lossy(&failure.stderr), String::from_utf8_lossy(&plain.stderr));
            continue;
        }
        let mut after = before.clone();
        for entry in reduced(&attempt).outputs.values() {
            let bytes = function.store().get_bytes(entry.blob).unwrap();
            after.insert(entry.path.to_string(), (bytes, entry.permissions & !0o022));
        }
        let plain = tree(&project);
        let names =
            |tree: &Tree| tree.iter().map(|(name, (_, mode))| format!("{name} {mode:o}")).collect::<Vec<_>>();
        assert_eq!(names(&after), names(&plain), "{call}");
        assert!(after == plain, "{call}: other bytes");
    }
}
