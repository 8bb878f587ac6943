//! Who calls: whether a tool call may be answered before the tool has run.
//!
//! It may, when nobody between the call and the build command can act on the tool's exit status or output other than by
//! failing a make target: the chain of callers is make, make's recipe shells, and at the near end either make itself or
//! a shell with a simple list of commands; and what the tool prints goes where the whole build's output goes.
//! If such a call fails after all, the build command is run again (it is make: what was made stays made), and this call
//! then waits. Everywhere else (configure, libtool, ninja, scripts) the caller waits for the real result.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processes above the call that are looked at before giving up: recursive make seldom nests deeper.
const MAX_DEPTH: usize = 64;

/// A file that output goes to: device, inode, and for devices the device number.
pub(crate) type Sink = (u64, u64, u64);

/// Where descriptor `fd` of a process leads.
pub(crate) fn sink(pid: u32, fd: u32) -> Option<Sink> {
    let meta = fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok()?;
    Some((meta.dev(), meta.ino(), meta.rdev()))
}

/// The process that started this one.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold parentheses and spaces: the last one ends it.
    let rest = &stat[stat.rfind(')')? + 2..];
    rest.split(' ').nth(1)?.parse().ok()
}

/// Whether any process above this one is in the set: the recursion guard.
pub(crate) fn is_below(pid: u32, ancestors: &HashSet<u32>) -> bool {
    ancestor(pid, ancestors).is_some()
}

/// The nearest process above this one that is in the set.
pub(crate) fn ancestor(pid: u32, ancestors: &HashSet<u32>) -> Option<u32> {
    if ancestors.is_empty() {
        return None;
    }
    let mut at = pid;
    for _ in 0..MAX_DEPTH {
        match parent(at)? {
            above if ancestors.contains(&above) => return Some(above),
            above if above > 1 => at = above,
            _ => return None,
        }
    }
    None
}

/// Whether the call from process `pid` may be answered early, in a build whose first process is `root`.
pub(crate) fn may_defer(pid: u32, root: u32) -> bool {
    let Some(mut at) = parent(pid) else { return false };
    let mut nearest = true;
    let mut below_shell = false;
    for _ in 0..MAX_DEPTH {
        match caller(at) {
            Caller::Make => below_shell = false,
            Caller::RecipeShell(script) if !nearest || is_simple(&script) => below_shell = true,
            // The shell around a recursive make may be as complicated as it likes, if make started it.
            Caller::Shell if below_shell => {}
            _ => return false,
        }
        if at == root {
            return !below_shell;
        }
        nearest = false;
        match parent(at) {
            Some(above) if above > 1 => at = above,
            _ => return false,
        }
    }
    false
}

enum Caller {
    Make,
    /// `sh -c SCRIPT`.
    RecipeShell(Vec<u8>),
    /// A subshell: a fork of a shell that has not executed anything else shows the same command line.
    Shell,
    Other,
}

fn caller(pid: u32) -> Caller {
    let Ok(exe) = fs::read_link(format!("/proc/{pid}/exe")) else { return Caller::Other };
    match exe.file_name().map(OsStrExt::as_bytes) {
        Some(b"make" | b"gmake") => Caller::Make,
        Some(b"sh" | b"dash" | b"bash") => {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|&b| b == 0).skip(1);
            match (words.next(), words.next()) {
                (Some(b"-c" | b"-ec" | b"-ce" | b"-exc"), Some(script)) => {
                    Caller::RecipeShell(script.to_vec())
                }
                _ => Caller::Shell,
            }
        }
        _ => Caller::Other,
    }
}

/// Words that make the exit status of a command in a list matter to the shell.
const KEYWORDS: [&str; 12] =
    ["if", "then", "while", "until", "for", "case", "!", "eval", "exec", "trap", "wait", "function"];

/// Whether a recipe is a plain list of commands joined by `;`, `&&` or newlines: no pipe, no `||`, no condition, no
/// substitution, no background. Quoted text is passed over; anything doubtful is not simple.
fn is_simple(script: &[u8]) -> bool {
    let mut at = 0;
    let mut word = Vec::new();
    let mut starts_command = true;
    let mut words_ok = true;
    let mut end_word = |word: &mut Vec<u8>, starts_command: &mut bool| {
        if *starts_command && KEYWORDS.iter().any(|k| k.as_bytes() == word.as_slice()) {
            words_ok = false;
        }
        if !word.is_empty() {
            *starts_command = false;
            word.clear();
        }
    };
    while at < script.len() {
        match script[at] {
            b'\'' => match script[at + 1..].iter().position(|&b| b == b'\'') {
                Some(len) => {
                    at += len + 1;
                    word.push(b'q');
                }
                None => return false,
            },
            b'"' => match double_quoted(&script[at + 1..]) {
                Some(len) => {
                    at += len + 1;
                    word.push(b'q');
                }
                None => return false,
            },
            b'\\' => {
                at += 1;
                // A backslash before a newline joins the lines and is no character of its own.
                if script.get(at) != Some(&b'\n') {
                    word.push(b'q');
                }
            }
            b' ' | b'\t' => end_word(&mut word, &mut starts_command),
            b';' | b'\n' => {
                end_word(&mut word, &mut starts_command);
                starts_command = true;
            }
            b'&' if script.get(at + 1) == Some(&b'&') => {
                end_word(&mut word, &mut starts_command);
                starts_command = true;
                at += 1;
            }
            // `>&2` and `2>&1` are no background.
            b'&' if at > 0 && script[at - 1] == b'>' => word.push(b'&'),
            b'&' | b'|' | b'`' | b'(' | b')' => return false,
            b'$' if script.get(at + 1) == Some(&b'(') => return false,
            byte => word.push(byte),
        }
        at += 1;
    }
    end_word(&mut word, &mut starts_command);
    words_ok
}

/// The length of a double-quoted text up to its closing quote, if it holds no substitution.
fn double_quoted(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            b'`' => return None,
            b'$' if text.get(at + 1) == Some(&b'(') => return None,
            _ => at += 1,
        }
    }
}

/// The text after which a build command is known to be safe to run again: make itself.
pub(crate) fn is_make(program: &Path) -> bool {
    matches!(program.file_name().map(OsStrExt::as_bytes), Some(b"make" | b"gmake"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, expected: bool) {
        assert_eq!(is_simple(script.as_bytes()), expected, "{script}");
    }

    #[test]
    fn plain_lists_are_simple() {
        check("gcc -c a.c", true);
        check("echo '   ' CC a.o;gcc -o a.o -c -DX='\"a|b\"' a.c", true);
        check("gcc -MT a.o -c a.c &&\\\nmv -f .deps/a.Tpo .deps/a.Po", true);
        check("rm -f lib.a && ar rcs lib.a a.o b.o", true);
        check("gcc -c a.c 2>&1; echo done >&2", true);
        check("echo \"CC $@\" $HOME; gcc a.c", true);
        check("gcc -Dif=1 -c if", true);
    }

    #[test]
    fn what_looks_at_the_result_is_not() {
        for script in [
            "gcc -c a.c || exit 1",
            "if gcc -c a.c; then echo yes; fi",
            "! gcc -c a.c",
            "gcc -c a.c | cat",
            "x=`gcc -c a.c`",
            "x=$(gcc -c a.c)",
            "echo \"$(gcc -c a.c)\"",
            "gcc -c a.c & wait",
            "(gcc -c a.c)",
            "for f in a b; do gcc -c $f.c; done",
            "true && if gcc -c a.c; then :; fi",
            "gcc 'unclosed",
        ] {
            check(script, false);
        }
    }
}
