//! What the table and the reader make of command lines.

use super::*;

fn check(line: &str, expected: &[LdArg]) {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    assert_eq!(parse(&args).as_deref(), Ok(expected), "{line}");
}

fn file(name: &str) -> LdArg {
    LdArg::File(name.to_owned())
}

fn with(effect: Effect, value: &str) -> LdArg {
    LdArg::Option(effect, value.to_owned())
}

#[test]
fn the_table_is_sorted_and_has_no_name_twice() {
    assert!(OPTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn options_are_read_however_they_are_spelt() {
    check("a.o -o out -lm", &[file("a.o"), with(Output, "out"), with(Library, "m")]);
    check("-omagic --output=b -l :x.a", &[with(Output, "magic"), with(Output, "b"), with(Library, ":x.a")]);
    check("-rpath /a -rpath=/b --rpath /c", &["/a", "/b", "/c"].map(|dir| with(RunPath, dir)));
    check("-Map=x.map --Map y.map -Map z", &["x.map", "y.map", "z"].map(|map| with(Map, map)));
    check("-soname x -hy -z now -znow --build-id=sha1 --build-id", &[with(Soname, "x"), with(Soname, "y")]);
    check(
        "--version-script=v.map -T x.ld -Tx.ld -Ttext 0",
        &[with(Reads, "v.map"), with(Script, "x.ld"), with(Script, "x.ld")],
    );
    check(
        "-Bstatic -la -Bdynamic -static",
        &[with(Static, ""), with(Library, "a"), with(Dynamic, ""), with(Static, "")],
    );
    check("-( a.a -) --start-group b.a --end-group", &[file("a.a"), file("b.a")]);
    check(
        "-L. -L /x -L=/y --sysroot=/s",
        &[with(LibraryDir, "."), with(LibraryDir, "/x"), with(LibraryDir, "=/y"), with(Sysroot, "/s")],
    );
}

#[test]
fn what_is_not_known_is_not_guessed_at() {
    let parse_one = |arg: &str| parse(&[arg.to_owned()]);
    assert_eq!(parse_one("--no-such"), Err(Reason::UnknownFlag("--no-such".to_owned())));
    assert_eq!(parse_one("-Kx"), Err(Reason::UnknownFlag("-Kx".to_owned())));
    assert_eq!(parse_one("--as-needed=1"), Err(Reason::UnknownFlag("--as-needed=1".to_owned())));
    assert_eq!(parse_one("-o"), Err(Reason::UnknownFlag("-o".to_owned())));
    assert_eq!(parse_one("--stats"), Err(Reason::LocalFlag("--stats".to_owned())));
    assert_eq!(parse_one("--help"), Err(Reason::Query));
}
