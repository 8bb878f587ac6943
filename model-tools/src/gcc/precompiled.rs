//! Precompiled headers that a call may take in place of a header's text.
//!
//! Such a call's thunk holds both, the files of the text and the `.gch`, and GCC takes one or the other there as it would
//! here. That is all that it reads only if the same macros are defined afterwards either way: else other files may be
//! included next. GCC compares the macros that are defined before (`cpp_valid_state`), but not the header's files with those
//! that it was made of. It does write down the size and MD5 of each of them (`_cpp_save_file_entries` in `files.cc`), and
//! these are compared here.
//!
//! **Invariant:** what passes was made of the bytes that the header's text is made of now.
//!
//! Left out, and therefore run here: a directory of several, of which GCC takes the first that fits in the order in which
//! the file system lists them; a header that is gone. Not seen: a `__has_include` that came out otherwise when the header
//! was precompiled, and that includes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ggr_ir::OutputRef;
use md5::{Digest, Md5};
use memchr::{memmem, memrchr};
use rustc_hash::{FxHashMap, FxHashSet};

use super::by_stamp::ByStamp;
use super::stop::Stop;
use crate::model::{FileView, Found, Reason};
use crate::scan::{Dep, Scan};

/// Size and MD5 of a file, as an entry of GCC's table starts (`struct pchf_entry` on a machine of 64 bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Content([u8; 24]);

/// How long an entry is: `once_only` and padding come last.
const ENTRY: usize = 32;

/// Before the entries: their number, and whether any is `once_only`, each in eight bytes.
const HEAD: usize = 16;

/// Longer paths the kernel does not take (`path_resolution(7)`).
const PATH_MAX: usize = 4096;

/// What the driver's source may be called that only includes the header (CMake: `cmake_pch.hxx.cxx`).
const STUBS: [&str; 2] = ["c", "cxx"];

/// What a precompiled header is made of.
#[derive(Debug)]
struct Made {
    contents: Vec<Content>,
    /// The files' names where they are relative. GCC opens one, from the directory that it is called in now, to show a line.
    names: Vec<String>,
}

/// What a header's text is.
struct Text<'a> {
    /// The header and what it includes.
    header: &'a [Dep],
    /// What is included before by itself (`stdc-predef.h`).
    before: &'a [Dep],
    dir: &'a Path,
}

/// What is known of precompiled headers and of the files that they are made of.
#[derive(Default)]
pub(super) struct Precompiled {
    files: ByStamp<Content>,
    /// Precompiled headers that were read.
    read: ByStamp<Arc<Made>>,
    /// Those that are still to be made.
    promised: Mutex<FxHashMap<OutputRef, Arc<Made>>>,
}

impl Precompiled {
    /// Notes what a precompiled header will be made of.
    pub(super) fn promise(&self, output: OutputRef, scan: &Scan, dir: &Path, files: &dyn FileView) {
        let contents: Option<Vec<Content>> =
            scan.deps.iter().map(|dep| self.content(dep, dir, files).ok()).collect();
        let names =
            scan.deps.iter().map(|dep| dep.path.clone()).filter(|path| !path.starts_with('/')).collect();
        if let Some(contents) = contents {
            let made = Arc::new(Made { contents, names });
            self.promised.lock().expect("no holder panics").insert(output, made);
        }
    }

    /// What GCC may read of what it finds at a path, once that is known to be made of the header's text: the precompiled header,
    /// and files that have the names of its own.
    ///
    /// # Errors
    /// [`Stop::RunHere`] if that is not so, [`Stop::Force`] if one must be made first.
    pub(super) fn at(
        &self,
        path: &Path,
        scan: &Scan,
        dir: &Path,
        files: &dyn FileView,
    ) -> Result<Vec<PathBuf>, Stop> {
        let Some(precompiled) = &scan.precompiled else { return Ok(Vec::new()) };
        let (first, end) = (precompiled.first, precompiled.end);
        let text = Text { header: &scan.deps[first..end], before: &scan.deps[1..first], dir };
        let found = match files.find(path) {
            Found::Directory => text.only_one_in(path, files)?,
            _ => Some(path.to_owned()),
        };
        let Some(gch) = found else { return Ok(Vec::new()) };
        let made = self.check(&gch, &text, files)?;
        let named = made.names.iter().map(|name| dir.join(name));
        let named =
            named.filter(|path| matches!(files.find(path), Found::File { .. } | Found::Placeholder(_)));
        Ok(std::iter::once(gch).chain(named).collect())
    }

    fn check(&self, gch: &Path, text: &Text<'_>, files: &dyn FileView) -> Result<Arc<Made>, Stop> {
        let content = |dep: &Dep| self.content(dep, text.dir, files);
        let first = content(text.header.first().ok_or_else(|| text.other())?)?;
        let made = self.made(gch, first, text, files)?;
        let mut rest = made.contents.clone();
        let mut take = |content: Content| {
            let at = rest.iter().position(|other| *other == content);
            at.map(|at| rest.swap_remove(at)).is_some()
        };
        for dep in text.header {
            if !take(content(dep)?) {
                return Err(text.other().into());
            }
        }
        for dep in text.before {
            take(content(dep)?);
        }
        match &rest[..] {
            [] => Ok(made),
            [source] if is_stub(gch, *source, files) => Ok(made),
            _ => Err(text.other().into()),
        }
    }

    /// What a precompiled header is made of.
    fn made(
        &self,
        gch: &Path,
        first: Content,
        text: &Text<'_>,
        files: &dyn FileView,
    ) -> Result<Arc<Made>, Stop> {
        if let Found::Placeholder(output) = files.find(gch) {
            let promised = self.promised.lock().expect("no holder panics").get(&output).cloned();
            return promised.ok_or_else(|| Stop::Force(vec![gch.to_owned()]));
        }
        self.read.of(gch, files, |_| {
            let bytes =
                files.read(gch).map_err(|error| Reason::Other(format!("`{}`: {error}", gch.display())))?;
            let contents = table(&bytes, first).ok_or_else(|| text.other())?;
            Ok(Arc::new(Made { contents, names: relative_names(&bytes, text.header) }))
        })
    }

    fn content(&self, dep: &Dep, dir: &Path, files: &dyn FileView) -> Result<Content, Reason> {
        let path = dir.join(&dep.path);
        self.files.of(&path, files, |_| {
            let bytes =
                files.read(&path).map_err(|error| Reason::Other(format!("`{}`: {error}", dep.path)))?;
            Ok(Content::of(&bytes))
        })
    }
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        let mut content = [0; 24];
        content[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        content[8..].copy_from_slice(&Md5::digest(bytes));
        Self(content)
    }
}

impl Text<'_> {
    fn name(&self) -> &str {
        self.header.first().map_or("", |dep| &dep.path)
    }

    /// Why a precompiled header does not stand for it.
    fn other(&self) -> Reason {
        Reason::Other(format!("`{}` is precompiled of other files", self.name()))
    }

    /// The file in a directory that holds no more than one.
    fn only_one_in(&self, gch: &Path, files: &dyn FileView) -> Result<Option<PathBuf>, Reason> {
        let names = files.names(gch);
        match names.as_deref() {
            Some([]) => Ok(None),
            Some([name]) => Ok(Some(gch.join(name))),
            _ => Err(Reason::Other(format!("`{}` is precompiled several times", self.name()))),
        }
    }
}

/// Whether a file of the table is a source beside the header that holds no directive.
fn is_stub(gch: &Path, content: Content, files: &dyn FileView) -> bool {
    // A directive may start with a digraph or a trigraph, too.
    let is_it =
        |bytes: &[u8]| Content::of(bytes) == content && !bytes.iter().any(|byte| b"#%?".contains(byte));
    STUBS.iter().any(|suffix| files.read(&gch.with_extension(suffix)).is_ok_and(|bytes| is_it(&bytes)))
}

/// The relative paths among a precompiled header's strings that end as those of these files do, but for the system's.
///
/// Costs some 0.1 s for 100 MB.
fn relative_names(bytes: &[u8], files: &[Dep]) -> Vec<String> {
    let base = |path: &[u8]| memrchr(b'/', path).map_or(0, |slash| slash + 1);
    let users = files.iter().map(|dep| dep.path.as_bytes()).filter(|path| !path.starts_with(b"/usr/"));
    let known: FxHashSet<&[u8]> = users.map(|path| &path[base(path)..]).collect();
    let shortest = known.iter().map(|name| name.len()).min().unwrap_or(usize::MAX);
    let strings = bytes.split(|byte| *byte == 0).filter(|text| text.len() >= shortest);
    let ascii = |text: &[u8]| text.iter().rposition(|byte| !(32..127).contains(byte)).map_or(0, |at| at + 1);
    let ends = |text: &&[u8]| known.contains(&text[base(text)..]) || known.contains(&text[ascii(text)..]);
    let paths = strings.filter(ends).flat_map(paths_in);
    let is_one =
        |path: &&str| !path.starts_with('/') && known.contains(&path.as_bytes()[base(path.as_bytes())..]);
    let names: BTreeSet<&str> = paths.filter(is_one).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// The paths that a string may be. It stands in a copy of GCC's memory, in some of a hundred files right behind another
/// object's last bytes (`ggc_pch_write_object` in `ggc-page.cc`): where there are such that no path has, each end of what
/// is behind them may be the path.
fn paths_in(string: &[u8]) -> impl Iterator<Item = &str> {
    let tail = &string[string.len().saturating_sub(PATH_MAX)..];
    let tail = &tail[tail.iter().rposition(u8::is_ascii_control).map_or(0, |at| at + 1)..];
    let text = (0..tail.len()).find_map(|at| std::str::from_utf8(&tail[at..]).ok()).unwrap_or_default();
    let ends = if text.len() == string.len() { 1 } else { text.len() };
    text.char_indices().take(ends).map(|(at, _)| &text[at..])
}

/// The table in a precompiled header, found by one of its entries. It stands near the end.
fn table(bytes: &[u8], known: Content) -> Option<Vec<Content>> {
    let mut start = memmem::rfind(bytes, &known.0)?;
    loop {
        let head = start.checked_sub(HEAD)?;
        if let Some(contents) = entries(&bytes[head..]) {
            return Some(contents);
        }
        start = start.checked_sub(ENTRY)?;
    }
}

/// The entries of a table that starts here, if one does.
fn entries(bytes: &[u8]) -> Option<Vec<Content>> {
    let count = u64::from_le_bytes(*bytes.first_chunk()?);
    let length = usize::try_from(count).ok()?.checked_mul(ENTRY)?;
    let entries = bytes.get(HEAD..HEAD.checked_add(length)?)?;
    let is_flag = |bytes: &[u8]| bytes[0] <= 1 && bytes[1..].iter().all(|byte| *byte == 0);
    if count == 0 || !is_flag(&bytes[8..HEAD]) {
        return None;
    }
    let content = |entry: &[u8]| {
        let (content, flag) = entry.split_first_chunk::<24>()?;
        is_flag(flag).then_some(Content(*content))
    };
    entries.chunks_exact(ENTRY).map(content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, once: u8) -> Vec<u8> {
        [&Content::of(text.as_bytes()).0[..], &[once, 0, 0, 0, 0, 0, 0, 0]].concat()
    }

    fn file(entries: &[Vec<u8>]) -> Vec<u8> {
        let count = (entries.len() as u64).to_le_bytes();
        [b"gpch and more".as_slice(), &count, &[1, 0, 0, 0, 0, 0, 0, 0], &entries.concat(), &[0; 4]].concat()
    }

    #[test]
    fn a_table_is_found_by_any_of_its_entries() {
        let bytes = file(&[entry("a", 0), entry("b", 1), entry("c", 0)]);
        let expected: Vec<Content> =
            ["a", "b", "c"].iter().map(|text| Content::of(text.as_bytes())).collect();
        for text in ["a", "b", "c"] {
            assert_eq!(table(&bytes, Content::of(text.as_bytes())).as_ref(), Some(&expected), "{text}");
        }
        assert_eq!(table(&bytes, Content::of(b"d")), None);
    }

    #[test]
    fn relative_names_of_its_files_are_found() {
        let dep = |path: &str| Dep { path: path.into(), system: false, generated: false };
        let check = |bytes: &[u8], expected: &[&str]| {
            assert_eq!(relative_names(bytes, &[dep("./a.h"), dep("/y/b.h")]), expected);
        };
        check(b"\0\0inc/a.h\0/x/b.h\0b.h\0\0sub/../a.h\0c.h\0xa.h\0", &["b.h", "inc/a.h", "sub/../a.h"]);
        // Other objects' bytes in front of it.
        check(b"\0\x01\xffa.h\0", &["a.h"]);
        check(b"\0\xec\xff\xff\xffd/a.h\0\x02b.h\0", &["a.h", "b.h", "d/a.h"]);
        check(b"\0\xff/x/a.h\0", &["a.h", "x/a.h"]);
    }

    #[test]
    fn what_is_no_table_is_none() {
        let check = |bytes: &[u8]| assert_eq!(table(bytes, Content::of(b"a")), None, "{bytes:?}");
        check(b"");
        check(&entry("a", 0));
        check(&file(&[entry("b", 0)]));
        check(&file(&[entry("a", 2)]));
        let bytes = file(&[entry("b", 0), entry("a", 0)]);
        check(&bytes[..bytes.len() - 5]);
    }
}
