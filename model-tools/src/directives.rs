//! Makes a text that the compiler takes in place of the source out of what `gcc -E -fdirectives-only` writes.
//!
//! Such a text has its directives carried out, but no macro expanded: lines, columns and macro locations are those of the
//! source, so debug information and warnings are too. Two things are changed:
//!
//! - The definitions that the compiler makes by itself (`<built-in>`, `<command-line>`) are left out: whoever compiles the
//!   text makes them again, and says that some are redefined.
//! - Comments are emptied, so that a change of a comment's words ends here. Those that a warning may be about are kept.
//!
//! **Invariant:** every token keeps its line and its column.

/// See the module's documentation.
pub(crate) fn compilable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    // A backslash written as a trigraph would hide the end of a string: such a text keeps its comments.
    let keep = text.windows(3).any(|letters| letters == b"??/");
    let main = marker(text).map_or(&b""[..], |marker| marker.file);
    let mut at = 0;
    let mut hidden = false;
    while at < text.len() {
        // Only at the start of a line that is no part of a string or comment.
        if let Some(marker) = marker(&text[at..]) {
            let end = line_end(text, at);
            hidden = marker.is_own();
            if !hidden {
                out.extend_from_slice(&text[at..end]);
            } else if marker.leaves {
                // Back from a file that the command line includes: to the source, in whose place the text stands.
                out.extend_from_slice(&[b"# 0 \"", main, b"\" 2\n"].concat());
            }
            at = end;
        } else if hidden {
            at = line_end(text, at);
        } else {
            at = copy_line(text, at, keep, &mut out);
        }
    }
    out
}

/// A line that says where the next one comes from: `# 12 "file" 1 3`.
struct Marker<'a> {
    file: &'a [u8],
    /// It says that a file has ended.
    leaves: bool,
}

impl Marker<'_> {
    /// Whether what follows is the compiler's own.
    fn is_own(&self) -> bool {
        matches!(self.file, b"<built-in>" | b"<command-line>")
    }
}

fn marker(text: &[u8]) -> Option<Marker<'_>> {
    let rest = text.strip_prefix(b"# ")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let name = rest[digits..].strip_prefix(b" \"").filter(|_| digits > 0)?;
    let mut end = 0;
    while *name.get(end)? != b'"' {
        end += if name[end] == b'\\' { 2 } else { 1 };
    }
    let leaves = name[end..].starts_with(b"\" 2");
    Some(Marker { file: &name[..end], leaves })
}

/// Where the next line starts.
fn line_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| at + length + 1)
}

/// Copies to the end of the line, and on to where strings and comments that go over it end; returns where the next starts.
fn copy_line(text: &[u8], mut at: usize, keep: bool, out: &mut Vec<u8>) -> usize {
    while at < text.len() {
        let end = match text[at] {
            b'\n' => {
                out.push(b'\n');
                return at + 1;
            }
            b'/' if text[at..].starts_with(b"/*") => {
                let end = find(text, at + 2, b"*/");
                if !keep && is_mere(&text[at..end]) {
                    empty_comment(&text[at..end], text.get(end), out);
                    at = end;
                    continue;
                }
                end
            }
            b'/' if text[at..].starts_with(b"//") => logical_end(text, at),
            quote @ (b'"' | b'\'') => quoted_end(text, at + 1, quote),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => word_end(text, at),
            _ => at + 1,
        };
        out.extend_from_slice(&text[at..end]);
        at = end;
    }
    at
}

/// Behind the next `what`, or the end of the text.
fn find(text: &[u8], from: usize, what: &[u8]) -> usize {
    let found = text.get(from..).and_then(|rest| rest.windows(what.len()).position(|window| window == what));
    found.map_or(text.len(), |length| from + length + what.len())
}

/// The end of the line, continued ones included; its newline is not part of it.
fn logical_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && text[at] != b'\n' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

/// Behind the closing quote; where there is none, the end of the line.
fn quoted_end(text: &[u8], mut at: usize, quote: u8) -> usize {
    while at < text.len() && text[at] != b'\n' {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    at.min(text.len())
}

/// Behind an identifier or number; behind the whole of a raw string if it starts one.
fn word_end(text: &[u8], at: usize) -> usize {
    let number = text[at].is_ascii_digit();
    let mut end = at;
    while let Some(byte) = text.get(end)
        && (byte.is_ascii_alphanumeric()
            || *byte == b'_'
            || *byte >= 0x80
            || (number && *byte == b'\'' && text.get(end + 1).is_some_and(u8::is_ascii_alphanumeric)))
    {
        end += 1;
    }
    let raw = matches!(&text[at..end], b"R" | b"LR" | b"uR" | b"UR" | b"u8R") && text.get(end) == Some(&b'"');
    if !raw {
        return end;
    }
    // A delimiter has at most 16 characters.
    let Some(length) = text[end + 1..].iter().take(17).position(|byte| *byte == b'(') else { return end };
    let close = [b")", &text[end + 1..end + 1 + length], b"\""].concat();
    find(text, end + 1 + length, &close)
}

/// Writes a comment without its words: of the same height, and of the same width if something follows on its last line.
fn empty_comment(text: &[u8], next: Option<&u8>, out: &mut Vec<u8>) {
    let inside = &text[2..text.len() - 2];
    let last = inside.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    out.extend_from_slice(b"/*");
    out.extend(inside[..last].iter().filter(|byte| **byte == b'\n'));
    if next.is_some_and(|byte| *byte != b'\n') {
        out.extend(std::iter::repeat_n(b' ', inside.len() - last));
    }
    out.extend_from_slice(b"*/");
}

/// Whether no warning can be about the comment: `-Wcomment`, `-Wimplicit-fallthrough`, `-Wtrigraphs`, `-Wbidi-chars`.
fn is_mere(text: &[u8]) -> bool {
    let closed = text.len() >= 4 && text.ends_with(b"*/");
    let plain = |byte: &u8| (byte.is_ascii_graphic() && !b"\\?".contains(byte)) || b" \t\n".contains(byte);
    closed
        && text.iter().all(plain)
        && !text[2..].windows(2).any(|pair| pair == b"/*")
        && !text.windows(4).any(|word| word.eq_ignore_ascii_case(b"fall") || word == b"lint")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(String::from_utf8(compilable(text.as_bytes())).unwrap(), expected, "{text}");
    }

    #[test]
    fn the_compilers_own_definitions_are_left_out() {
        check(
            "# 0 \"a.c\"\n# 0 \"<built-in>\"\n#define __STDC__ 1\n# 0 \"<command-line>\"\n#define D 1\n\
             # 1 \"p.h\" 1 3 4\nint p;\n# 0 \"<command-line>\" 2\n# 1 \"a.c\"\nint a;\n",
            "# 0 \"a.c\"\n# 1 \"p.h\" 1 3 4\nint p;\n# 0 \"a.c\" 2\n# 1 \"a.c\"\nint a;\n",
        );
    }

    #[test]
    fn comments_lose_their_words_and_nothing_else() {
        check("int a; /* one */\n", "int a; /**/\n");
        check("/* one */ int a;\n", "/*     */ int a;\n");
        check("/* one\n   two */ int a;\n", "/*\n       */ int a;\n");
        check("/* one\n * two\n */\nint a;\n", "/*\n\n*/\nint a;\n");
        check("int a; // one\n", "int a; // one\n");
        check("a; // x \\\n/* y */\n", "a; // x \\\n/* y */\n");
    }

    #[test]
    fn comments_that_mean_something_are_kept() {
        for kept in
            ["/* fall through */", "/* FALLTHRU */", "/* a /* b */", "/* ü */", "/* what?? */", "/* no end"]
        {
            check(kept, kept);
        }
    }

    #[test]
    fn what_only_looks_like_a_comment_is_kept() {
        for kept in [
            "s = \"/* no */\";\n",
            "s = \"\\\"/* no */\";\n",
            "c = '\"'; d = '\\''; s = \"/* no */\";\n",
            "s = R\"x(\" /* no */)x\";\n",
            "s = R\"(\n# 0 \"<built-in>\"\n)\";\n",
            "n = 1'000'000; s = \"/* no */\";\n",
            "/* fall\n# 0 \"<built-in>\"\n*/ int a;\n",
        ] {
            check(kept, kept);
        }
        check("#define Q don't\n/* yes */\n", "#define Q don't\n/**/\n");
    }

    #[test]
    fn any_bytes_at_all_are_read() {
        let pieces: [&[u8]; 9] = [b"/*", b"*/", b"\"", b"R\"(", b"\\", b"\n", b"# 0 \"", b"\xff", b"'"];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let text = [a, b, c].concat();
                    assert!(compilable(&text).len() <= text.len() + 8);
                }
            }
        }
    }
}
