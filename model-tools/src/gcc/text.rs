//! What the text of a source file says beside its includes: the files that its line markers name, and what the
//! assembler will read because of it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use memchr::{memchr_iter, memmem};

use super::by_stamp::ByStamp;
use crate::model::FileView;

/// What was found in one file.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct TextFacts {
    /// The files that `#line` and `# 1 "file"` name. GCC opens one to show the line that a message is about.
    pub(super) markers: Vec<String>,
    /// `.incbin` or `.include` stands in it.
    pub(super) assembler_reads: bool,
    /// `__DATE__`, `__TIME__` or `__TIMESTAMP__` stands in it.
    pub(super) uses_time: bool,
    /// `__has_include` stands in it.
    pub(super) probes: bool,
}

/// The facts of files, valid while their stamps are the same.
#[derive(Default)]
pub(super) struct Texts {
    known: ByStamp<Arc<TextFacts>>,
}

impl Texts {
    /// The facts of a file at an absolute path.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] for a placeholder, and what reading it says.
    pub(super) fn of(&self, path: &Path, files: &dyn FileView) -> io::Result<Arc<TextFacts>> {
        self.known.of(path, files, || Ok(Arc::new(read(&files.read(path)?))))
    }
}

fn read(text: &[u8]) -> TextFacts {
    let markers: BTreeSet<&str> = memchr_iter(b'#', text).filter_map(|at| marker(&text[at + 1..])).collect();
    let has = |word: &str| memmem::find(text, word.as_bytes()).is_some();
    TextFacts {
        markers: markers.into_iter().map(str::to_owned).collect(),
        assembler_reads: has(".incbin") || has(".include"),
        uses_time: has("__DATE__") || has("__TIME__") || has("__TIMESTAMP__"),
        probes: has("__has_include"),
    }
}

/// The name in `line 12 "name"` or ` 12 "name"`, if that is what stands behind a `#`.
fn marker(text: &[u8]) -> Option<&str> {
    let text = blanks(text);
    let text = blanks(text.strip_prefix(b"line").unwrap_or(text));
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let name = blanks(&text[digits..]).strip_prefix(b"\"").filter(|_| digits > 0)?;
    let end = name.iter().position(|byte| matches!(byte, b'"' | b'\n' | b'\\'))?;
    let name = if name[end] == b'"' { &name[..end] } else { return None };
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.starts_with('<'))
}

fn blanks(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[count..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_markers_are_found() {
        let text = b"#line 1 \"a.y\"\n  # line 12\t\"b.l\" \n# 3 \"c.c\" 1 3\n#line 4\n# 1 \"<built-in>\"\n#line 5 \"a.y\"\n";
        assert_eq!(read(text).markers, ["a.y", "b.l", "c.c"]);
        assert!(read(b"# \"x\" #line \"y\" #1 \"broken\n").markers.is_empty());
    }

    #[test]
    fn words_that_matter_are_found() {
        let facts = read(b".incbin \"x\"\n__TIME__ __has_include");
        assert!(facts.assembler_reads && facts.uses_time && facts.probes);
        assert_eq!(read(b"plain"), TextFacts::default());
    }
}
