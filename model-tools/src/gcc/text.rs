//! What the text of a source file says beside its includes: the files that its line markers name, and what the
//! assembler will read because of it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use memchr::{memchr_iter, memmem};
use rustc_hash::FxHashSet;

use super::by_stamp::ByStamp;
use crate::model::FileView;

/// The version of the records, their first byte: another one when [`read`] looks for something else.
const VERSION: u8 = 1;

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

/// The most stamps that are remembered between sessions, at eight bytes each.
const MOST: usize = 100_000;

/// The facts of files, valid while their stamps are the same. Most files have none, which is remembered between sessions.
#[derive(Default)]
pub(crate) struct Texts {
    known: ByStamp<Arc<TextFacts>>,
    /// The stamps of files of which an earlier session found that they say nothing.
    silent: FxHashSet<u64>,
    /// Those that were met in this one.
    met: Mutex<FxHashSet<u64>>,
}

impl Texts {
    /// Begins with what [`Texts::records`] gave; with nothing if it is damaged or of another version.
    pub(crate) fn new(records: &[u8]) -> Self {
        let stamps: Option<Vec<u64>> = records
            .split_first()
            .filter(|(version, _)| **version == VERSION)
            .and_then(|(_, rest)| postcard::from_bytes(rest).ok());
        Self { silent: stamps.unwrap_or_default().into_iter().collect(), ..Self::default() }
    }

    /// What is worth remembering, for a file: this session's, and of the earlier ones' as many as there is room for.
    pub(crate) fn records(&self) -> Vec<u8> {
        let met = self.met.lock().expect("no holder panics");
        let earlier = self.silent.difference(&met).take(MOST.saturating_sub(met.len()));
        let stamps: Vec<u64> = met.iter().chain(earlier).copied().collect();
        postcard::to_extend(&stamps, vec![VERSION]).expect("numbers can be encoded")
    }

    /// The facts of a file at an absolute path.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] for a placeholder, and what reading it says.
    pub(super) fn of(&self, path: &Path, files: &dyn FileView) -> io::Result<Arc<TextFacts>> {
        self.known.of(path, files, |stamp| {
            let silent = stamp.is_some_and(|stamp| self.silent.contains(&stamp));
            let facts = if silent { TextFacts::default() } else { read(&files.read(path)?) };
            if let Some(stamp) = stamp.filter(|_| facts == TextFacts::default()) {
                self.met.lock().expect("no holder panics").insert(stamp);
            }
            Ok(Arc::new(facts))
        })
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
    use crate::testing::DiskView;

    #[test]
    fn line_markers_are_found() {
        let text = b"#line 1 \"a.y\"\n  # line 12\t\"b.l\" \n# 3 \"c.c\" 1 3\n#line 4\n# 1 \"<built-in>\"\n#line 5 \"a.y\"\n";
        assert_eq!(read(text).markers, ["a.y", "b.l", "c.c"]);
        assert!(read(b"# \"x\" #line \"y\" #1 \"broken\n").markers.is_empty());
    }

    #[test]
    fn what_says_nothing_is_not_read_again_in_another_session() {
        let (dir, files) = (tempfile::tempdir().unwrap(), DiskView::new());
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("silent.c", "int a;");
        write("told.c", "#line 1 \"a.y\"\n");
        let texts = Texts::default();
        let of = |texts: &Texts, name: &str| texts.of(&dir.path().join(name), &files).unwrap();
        assert_eq!((of(&texts, "silent.c").markers.len(), of(&texts, "told.c").markers.len()), (0, 1));
        let again = Texts::new(&texts.records());
        assert_eq!(again.silent.len(), 1);
        assert_eq!((of(&again, "silent.c").markers.len(), of(&again, "told.c").markers.len()), (0, 1));
        write("silent.c", "#line 1 \"b.y\"\n");
        assert_eq!(of(&again, "silent.c").markers, ["b.y"]);
        assert_eq!(Texts::new(&again.records()[1..]).silent.len(), 0, "another version");
    }

    #[test]
    fn words_that_matter_are_found() {
        let facts = read(b".incbin \"x\"\n__TIME__ __has_include");
        assert!(facts.assembler_reads && facts.uses_time && facts.probes);
        assert_eq!(read(b"plain"), TextFacts::default());
    }
}
