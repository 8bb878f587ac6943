//! What the table and the reader make of command lines.

use super::*;

fn read(line: &str) -> Result<Call, Reason> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&args, Personality::C, Dialect::Gcc)
}

#[test]
fn modes_rank_as_in_the_driver() {
    let check = |line: &str, mode| assert_eq!(read(line).unwrap().mode, mode, "{line}");
    check("a.c", Mode::Link);
    check("-c a.c", Mode::Assemble);
    check("-c -S a.c", Mode::Compile);
    check("-S -c -E a.c", Mode::Preprocess);
    check("-c -fsyntax-only a.c", Mode::Check);
    check("-MM -c a.c", Mode::Dependencies);
}

#[test]
fn the_preprocessors_second_file_is_its_output() {
    let read = |line: &str| {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args, Personality::Cpp, Dialect::Gcc).map(|call| (call.sources.len(), call.output))
    };
    assert_eq!(read("a.c"), Ok((1, None)));
    assert_eq!(read("-P a.c out.txt"), Ok((1, Some("out.txt".into()))));
    for line in ["a.c b.c c.c", "-o x a.c b.c", "a.c b.c -o x"] {
        assert!(read(line).is_err(), "{line}");
    }
}

#[test]
fn languages_follow_their_flag() {
    let call = read("-c -x c++ a.c -x none b.c -xassembler c.x").unwrap();
    let languages: Vec<Language> = call.sources.iter().map(|source| source.language).collect();
    assert_eq!(languages, [Language::Cxx, Language::C, Language::Assembler]);
}

#[test]
fn depfile_flags_are_gathered() {
    let depfile = |line: &str| read(line).unwrap().depfile;
    assert_eq!(depfile("-c a.c -MF x.d"), None);
    let found = depfile("-c a.c -MD -MP -MT t -MQ q -MFx.d -o a.o").unwrap();
    assert_eq!(found.name.as_deref(), Some("x.d"));
    assert_eq!(found.targets, [Target::Verbatim("t".into()), Target::Quoted("q".into())]);
    assert!(found.phony && !found.user_only && !found.behind);
    let kernel = depfile("-c a.c -Wp,-MMD,.a.o.d -o a.o").unwrap();
    assert!(kernel.behind && kernel.user_only);
    assert_eq!(kernel.name.as_deref(), Some(".a.o.d"));
}

#[test]
fn what_must_run_here_says_why() {
    let check = |line: &str, reason: Reason| assert_eq!(read(line).unwrap_err(), reason, "{line}");
    check("-c -", Reason::ReadsStdin);
    check("-fbogus -c a.c", Reason::UnknownFlag("-fbogus".into()));
    check("--version", Reason::Query);
    check("-### -c a.c", Reason::Query);
    check("-v -c a.c", Reason::LocalFlag("-v".into()));
    check("-specs=x a.c", Reason::LocalFlag("-specs=x".into()));
    check("-fplugin=x -c a.c", Reason::LocalFlag("-fplugin=x".into()));
    check("-Wa,-adhln=x.lst -c a.c", Reason::LocalFlag("-Wa,-adhln=x.lst".into()));
    check("-c", Reason::Other("there is no input file".into()));
    check("a.c -o", Reason::Other("`-o` lacks its argument".into()));
}

#[test]
fn what_concerns_the_linker_keeps_its_order() {
    let call = read("-pthread a.o -L/x -lm -Wl,-z,now -Xlinker -s b.o -static -o p").unwrap();
    let linker = |text: &str| LinkArg::Linker(text.into());
    assert_eq!(
        call.link_items,
        [
            LinkArg::File("a.o".into()),
            LinkArg::LibraryDir("/x".into()),
            LinkArg::Library("m".into()),
            linker("-z"),
            linker("now"),
            linker("-s"),
            LinkArg::File("b.o".into()),
        ]
    );
    assert_eq!(call.flags, ["-pthread", "-static"]);
    assert_eq!(call.output.as_deref(), Some("p"));
}
