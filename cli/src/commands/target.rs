//! What a user names: a thunk's id, an output of one, a blob, or a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ggr_ir::placeholder;
use ggr_ir::repo::{Repo, ThunkStoreError};
use ggr_ir::{BlobId, Object, OutputRef, Thunk, ThunkId};

use super::Context;
use crate::error::Error;
use crate::report::log::{self, Line};

/// What a word on the command line stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A thunk, by its id.
    Thunk(ThunkId),
    /// A file that is a placeholder.
    Placeholder(PathBuf, OutputRef),
    /// A file that a thunk made, by the log.
    Made(PathBuf, ThunkId),
    /// Bytes.
    Blob(BlobId),
}

impl Target {
    /// Finds out what the word stands for: an id if it is one, else a file.
    pub(super) fn find(context: &Context, repo: &Repo, word: &Path) -> Result<Self, Error> {
        let text = word.to_str().unwrap_or_default();
        if let Ok(id) = text.parse::<ThunkId>() {
            return Ok(Self::Thunk(id));
        }
        match text.parse::<Object>() {
            Ok(Object::Blob(id)) => return Ok(Self::Blob(id)),
            Ok(Object::Output(output)) => return Ok(Self::Thunk(output.thunk)),
            Err(e) if looks_like_an_id(text) => return Err(e.into()),
            Err(_) => {}
        }
        let file = context.absolute(word);
        if let Some(output) = read_placeholder(&file)? {
            return Ok(Self::Placeholder(file, output));
        }
        if !file.exists() {
            return Err(Error::Unknown {
                what: format!("`{}` is neither an id nor a file", word.display()),
                hint: "ids begin with `T` or `V`; `ggr graph` lists the thunks of the last build".to_owned(),
            });
        }
        match made_by(repo, &file)? {
            Some(id) => Ok(Self::Made(file, id)),
            None => Err(Error::Unknown {
                what: format!("no thunk that ggr remembers made `{}`", file.display()),
                hint: "`ggr why` tells what it knows about a file; sources are made by no thunk".to_owned(),
            }),
        }
    }

    /// The thunk behind it; an error for a blob, which has none.
    pub(super) fn thunk_id(&self) -> Result<ThunkId, Error> {
        match self {
            Self::Thunk(id) | Self::Made(_, id) => Ok(*id),
            Self::Placeholder(_, output) => Ok(output.thunk),
            Self::Blob(id) => Err(Error::Usage {
                message: format!("`{id}` is a blob, and a thunk is needed"),
                hint: "a thunk's id begins with `T`".to_owned(),
            }),
        }
    }

    /// The file, if it was named by one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Placeholder(path, _) | Self::Made(path, _) => Some(path),
            Self::Thunk(_) | Self::Blob(_) => None,
        }
    }

    /// Reads the thunk behind it.
    pub(super) fn thunk(&self, repo: &Repo) -> Result<Thunk, Error> {
        let id = self.thunk_id()?;
        match (repo.thunks().get(id), self) {
            (Ok(thunk), _) => Ok(thunk),
            (Err(ThunkStoreError::Missing(_)), Self::Thunk(_)) => Err(Error::Unknown {
                what: format!("there is no thunk {id} in `{}`", repo.root().display()),
                hint: "`ggr graph` lists the thunks of the last build; `--dir` names another repository"
                    .to_owned(),
            }),
            (Err(ThunkStoreError::Missing(_)), Self::Placeholder(file, _) | Self::Made(file, _)) => {
                Err(Error::Gone(format!("the thunk behind `{}` is gone ({id})", file.display())))
            }
            (Err(e), _) => Err(e.into()),
        }
    }
}

/// The output that a file stands for; nothing if it is no placeholder.
pub(super) fn read_placeholder(file: &Path) -> Result<Option<OutputRef>, Error> {
    let Ok(found) = std::fs::metadata(file) else { return Ok(None) };
    if !found.is_file() || found.len() > placeholder::MAX_LEN {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(placeholder::MAX_LEN).read_to_end(&mut bytes));
    read.map_err(Error::io("read", file))?;
    Ok(placeholder::parse(&bytes))
}

/// The repository that a word on the command line is about: a placeholder without one leads nowhere.
pub(super) fn repository_of(context: &Context, word: &Path) -> Result<Repo, Error> {
    context.repository().or_else(|error| match read_placeholder(&context.absolute(word))? {
        Some(output) => {
            let file = context.absolute(word);
            Err(Error::Gone(format!(
                "the thunk behind `{}` is gone with its repository ({output})",
                file.display()
            )))
        }
        None => Err(error),
    })
}

/// The placeholders in a directory and below it, ordered by path. Repositories are passed over, symlinks not followed.
pub(super) fn placeholders_below(directory: &Path) -> Result<Vec<Target>, Error> {
    let mut found = Vec::new();
    let mut pending = vec![directory.canonicalize().map_err(Error::io("look at", directory))?];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).map_err(Error::io("list", &directory))? {
            let entry = entry.map_err(Error::io("list", &directory))?;
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != ggr_ir::repo::NAME => pending.push(path),
                Ok(kind) if kind.is_file() => {
                    found.extend(read_placeholder(&path)?.map(|output| Target::Placeholder(path, output)));
                }
                // Neither, or it has gone meanwhile.
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.path().cmp(&b.path()));
    Ok(found)
}

/// The thunk that made a file last.
fn made_by(repo: &Repo, file: &Path) -> Result<Option<ThunkId>, Error> {
    let lines = log::read(repo.root())?;
    Ok(lines.iter().rev().find_map(|line| match line {
        Line::Call(record) if record.outputs.iter().any(|output| output == file) => {
            record.thunk.as_deref()?.parse().ok()
        }
        _ => None,
    }))
}

/// A letter and many hexadecimal digits: a file of such a name is named as `./T…`.
fn looks_like_an_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['T', 'V']) else { return false };
    rest.len() >= 16 && rest.bytes().take(16).all(|b| b.is_ascii_hexdigit())
}
