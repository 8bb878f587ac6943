//! Depfiles, byte for byte as GCC 12 writes them (`libcpp/mkdeps.cc`).

use super::result::{Dep, Scan};

/// Where GCC wraps lines (`c-opts.cc` passes 72).
const COLUMNS: usize = 72;

/// One target of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `-MT TEXT`: as it is.
    Verbatim(String),
    /// `-MQ TEXT`, and the default target: quoted for make.
    Quoted(String),
}

/// Which depfile.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DepfileOptions {
    /// `-MM`, `-MMD`: leave system headers out.
    pub user_only: bool,
    /// `-MP`: an empty rule for each header.
    pub phony: bool,
}

/// The depfile of a scan. With no targets, GCC's default is the source's base name with `.o`: see [`default_target`].
pub fn depfile(scan: &Scan, targets: &[Target], options: &DepfileOptions) -> Vec<u8> {
    let listed = |dep: &&Dep| !(options.user_only && dep.system);
    let deps: Vec<&str> = scan.deps.iter().filter(listed).map(|dep| strip_dot(&dep.path)).collect();
    let mut out = Writer::default();
    if deps.is_empty() {
        return out.bytes;
    }
    for target in ordered(targets) {
        match target {
            Target::Verbatim(text) => out.name(strip_dot(text).as_bytes()),
            Target::Quoted(text) => out.name(&quoted(strip_dot(text))),
        }
    }
    out.raw(b":");
    for dep in &deps {
        out.name(&quoted(dep));
    }
    out.bytes.push(b'\n');
    if options.phony {
        for dep in &deps[1..] {
            out.bytes.extend_from_slice(&quoted(dep));
            out.bytes.extend_from_slice(b":\n");
        }
    }
    out.bytes
}

/// The target that GCC uses when the command line names none: the base name of the source, its suffix replaced by `.o`.
pub fn default_target(source: &str) -> Target {
    let base = source.rsplit('/').next().unwrap_or(source);
    let stem = base.rfind('.').map_or(base, |dot| &base[..dot]);
    Target::Quoted(format!("{stem}.o"))
}

/// GCC keeps unquoted targets ahead: each one swaps places with the first quoted (`deps_add_target`).
fn ordered(targets: &[Target]) -> Vec<&Target> {
    let mut list: Vec<&Target> = Vec::with_capacity(targets.len());
    let mut verbatim = 0;
    for target in targets {
        list.push(target);
        if matches!(target, Target::Verbatim(_)) {
            let last = list.len() - 1;
            list.swap(verbatim, last);
            verbatim += 1;
        }
    }
    list
}

/// `apply_vpath` without a vpath: a leading `./` goes, with the slashes after it.
fn strip_dot(mut path: &str) -> &str {
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    path
}

/// Quotes for make as `munge` does.
fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut slashes = 0;
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => slashes += 1,
            b'$' => {
                out.push(b'$');
                slashes = 0;
            }
            b' ' | b'\t' => {
                out.extend(std::iter::repeat_n(b'\\', slashes + 1));
                slashes = 0;
            }
            b'#' => {
                out.push(b'\\');
                slashes = 0;
            }
            _ => slashes = 0,
        }
        out.push(byte);
    }
    out
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    column: usize,
}

impl Writer {
    fn name(&mut self, name: &[u8]) {
        if self.column != 0 {
            if self.column + name.len() > COLUMNS {
                self.bytes.extend_from_slice(b" \\\n");
                self.column = 0;
            }
            self.column += 1;
            self.bytes.push(b' ');
        }
        self.raw(name);
    }

    fn raw(&mut self, text: &[u8]) {
        self.column += text.len();
        self.bytes.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(targets: &[Target], deps: &[&str], expected: &str) {
        let deps = deps
            .iter()
            .map(|path| Dep { path: (*path).to_owned(), system: false, generated: false })
            .collect();
        let scan = Scan { deps, ..Scan::default() };
        let text = depfile(&scan, targets, &DepfileOptions { user_only: false, phony: true });
        assert_eq!(String::from_utf8(text).expect("depfiles of text are text"), expected);
    }

    #[test]
    fn names_are_quoted_as_gcc_quotes_them() {
        check(&[default_target("a/b.c")], &["a/b.c", "./x y.h"], "b.o: a/b.c x\\ y.h\nx\\ y.h:\n");
        check(&[Target::Quoted("a$b".into())], &["q#.c"], "a$$b: q\\#.c\n");
    }

    #[test]
    fn verbatim_targets_come_first() {
        let targets =
            [Target::Quoted("q1".into()), Target::Quoted("q2".into()), Target::Verbatim("v".into())];
        check(&targets, &["a.c"], "v q2 q1: a.c\n");
    }
}
