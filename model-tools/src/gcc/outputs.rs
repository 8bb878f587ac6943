//! What a call leaves, by the rules of GCC's driver (`gcc.cc`: `%b`, `%d`, `%.d%*`; the manual, "Overall Options").

use super::call::{Call, Source};
use super::flags::Mode;
use super::source::Language;
use crate::scan::{self, DepfileOptions, Scan, Target};

/// A name without its directory.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A name without its last suffix.
fn stem(name: &str) -> &str {
    match name.rfind('.') {
        Some(dot) if !name[dot..].contains('/') => &name[..dot],
        _ => name,
    }
}

/// The file that a source becomes, as the tool names it; none if the text goes to standard output or nothing is written.
pub(super) fn object(call: &Call, source: &Source) -> Option<String> {
    let suffix = match call.mode {
        Mode::Assemble if source.language.is_header() => {
            return Some(call.output.clone().unwrap_or_else(|| format!("{}.gch", source.path)));
        }
        Mode::Assemble => "o",
        Mode::Compile => "s",
        Mode::Preprocess => return call.output.clone(),
        Mode::Dependencies => return call.dependencies.clone().or_else(|| call.output.clone()),
        Mode::Link | Mode::Check => return None,
    };
    // The assembler's own language goes through `-S` untouched.
    if call.mode == Mode::Compile
        && matches!(source.language, Language::Assembler | Language::AssemblerWithCpp)
    {
        return None;
    }
    Some(call.output.clone().unwrap_or_else(|| format!("{}.{suffix}", stem(base(&source.path)))))
}

/// The depfile of a source, as the tool names it; none if no depfile is written for it.
pub(super) fn depfile(call: &Call, source: &Source) -> Option<String> {
    let flags = call.depfile.as_ref()?;
    source.language.scanned_as()?;
    let named = || match &call.output {
        Some(output) => format!("{}.d", stem(output)),
        None => format!("{}{}.d", call.prefix, stem(base(&source.path))),
    };
    Some(flags.name.clone().unwrap_or_else(named))
}

/// The text of that depfile.
pub(super) fn depfile_text(call: &Call, source: &Source, scan: &Scan) -> Option<Vec<u8>> {
    let flags = call.depfile.as_ref()?;
    let mut targets = flags.targets.clone();
    if targets.is_empty() {
        targets.push(match (&call.output, flags.behind) {
            (Some(output), false) => Target::Quoted(output.clone()),
            _ => scan::default_target(&source.path),
        });
    }
    let options = DepfileOptions { user_only: flags.user_only, phony: flags.phony };
    Some(scan::depfile(scan, &targets, &options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcc::call::parse;
    use crate::gcc::clang::Dialect;
    use crate::gcc::source::Personality;

    fn check(line: &str, object_name: Option<&str>, depfile_name: Option<&str>) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let call = parse(&args, Personality::C, Dialect::Gcc).unwrap();
        assert_eq!(object(&call, &call.sources[0]).as_deref(), object_name, "{line}");
        assert_eq!(depfile(&call, &call.sources[0]).as_deref(), depfile_name, "{line}");
    }

    #[test]
    fn files_are_named_as_the_driver_names_them() {
        check("-c dir/a.c", Some("a.o"), None);
        check("-c dir/a.b.c -MD", Some("a.b.o"), Some("a.b.d"));
        check("-c a.c -MMD -o out/z.o", Some("out/z.o"), Some("out/z.d"));
        check("-c a.c -MD -o out.x/z", Some("out.x/z"), Some("out.x/z.d"));
        check("-c a.c -MD -MF deps/q -o z.o", Some("z.o"), Some("deps/q"));
        check("-S x/a.cc", Some("a.s"), None);
        check("-S a.S", None, None);
        check("-E a.c", None, None);
        check("-E a.c -MD -o p.i", Some("p.i"), Some("p.d"));
        check("a.c -MD -o prog", None, Some("prog.d"));
        check("-c a.s -MD", Some("a.o"), None);
        check("-fsyntax-only a.c", None, None);
        check("x/a.h", Some("x/a.h.gch"), None);
        check("-c x/a.h -MD", Some("x/a.h.gch"), Some("a.d"));
        check("x/a.h -MD", Some("x/a.h.gch"), Some("a-a.d"));
        check("-x c++-header a.cc -MD -o a.hh.gch", Some("a.hh.gch"), Some("a.hh.d"));
    }
}
