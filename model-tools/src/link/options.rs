//! The linker's own options, as one sorted table, and the reader of a command line.
//!
//! Covers GNU ld 2.40 (`ld --help` and `ld/lexsup.c`, ELF emulations), and what gold and lld add and builds use.

use crate::getopt::{self, Row, Style, Value, Word};
use crate::model::Reason;

/// What an option means for the files that a link reads and writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// No file is concerned.
    Plain,
    /// The value is a file that is read.
    Reads,
    /// The value is a linker script.
    Script,
    /// The value is a file with symbols, or a directory (then as [`Effect::RunPath`]).
    JustSymbols,
    /// The value is a library to search for.
    Library,
    /// The value is a directory to search for libraries.
    LibraryDir,
    /// The value is a list of directories that replaces the built-in ones.
    DefaultDirs,
    /// The value is the output.
    Output,
    /// The value is a further output: a file.
    Writes,
    /// The value is a map file; `-` is the standard output, and a directory or `%` makes up a name.
    Map,
    /// The value is a list of directories in which a shared library's own libraries are looked for.
    RunPath,
    /// As `RunPath`, looked at before it.
    RunPathLink,
    /// The value is the root of the target's system.
    Sysroot,
    /// The value names the emulation.
    Emulation,
    /// The value is a plugin.
    Plugin,
    /// Shared libraries are taken from here on.
    Dynamic,
    /// Only archives are taken from here on.
    Static,
    /// Remembers whether shared libraries are taken.
    Push,
    /// Takes back what [`Effect::Push`] remembered.
    Pop,
    /// No built-in directory is searched.
    NoDefaultDirs,
    /// The value is the name that a shared library is given.
    Soname,
    /// The output is a shared library.
    Shared,
    /// Shared libraries' own libraries are read even for a shared library's link.
    WithNeeded,
    /// The output is an object.
    Relocatable,
    /// It asks for information only.
    Query,
    /// Its effects are more than a thunk can hold.
    Local,
}

use Effect::*;
use Value::{Maybe, No, Yes};

/// The options by name without dashes, sorted; a name of one letter may have its value attached.
const OPTIONS: &[Row<Effect>] = &[
    ("(", No, Plain),
    (")", No, Plain),
    ("A", Yes, Plain),
    ("Bdynamic", No, Dynamic),
    ("Bgroup", No, Plain),
    ("Bno-symbolic", No, Plain),
    ("Bshareable", No, Shared),
    ("Bstatic", No, Static),
    ("Bsymbolic", No, Plain),
    ("Bsymbolic-functions", No, Plain),
    ("Bsymbolic-non-weak", No, Plain),
    ("Bsymbolic-non-weak-functions", No, Plain),
    ("E", No, Plain),
    ("EB", No, Plain),
    ("EL", No, Plain),
    ("F", Yes, Plain),
    ("G", Yes, Plain),
    ("I", Yes, Plain),
    ("L", Yes, LibraryDir),
    ("M", No, Plain),
    ("Map", Yes, Map),
    ("N", No, Plain),
    ("O", Yes, Plain),
    ("P", Yes, Plain),
    ("Qy", No, Plain),
    ("R", Yes, JustSymbols),
    ("S", No, Plain),
    ("T", Yes, Script),
    ("Tbss", Yes, Plain),
    ("Tdata", Yes, Plain),
    ("Tldata-segment", Yes, Plain),
    ("Trodata-segment", Yes, Plain),
    ("Ttext", Yes, Plain),
    ("Ttext-segment", Yes, Plain),
    ("Ur", No, Relocatable),
    ("V", No, Plain),
    ("X", No, Plain),
    ("Y", Yes, DefaultDirs),
    ("a", Yes, Plain),
    ("accept-unknown-input-arch", No, Plain),
    ("add-needed", No, WithNeeded),
    ("allow-multiple-definition", No, Plain),
    ("allow-shlib-undefined", No, Plain),
    ("architecture", Yes, Plain),
    ("as-needed", No, Plain),
    ("assert", Yes, Plain),
    ("audit", Yes, Plain),
    ("auxiliary", Yes, Plain),
    ("b", Yes, Plain),
    ("build-id", Maybe, Plain),
    ("c", Yes, Local),
    ("call_shared", No, Dynamic),
    ("check-sections", No, Plain),
    ("color-diagnostics", Maybe, Plain),
    ("compress-debug-sections", Yes, Plain),
    ("copy-dt-needed-entries", No, WithNeeded),
    ("cref", No, Plain),
    ("ctf-share-types", Yes, Plain),
    ("ctf-variables", No, Plain),
    ("d", No, Plain),
    ("dT", Yes, Script),
    ("dc", No, Plain),
    ("default-imported-symver", No, Plain),
    ("default-script", Yes, Script),
    ("default-symver", No, Plain),
    ("defsym", Yes, Plain),
    ("demangle", Maybe, Plain),
    ("depaudit", Yes, Plain),
    ("dependency-file", Yes, Writes),
    ("disable-linker-version", No, Plain),
    ("disable-multiple-abs-defs", No, Plain),
    ("disable-new-dtags", No, Plain),
    ("discard-all", No, Plain),
    ("discard-locals", No, Plain),
    ("discard-none", No, Plain),
    ("dn", No, Static),
    ("dp", No, Plain),
    ("dy", No, Dynamic),
    ("dynamic-linker", Yes, Plain),
    ("dynamic-list", Yes, Reads),
    ("dynamic-list-cpp-new", No, Plain),
    ("dynamic-list-cpp-typeinfo", No, Plain),
    ("dynamic-list-data", No, Plain),
    ("e", Yes, Plain),
    ("eh-frame-hdr", No, Plain),
    ("emit-relocs", No, Plain),
    ("enable-linker-version", No, Plain),
    ("enable-new-dtags", No, Plain),
    ("enable-non-contiguous-regions", No, Plain),
    ("enable-non-contiguous-regions-warnings", No, Plain),
    ("end-group", No, Plain),
    ("end-lib", No, Plain),
    ("entry", Yes, Plain),
    ("error-execstack", No, Plain),
    ("error-handling-script", Yes, Local),
    ("error-rwx-segments", No, Plain),
    ("error-unresolved-symbols", No, Plain),
    ("exclude-libs", Yes, Plain),
    ("export-dynamic", No, Plain),
    ("export-dynamic-symbol", Yes, Plain),
    ("export-dynamic-symbol-list", Yes, Reads),
    ("f", Yes, Plain),
    ("fatal-warnings", No, Plain),
    ("filter", Yes, Plain),
    ("fini", Yes, Plain),
    ("flto", Maybe, Plain),
    ("flto-partition", Yes, Plain),
    ("force-group-allocation", No, Plain),
    ("format", Yes, Plain),
    ("fuse-ld", Yes, Plain),
    ("g", No, Plain),
    ("gc-keep-exported", No, Plain),
    ("gc-sections", No, Plain),
    ("gdb-index", No, Plain),
    ("gpsize", Yes, Plain),
    ("h", Yes, Soname),
    ("hash-size", Yes, Plain),
    ("hash-style", Yes, Plain),
    ("help", No, Query),
    ("i", No, Relocatable),
    ("icf", Yes, Plain),
    ("ignore-unresolved-symbol", Yes, Plain),
    ("image-base", Yes, Plain),
    ("init", Yes, Plain),
    ("just-symbols", Yes, JustSymbols),
    ("l", Yes, Library),
    ("ld-generated-unwind-info", No, Plain),
    ("library", Yes, Library),
    ("library-path", Yes, LibraryDir),
    ("m", Yes, Emulation),
    ("map-whole-files", Maybe, Plain),
    ("max-cache-size", Yes, Plain),
    ("mri-script", Yes, Local),
    ("n", No, Plain),
    ("nmagic", No, Plain),
    ("no-accept-unknown-input-arch", No, Plain),
    ("no-add-needed", No, Plain),
    ("no-allow-shlib-undefined", No, WithNeeded),
    ("no-as-needed", No, Plain),
    ("no-check-sections", No, Plain),
    ("no-copy-dt-needed-entries", No, Plain),
    ("no-ctf-variables", No, Plain),
    ("no-define-common", No, Plain),
    ("no-demangle", No, Plain),
    ("no-dynamic-linker", No, Plain),
    ("no-eh-frame-hdr", No, Plain),
    ("no-error-execstack", No, Plain),
    ("no-error-rwx-segments", No, Plain),
    ("no-export-dynamic", No, Plain),
    ("no-fatal-warnings", No, Plain),
    ("no-gc-sections", No, Plain),
    ("no-gnu-unique", No, Plain),
    ("no-icf", No, Plain),
    ("no-keep-memory", No, Plain),
    ("no-ld-generated-unwind-info", No, Plain),
    ("no-map-whole-files", Maybe, Plain),
    ("no-omagic", No, Plain),
    ("no-pie", No, Plain),
    ("no-print-gc-sections", No, Plain),
    ("no-print-map-discarded", No, Plain),
    ("no-relax", No, Plain),
    ("no-strip-discarded", No, Plain),
    ("no-threads", No, Plain),
    ("no-undefined", No, Plain),
    ("no-undefined-version", No, Plain),
    ("no-warn-execstack", No, Plain),
    ("no-warn-mismatch", No, Plain),
    ("no-warn-rwx-segments", No, Plain),
    ("no-warn-search-mismatch", No, Plain),
    ("no-warnings", No, Plain),
    ("no-whole-archive", No, Plain),
    ("noinhibit-exec", No, Plain),
    ("non_shared", No, Static),
    ("nostdlib", No, NoDefaultDirs),
    ("o", Yes, Output),
    ("oformat", Yes, Plain),
    ("omagic", No, Plain),
    ("orphan-handling", Yes, Plain),
    ("out-implib", Yes, Writes),
    ("output", Yes, Output),
    ("pack-dyn-relocs", Yes, Plain),
    ("package-metadata", Maybe, Plain),
    ("pic-executable", No, Plain),
    ("pie", No, Plain),
    ("plugin", Yes, Plugin),
    ("plugin-opt", Yes, Plain),
    ("plugin-save-temps", No, Local),
    ("pop-state", No, Pop),
    ("print-gc-sections", No, Plain),
    ("print-icf-sections", No, Plain),
    ("print-map", No, Plain),
    ("print-map-discarded", No, Plain),
    ("print-memory-usage", No, Plain),
    ("print-output-format", No, Query),
    ("print-sysroot", No, Query),
    ("push-state", No, Push),
    ("q", No, Plain),
    ("qmagic", No, Plain),
    ("r", No, Relocatable),
    ("reduce-memory-overheads", No, Plain),
    ("relax", No, Plain),
    ("relocatable", No, Relocatable),
    ("remap-inputs", Yes, Local),
    ("remap-inputs-file", Yes, Local),
    ("require-defined", Yes, Plain),
    ("retain-symbols-file", Yes, Reads),
    ("rpath", Yes, RunPath),
    ("rpath-link", Yes, RunPathLink),
    ("s", No, Plain),
    ("script", Yes, Script),
    ("section-ordering-file", Yes, Reads),
    ("section-start", Yes, Plain),
    ("shared", No, Shared),
    ("soname", Yes, Soname),
    ("sort-common", Maybe, Plain),
    ("sort-section", Yes, Plain),
    ("spare-dynamic-tags", Yes, Plain),
    ("split-by-file", Maybe, Plain),
    ("split-by-reloc", Maybe, Plain),
    ("start-group", No, Plain),
    ("start-lib", No, Plain),
    ("static", No, Static),
    ("stats", No, Local),
    ("strip-all", No, Plain),
    ("strip-debug", No, Plain),
    ("strip-discarded", No, Plain),
    ("sysroot", Yes, Sysroot),
    ("t", No, Plain),
    ("target-help", No, Query),
    ("task-link", Yes, Plain),
    ("thread-count", Yes, Plain),
    ("threads", Maybe, Plain),
    ("time-trace", Maybe, Local),
    ("trace", No, Plain),
    ("trace-symbol", Yes, Plain),
    ("traditional-format", No, Plain),
    ("u", Yes, Plain),
    ("undefined", Yes, Plain),
    ("undefined-version", No, Plain),
    ("unique", Maybe, Plain),
    ("unresolved-symbols", Yes, Plain),
    ("v", No, Plain),
    ("verbose", Maybe, Plain),
    ("version", No, Plain),
    ("version-exports-section", Yes, Plain),
    ("version-script", Yes, Reads),
    ("w", No, Plain),
    ("warn-alternate-em", No, Plain),
    ("warn-common", No, Plain),
    ("warn-constructors", No, Plain),
    ("warn-execstack", No, Plain),
    ("warn-execstack-objects", No, Plain),
    ("warn-multiple-gp", No, Plain),
    ("warn-once", No, Plain),
    ("warn-rwx-segments", No, Plain),
    ("warn-section-align", No, Plain),
    ("warn-shared-textrel", No, Plain),
    ("warn-textrel", No, Plain),
    ("warn-unresolved-symbols", No, Plain),
    ("whole-archive", No, Plain),
    ("wrap", Yes, Plain),
    ("x", No, Plain),
    ("y", Yes, Plain),
    ("z", Yes, Plain),
];

/// One argument of the linker, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LdArg {
    /// A file that is linked.
    File(String),
    /// An option with its value (empty when it has none).
    Option(Effect, String),
}

/// What lexsup.c takes with two dashes only: `-omagic` is the output `magic`.
const TWO_DASHES: &[&str] = &["architecture", "format", "mri-script", "no-omagic", "omagic", "output"];

/// Reads a linker's arguments (without `argv[0]`, response files expanded).
///
/// # Errors
/// The first option that is unknown, or must run here.
pub fn parse(args: &[String]) -> Result<Vec<LdArg>, Reason> {
    let mut read = Vec::with_capacity(args.len());
    for word in getopt::parse(OPTIONS, Style::LongOnly(TWO_DASHES), args)? {
        match word {
            Word::Operand(name) => read.push(LdArg::File(name)),
            Word::Option(Effect::Local, _, written) => return Err(Reason::LocalFlag(written)),
            Word::Option(Effect::Query, ..) => return Err(Reason::Query),
            Word::Option(Effect::Plain, ..) => {}
            Word::Option(effect, value, _) => read.push(LdArg::Option(effect, value)),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
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
        check(
            "-omagic --output=b -l :x.a",
            &[with(Output, "magic"), with(Output, "b"), with(Library, ":x.a")],
        );
        check("-rpath /a -rpath=/b --rpath /c", &["/a", "/b", "/c"].map(|dir| with(RunPath, dir)));
        check("-Map=x.map --Map y.map -Map z", &["x.map", "y.map", "z"].map(|map| with(Map, map)));
        check(
            "-soname x -hy -z now -znow --build-id=sha1 --build-id",
            &[with(Soname, "x"), with(Soname, "y")],
        );
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
}
