#!/usr/bin/env python3
"""Writes model-tools/src/gcc/table.rs from GCC's own option files.

    tar xf /usr/src/gcc-12/gcc-12.2.0-dfsg.tar.xz --wildcards '*.opt'
    model-tools/scripts/gcc-options.py gcc-12.2.0/gcc > model-tools/src/gcc/table.rs

The format of the files is described in GCC's internals manual, options.texi. What an option means for the model
stands in MEANINGS below: the first pattern that matches the whole name decides.
"""
import re
import sys

FILES = [
    "common.opt", "c-family/c.opt", "config/i386/i386.opt", "config/gnu-user.opt", "config/linux.opt",
    "config/linux-android.opt", "config/fused-madd.opt", "params.opt", "analyzer/analyzer.opt", "lto/lang.opt",
]

NO_OPTION = {
    "Language", "TargetSave", "Variable", "HeaderInclude", "SourceInclude", "Enum", "EnumValue", "TargetVariable",
}

MEANINGS = [
    # Modes.
    (r"E", "Mode(Mode::Preprocess)"),
    (r"S", "Mode(Mode::Compile)"),
    (r"c", "Mode(Mode::Assemble)"),
    (r"M|MM", "Mode(Mode::Dependencies)"),
    (r"fsyntax-only", "Mode(Mode::Check)"),
    # What the preprocessor is told.
    (r"D", "Define"),
    (r"U", "Undefine"),
    (r"I", "Dir(DirClass::Bracket)"),
    (r"iquote", "Dir(DirClass::Quote)"),
    (r"isystem", "Dir(DirClass::System)"),
    (r"idirafter", "Dir(DirClass::After)"),
    (r"include", "Include"),
    (r"imacros", "Imacros"),
    (r"isysroot|-sysroot=", "Sysroot"),
    (r"x", "Language"),
    # Depfiles.
    (r"MD", "Depfile(Depfile::All)"),
    (r"MMD", "Depfile(Depfile::User)"),
    (r"MF", "DepfileName"),
    (r"MT", "DepfileTarget"),
    (r"MQ", "DepfileQuoted"),
    (r"MP", "DepfilePhony"),
    (r"MG", "DepfileGenerated"),
    # Handed on.
    (r"Wp,", "Preprocessor(Handed::List)"),
    (r"Xpreprocessor", "Preprocessor(Handed::One)"),
    (r"Wa,", "Assembler(Handed::List)"),
    (r"Xassembler", "Assembler(Handed::One)"),
    (r"Wl,", "Linker(Handed::List)"),
    (r"Xlinker", "Linker(Handed::One)"),
    (r"l", "Library"),
    (r"L", "LibraryDir"),
    (r"o", "Output"),
    # Files beside the output.
    (r"fstack-usage", "Extra(\"su\")"),
    (r"fcallgraph-info|fcallgraph-info=", "Extra(\"ci\")"),
    (r"gsplit-dwarf", "Extra(\"dwo\")"),
    (r"coverage|ftest-coverage", "Extra(\"gcno\")"),
    (r"fdump-(noaddr|unnumbered|unnumbered-links|internal-locations|passes)", "Plain"),
    (r"d", "Letters"),
    (r"fdump-.*|save-temps=?|aux-info|dumpbase|dumpbase-ext|dumpdir|fopt-info-?|fsave-optimization-record", "Dump"),
    (r"fprofile-note=|gen-decls|fvtv-counts|fvtv-debug", "Dump"),
    # Decided by the machine.
    (r"march=|mtune=|mcpu=", "Processor"),
    (r"f(exec|wide-exec|input)-charset=", "Charset"),
    # Asks only.
    (r"###|-?help=?|-target-help|-version|-completion=|dump(machine|version|fullversion|specs)", "Query"),
    (r"-?print-.*|fversion|fhelp=?|ftarget-help", "Query"),
    # Reads or writes what no thunk can hold, or says something that differs from run to run.
    (r"B|b|V|-?specs=?|wrapper|-?time=?|v|Q|F|A|R|Z|version|quiet|lang-asm|imultilib|imultiarch|iprefix", "Local"),
    (r"iwithprefix(before)?|remap|traditional|traditional-cpp|stdlib=|-output-pch=|iplugindir=", "Local"),
    (r"fplugin.*|fmodule.*|Mmodules|Mno-modules|flang-info-.*|fpch-.*|fpreprocessed|fdirectives-only", "Local"),
    (r"fprofile-use=?|fbranch-probabilities|fauto-profile=?|fcompare-debug.*|fself-test=|foffload.*", "Local"),
    (r"f(time-report|time-report-details|mem-report|mem-report-wpa|stats|profile-report)", "Local"),
    (r"f(pre|post)-ipa-mem-report|flto-report.*|fltrans.*|fresolution=|fwpa=?|flinker-output=", "Local"),
    # Concerns the linker alone.
    (r"[TuzehnNrst]|T(bss|data|text)=?|static.*|shared.*|-shared|r?dynamic|export-dynamic|symbolic", "Link"),
    (r"pie|no-pie|nostdlib|nodefaultlibs|nostartfiles|nolibc|fuse-ld=.*|fuse-linker-plugin|tno-android-.*", "Link"),
    # No predefined macro depends on these.
    (r"f(random-seed|debug-prefix-map|file-prefix-map|macro-prefix-map|profile-prefix-map)=", "Plain"),
    (r"fdiagnostics-.*|fmessage-length=|fmax-errors=|ftabstop=|falign-.*|fprofile-.*|fvisibility.*", "Plain"),
    (r"f(function|data)-sections|fverbose-asm|fcommon|fident|fwrapv|f(no-)?lto.*|ffat-lto-objects", "Plain"),
    (r"fomit-frame-pointer|fstrict-aliasing|fmerge-.*|fplt|fworking-directory|ftree-.*|fipa-.*|fsched-.*", "Plain"),
    # Predefined macros may depend on these.
    (r"[fmOg].*|std=.*|ansi|pthread|posix|undef|trigraphs|nostdinc|nostdinc\+\+", "Macros"),
    (r".*", "Plain"),
]


def records(root):
    """Each option as (name, flags), in the order of the files."""
    for name in FILES:
        with open(f"{root}/{name}") as file:
            text = "".join(line for line in file if not line.startswith(";"))
        for record in re.split(r"\n\s*\n", text):
            lines = [line for line in record.strip().split("\n") if line.strip()]
            if len(lines) >= 2 and lines[0] not in NO_OPTION:
                yield lines[0].strip(), lines[1]


def meaning(name):
    return next(meaning for pattern, meaning in MEANINGS if re.fullmatch(pattern, name))


def attach(flags):
    words = re.sub(r"\([^)]*\)", "", flags).split()
    if "JoinedOrMissing" in words:
        return "JoinedOrMissing"
    joined, separate = "Joined" in words, "Separate" in words
    return {(0, 0): "Alone", (1, 0): "Joined", (0, 1): "Separate", (1, 1): "Either"}[joined, separate]


def foreign(flags):
    """Only of a language or program that the driver does not run for C, C++ and assembler."""
    words = set(re.sub(r"\([^)]*\)", "", flags).split())
    return not words & {"Driver", "C", "C++", "Common", "Target"}


def main():
    options = {}
    for name, flags in records(sys.argv[1]):
        if name.startswith("W") and name[1:2].islower() and "LTODump" in flags or foreign(flags):
            if "ObjC" in flags:
                options.setdefault(name, [flags, "Local"])
            continue
        if name in options:
            options[name][0] += " " + flags
            continue
        options[name] = [flags, meaning(name)]
    # `-MD` and `-MMD` take a file only where `cc1` reads them (`NoDriverArg`).
    for flags, _ in [options["MD"], options["MMD"]]:
        assert "NoDriverArg" in flags
    for name, entry in options.items():
        if alias := re.search(r"Alias\(([^,)]+)(,[^)]*)?\)", entry[0]):
            target = alias[1].strip()
            entry[1] = "Local" if alias[2] and target == "I" else meaning(target)
        if "NoDriverArg" in entry[0]:
            entry[0] = entry[0].replace("Separate", "")
    print("//! Every option of GCC 12.2 for C, C++, assembler and the driver, in byte order of the names.")
    print("//!")
    print("//! Written by `scripts/gcc-options.py` from GCC's own option files: change that, not this. A row is the option without")
    print("//! its first dash, how its value is attached, whether it has a `no-` form, and what it means for the model.")
    print()
    print("use super::flags::Attach::{Alone, Either, Joined, JoinedOrMissing, Separate};")
    print("use super::flags::Meaning::*;")
    print("use super::flags::{Attach, Depfile, Handed, Meaning, Mode};")
    print("use crate::scan::DirClass;")
    print()
    print("/// Name, attachment, whether it can be negated, meaning.")
    print("pub(super) type Row = (&'static str, Attach, bool, Meaning);")
    print()
    print("#[rustfmt::skip]")
    print(f"pub(super) static TABLE: [Row; {len(options)}] = [")
    for name in sorted(options, key=lambda name: name.encode()):
        flags, what = options[name]
        negatable = name[0] in "fWmg" and "RejectNegative" not in flags
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        print(f'    ("{quoted}", {attach(flags)}, {str(negatable).lower()}, {what}),')
    print("];")


main()
