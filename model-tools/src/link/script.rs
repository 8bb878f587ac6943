//! The files that a linker script names.
//!
//! `libc.so` is such a script, and so is what `-T` takes. Read after the grammar in ld's manual ("Linker Scripts",
//! "Commands Dealing with Files"), by words: what is looked for is which files may be opened, not the layout.
//!
//! **Invariant:** every file that ld opens on account of the script is in [`Script::files`], under the name that the
//! script gives it. Words of a `SECTIONS` block that look like a file are in [`Script::perhaps`]: ld opens those too
//! when no pattern letter is in them, and they need not exist.

use serde::{Deserialize, Serialize};

/// How a script names a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub enum Named {
    /// By its name: `INPUT(x.o)`.
    File(String),
    /// As a library: `INPUT(-lx)`.
    Library(String),
    /// A further script: `INCLUDE x`.
    Include(String),
}

/// What a linker script says about files.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Script {
    /// The files that are opened, in order.
    pub files: Vec<Named>,
    /// Names in section patterns, which are opened if they exist.
    pub perhaps: Vec<String>,
    /// Directories to search for libraries.
    pub dirs: Vec<String>,
    /// Whether the script names the output.
    pub names_output: bool,
}

/// Reads a script.
pub fn parse(text: &str) -> Script {
    let mut script = Script::default();
    let words = words(text);
    let mut at = 0;
    while at < words.len() {
        let word = words[at];
        at += 1;
        match word {
            "INPUT" | "GROUP" | "STARTUP" if words.get(at) == Some(&"(") => {
                at = list(&words, at + 1, &mut script.files);
            }
            "INCLUDE" => {
                script.files.extend(words.get(at).map(|name| Named::Include(unquoted(name).to_owned())));
                at += 1;
            }
            "SEARCH_DIR" => {
                script.dirs.extend(words.get(at + 1).map(|dir| unquoted(dir).to_owned()));
                at += 3;
            }
            "OUTPUT" => script.names_output = true,
            word => script.perhaps.extend(pattern_file(word)),
        }
    }
    script
}

/// The names up to the closing parenthesis; answers where to go on.
fn list(words: &[&str], mut at: usize, files: &mut Vec<Named>) -> usize {
    let mut depth = 1;
    while let Some(&word) = words.get(at) {
        at += 1;
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "AS_NEEDED" | "," => {}
            word => files.push(match unquoted(word).strip_prefix("-l") {
                Some(name) => Named::Library(name.to_owned()),
                None => Named::File(unquoted(word).to_owned()),
            }),
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The file that a section pattern may open: `crt0.o` or `lib.a:x.o`, but not `*crt0.o`.
fn pattern_file(word: &str) -> Option<String> {
    let word = unquoted(word);
    let (archive, _) = word.split_once(':').unwrap_or((word, ""));
    let looks_like = [".o", ".a", ".obj", ".so"].iter().any(|end| archive.ends_with(end));
    (looks_like && !archive.contains(['*', '?', '[']) && !archive.rsplit('/').next()?.starts_with('.'))
        .then(|| archive.to_owned())
}

fn unquoted(word: &str) -> &str {
    word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word)
}

/// Words, parentheses, braces and commas, without comments.
fn words(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = text[at + 2..].find("*/").map_or(bytes.len(), |end| at + 2 + end + 2);
            }
            b'"' => {
                at = text[at + 1..].find('"').map_or(bytes.len(), |end| at + 1 + end + 1);
                words.push(&text[start..at]);
            }
            b'(' | b')' | b'{' | b'}' | b',' | b';' => {
                at += 1;
                words.push(&text[start..at]);
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b"(){},;\"".contains(byte);
                at += bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
                words.push(&text[start..at]);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let shown: Vec<String> = parse(text)
            .files
            .iter()
            .map(|named| match named {
                Named::File(name) => name.clone(),
                Named::Library(name) => format!("-l{name}"),
                Named::Include(name) => format!("<{name}"),
            })
            .collect();
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn the_c_library_s_script_names_three_files() {
        check(
            "/* GNU ld script ( not ) */\nOUTPUT_FORMAT(elf64-x86-64)\nGROUP ( /lib/libc.so.6 /usr/lib/libc_nonshared.a \
             AS_NEEDED ( /lib64/ld.so.2 ) )",
            &["/lib/libc.so.6", "/usr/lib/libc_nonshared.a", "/lib64/ld.so.2"],
        );
    }

    #[test]
    fn libraries_includes_and_quoted_names_are_read() {
        check("INPUT(libx.so.1 -lgcc)GROUP(a.o,b.o)", &["libx.so.1", "-lgcc", "a.o", "b.o"]);
        check(
            "INCLUDE regions.ld SECTIONS { INCLUDE \"a b.ld\" .text : { *(.text) } }",
            &["<regions.ld", "<a b.ld"],
        );
        check("STARTUP(crt0.o)", &["crt0.o"]);
        check("", &[]);
        check("INPUT(", &[]);
        check("INPUT(a", &["a"]);
    }

    #[test]
    fn a_section_pattern_without_wildcards_may_open_a_file() {
        let script = parse("SECTIONS { .t : { crt0.o(.text) *x.o(.t) lib.a:y.o(.t) *(.o) KEEP(*(.init)) } }");
        assert_eq!(script.perhaps, ["crt0.o", "lib.a"]);
    }

    #[test]
    fn directories_and_an_output_are_noticed() {
        let script = parse("SEARCH_DIR(\"=/usr/lib\"); SEARCH_DIR(/x); OUTPUT(y)");
        assert_eq!(script.dirs, ["=/usr/lib", "/x"]);
        assert!(script.names_output);
        assert!(!parse("OUTPUT_ARCH(i386) OUTPUT_FORMAT(x)").names_output);
    }
}
