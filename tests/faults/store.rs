//! Blobs that are damaged, cut short or gone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{SOURCES, check_next, expected, run, sources};
use crate::twin::{Field, Twin, differences, snapshot};

/// Every blob file of the repository in the tree.
fn blobs(field: &Field) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(field.tree().join(".ggr/blobs")).into_iter().flatten();
    files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// Builds, spoils every blob, builds a fresh tree with the same repository.
fn check_spoilt(spoil: impl Fn(&Path)) {
    let field = Field::new();
    let expected = expected(&field);
    assert!(run(&mut field.ggr("make -j2")).status.success());
    let found = blobs(&field);
    assert!(!found.is_empty(), "the build left no blobs");
    for path in &found {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        spoil(path);
    }
    for entry in fs::read_dir(field.tree()).expect("it is ours").flatten() {
        if entry.file_name() != ".ggr" {
            fs::remove_file(entry.path()).expect("only files lie here");
        }
    }
    field.lay(&sources());
    check_next(&field, &expected, &mut field.ggr("make -j2"));
}

#[test]
fn corrupted_blobs_are_found_and_healed() {
    check_spoilt(|path| {
        let mut bytes = fs::read(path).expect("it is ours");
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 0x20;
        }
        fs::write(path, bytes).expect("it is ours");
    });
}

#[test]
fn truncated_blobs_are_found_and_healed() {
    check_spoilt(|path| fs::write(path, "").expect("it is ours"));
}

#[test]
fn lost_blobs_are_made_again() {
    check_spoilt(|path| fs::remove_file(path).expect("it is ours"));
}

/// A program whose second compile comes when everything that is known of its inputs has been spoilt by the recipe before.
const SPOILING: &str = "\
prog: a.o b.o
\tgcc a.o b.o -o prog
a.o: a.c h.h
\tgcc -c a.c
\tcat a.o > /dev/null
\trm -rf .ggr/blobs
b.o: b.c h.h a.o
\tgcc -c b.c
";

#[test]
fn inputs_that_are_lost_during_the_build_are_read_again() {
    let outcome = Twin::new()
        .file("h.h", "int a(void);\n")
        .file("a.c", "#include \"h.h\"\nint a(void) { return 1; }\n")
        .file("b.c", "#include \"h.h\"\nint main(void) { return a() - 1; }\n")
        .file("Makefile", SPOILING)
        .build("make")
        .same();
    let said = String::from_utf8_lossy(&outcome.steps[0].stderr).into_owned();
    assert!(said.contains("blobs were damaged or gone; they were read again"), "{said}");
    assert!(!said.contains("in the sandbox"), "{said}");
}

#[test]
fn inputs_that_were_changed_in_the_store_are_not_believed() {
    let field = Field::new();
    field.lay(&sources());
    assert!(run(field.command("make").args(["-j2", "CFLAGS=-O1"])).status.success());
    let expected = snapshot(&field.tree());
    field.clear();
    field.lay(&sources());
    assert!(run(&mut field.ggr("make -j2")).status.success());
    for path in blobs(&field) {
        let mut bytes = fs::read(&path).expect("it is ours");
        // The first letter of each source, so that a compile with it would pass or fail differently.
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 0x01;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        fs::write(&path, bytes).expect("it is ours");
    }
    for n in 0..SOURCES {
        fs::remove_file(field.tree().join(format!("s{n}.o"))).expect("it was built");
    }
    let output = run(&mut field.ggr("make -j2 CFLAGS=-O1"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(differences(&expected, &snapshot(&field.tree())), Vec::<String>::new());
    assert!(!said.contains("ran here"), "{said}");
}

#[test]
fn blobs_that_a_crash_of_the_machine_took_are_removed() {
    let field = Field::new();
    field.lay(&sources());
    assert!(run(&mut field.ggr("make -j2")).status.success());
    let spoilt = blobs(&field).into_iter().max_by_key(|path| path.metadata().map_or(0, |meta| meta.len()));
    let spoilt = spoilt.expect("the build left blobs");
    let meta = fs::metadata(&spoilt).expect("it is ours");
    fs::set_permissions(&spoilt, fs::Permissions::from_mode(0o644)).expect("it is ours");
    // Its size and time are there again, its bytes are not.
    fs::write(&spoilt, vec![0; meta.len() as usize]).expect("it is ours");
    fs::File::options()
        .write(true)
        .open(&spoilt)
        .and_then(|file| file.set_modified(meta.modified()?))
        .expect("it is ours");
    let run_make = || String::from_utf8_lossy(&run(&mut field.ggr("make")).stderr).into_owned();
    assert!(!run_make().contains("crash"), "the machine is the same");
    fs::write(field.tree().join(".ggr/run/boot"), "another boot").expect("it is ours");
    assert!(run_make().contains("1 blobs did not survive the last crash of this machine"));
    assert!(!spoilt.exists());
    assert!(!run_make().contains("crash"), "it is looked at once");
}
