//! Calls that could as well be several.

use super::call::Call;
use super::clang::Dialect;
use super::flags::Mode;

/// Flags whose meaning depends on where they stand among the sources, or that change the exit status of several.
const BOUND: [&str; 4] = ["-x", "--language", "@", "-pass-exit-codes"];

/// Where in the arguments (the program's name is the first) the sources of a call stand that lists dependencies on its
/// standard output: the driver goes through them one by one, and each has its own run of the compiler (`do_spec` in GCC's
/// `gcc.cc`). None if the call is another one, or if that cannot be told.
pub(super) fn separable(call: &Call, dialect: Dialect, args: &[String]) -> Vec<usize> {
    let lists = call.mode == Mode::Dependencies && call.output.is_none() && call.dependencies.is_none();
    let plain = call.depfile.is_none() && call.extras.is_empty() && !call.dumps;
    let bound = args.iter().any(|arg| BOUND.iter().any(|flag| arg.starts_with(flag)));
    if dialect != Dialect::Gcc || !lists || !plain || bound || !call.link_items.is_empty() {
        return Vec::new();
    }
    let only = |path: &str| {
        let mut places = args.iter().enumerate().filter(|(_, arg)| *arg == path).map(|(at, _)| at);
        places.next().filter(|_| places.next().is_none())
    };
    call.sources.iter().map(|source| only(&source.path)).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::call;
    use super::super::source::Personality;
    use super::*;

    fn check(line: &str, expected: &[usize]) {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let Ok(call) = call::parse(&args[1..], Personality::C, Dialect::Gcc) else { panic!("{line}") };
        assert_eq!(separable(&call, Dialect::Gcc, &args), expected, "{line}");
    }

    #[test]
    fn a_call_that_only_lists_dependencies_of_several_sources_can_be_taken_apart() {
        check("gcc -MM a.c b.c", &[2, 3]);
        check("gcc a.c -M -DX=1 -I. b.c -include x.h c.cc", &[1, 5, 8]);
        check("gcc -M -MG -MT x a.c b.c", &[5, 6]);
    }

    #[test]
    fn no_other_call_can() {
        for line in [
            "gcc -c a.c b.c",
            "gcc -E a.c b.c",
            "gcc -MM -MF d a.c b.c",
            "gcc -MD -c a.c b.c",
            "gcc -MM -x c a.c b.c",
            "gcc -MM a.c a.c",
            "gcc -MM -include a.c a.c b.c",
            "gcc -MM a.c b.o",
            "gcc -MM -pass-exit-codes a.c b.c",
        ] {
            check(line, &[]);
        }
        let call = call::parse(&["-MM".into(), "a.c".into()], Personality::C, Dialect::Clang).unwrap();
        assert!(separable(&call, Dialect::Clang, &["clang", "-MM", "a.c"].map(String::from)).is_empty());
    }
}
