//! Translation phases 1 and 2: byte-order mark, line ends, trigraphs and spliced lines.

use std::borrow::Cow;

use memchr::memmem;

use super::mode::Mode;

/// A file's text without splices and trigraphs, ending in a newline.
pub(crate) struct Clean<'a> {
    pub(crate) text: Cow<'a, [u8]>,
    /// For each place where raw bytes were left out: the position in the clean text, and the raw position that follows.
    pub(crate) cuts: Vec<Cut>,
}

/// One place where clean and raw text differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Where in the clean text.
    pub(crate) clean: usize,
    /// Where the raw text goes on.
    pub(crate) raw: usize,
    /// How many newlines were left out.
    pub(crate) lines: u32,
}

impl<'a> Clean<'a> {
    pub(crate) fn new(raw: &'a [u8], mode: Mode) -> Clean<'a> {
        let start = if raw.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let trigraphs = mode.has(Mode::TRIGRAPHS) && memmem::find(raw, b"??").is_some();
        let odd = trigraphs || has_splice(raw) || memmem::find(raw, b"\r\n").is_some();
        if !odd {
            let text = match raw.last() {
                Some(b'\n') | None => Cow::Borrowed(&raw[start..]),
                Some(_) => {
                    let mut text = Vec::with_capacity(raw.len() + 1);
                    text.extend_from_slice(&raw[start..]);
                    text.push(b'\n');
                    Cow::Owned(text)
                }
            };
            let cuts = if start == 0 { Vec::new() } else { vec![Cut { clean: 0, raw: start, lines: 0 }] };
            return Clean { text, cuts };
        }
        rewrite(raw, start, trigraphs)
    }

    /// The raw position of a position in the clean text.
    pub(crate) fn raw_position(&self, clean: usize) -> usize {
        let after = self.cuts.partition_point(|cut| cut.clean <= clean);
        match after.checked_sub(1).map(|at| self.cuts[at]) {
            Some(cut) => cut.raw + (clean - cut.clean),
            None => clean,
        }
    }

    /// The clean position of a raw position that was not left out.
    pub(crate) fn clean_position(&self, raw: usize) -> usize {
        let after = self.cuts.partition_point(|cut| cut.raw <= raw);
        match after.checked_sub(1).map(|at| self.cuts[at]) {
            Some(cut) => cut.clean + (raw - cut.raw),
            None => raw,
        }
    }
}

fn has_splice(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', raw).any(|at| splice_end(raw, at).is_some())
}

/// If the backslash here joins two lines: where the next line starts. GCC allows white space between.
fn splice_end(raw: &[u8], backslash: usize) -> Option<usize> {
    let mut at = backslash + 1;
    while let Some(byte) = raw.get(at) {
        match byte {
            b'\n' => return Some(at + 1),
            b' ' | b'\t' | b'\x0c' | b'\x0b' | b'\0' | b'\r' => at += 1,
            _ => return None,
        }
    }
    None
}

fn rewrite(raw: &[u8], start: usize, trigraphs: bool) -> Clean<'static> {
    let mut text = Vec::with_capacity(raw.len() + 1);
    let mut cuts = Vec::new();
    if start != 0 {
        cuts.push(Cut { clean: 0, raw: start, lines: 0 });
    }
    let mut at = start;
    let mut from = start;
    while let Some(found) = memchr::memchr3(b'\\', b'\r', b'?', &raw[at..]) {
        at += found;
        let (replacement, backslash_end, trigraph) = match raw[at] {
            b'\r' if raw.get(at + 1) == Some(&b'\n') => {
                text.extend_from_slice(&raw[from..at]);
                cuts.push(Cut { clean: text.len(), raw: at + 1, lines: 0 });
                from = at + 1;
                at += 1;
                continue;
            }
            b'?' if trigraphs && raw.get(at + 1) == Some(&b'?') => match trigraph(raw.get(at + 2)) {
                Some(byte) => (byte, at + 2, true),
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\\' => (b'\\', at, false),
            _ => {
                at += 1;
                continue;
            }
        };
        if replacement == b'\\'
            && let Some(end) = splice_end(raw, backslash_end)
        {
            text.extend_from_slice(&raw[from..at]);
            cuts.push(Cut { clean: text.len(), raw: end, lines: 1 });
            (from, at) = (end, end);
        } else if trigraph {
            text.extend_from_slice(&raw[from..at]);
            text.push(replacement);
            cuts.push(Cut { clean: text.len(), raw: at + 3, lines: 0 });
            (from, at) = (at + 3, at + 3);
        } else {
            at += 1;
        }
    }
    text.extend_from_slice(&raw[from..]);
    if text.last().is_some_and(|&byte| byte != b'\n') {
        text.push(b'\n');
    }
    Clean { text: Cow::Owned(text), cuts }
}

fn trigraph(third: Option<&u8>) -> Option<u8> {
    let byte = match third? {
        b'=' => b'#',
        b'(' => b'[',
        b'/' => b'\\',
        b')' => b']',
        b'\'' => b'^',
        b'<' => b'{',
        b'!' => b'|',
        b'>' => b'}',
        b'-' => b'~',
        _ => return None,
    };
    Some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, mode: Mode, expected: &str) {
        assert_eq!(Clean::new(raw.as_bytes(), mode).text.as_ref(), expected.as_bytes(), "{raw:?}");
    }

    #[test]
    fn lines_are_spliced() {
        check("a\\\nb\n", Mode(0), "ab\n");
        check("a\\ \t\nb", Mode(0), "ab\n");
        check("a\\\r\nb\r\n", Mode(0), "ab\n");
        check("a??/\nb", Mode::TRIGRAPHS, "ab\n");
        check("a??/\nb", Mode(0), "a??/\nb\n");
        check("??=if ???)", Mode::TRIGRAPHS, "#if ?]\n");
        check("\u{feff}x", Mode(0), "x\n");
    }
}
