//! One run of one program over content-addressed inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hash::{BlobId, ParseIdError, ThunkId};
use crate::job::Network;
use crate::path::RootPath;

/// The name of one of a thunk's outputs, unique within it. Models use the output's path as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct OutputName(pub Arc<str>);

impl From<&str> for OutputName {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// An output of a thunk that has perhaps not run yet; prints as `T…#name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct OutputRef {
    /// The thunk that makes it.
    pub thunk: ThunkId,
    /// Which of its outputs.
    pub name: OutputName,
}

impl fmt::Display for OutputRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.thunk, self.name.0)
    }
}

/// What a thunk's input is: bytes that exist, or bytes that another thunk will make.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub enum Object {
    /// Bytes that exist.
    Blob(BlobId),
    /// An output of another thunk.
    Output(OutputRef),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Blob(id) => id.fmt(f),
            Object::Output(output) => output.fmt(f),
        }
    }
}

impl FromStr for Object {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.starts_with('T')
            && let Some((thunk, name)) = text.split_once('#')
        {
            return Ok(Object::Output(OutputRef { thunk: thunk.parse()?, name: name.into() }));
        }
        text.parse().map(Object::Blob)
    }
}

/// What stands at an input's path, in the way of git's tree modes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub enum Mode {
    /// A file that is not executable.
    Regular,
    /// An executable file.
    Executable,
    /// A symbolic link; the blob's bytes are its target.
    Symlink,
    /// A directory that must exist though nothing may be in it; the blob is empty.
    Directory,
}

/// What stands at one path of a thunk's root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub struct Entry<O> {
    /// The bytes.
    pub object: O,
    /// The kind of file.
    pub mode: Mode,
}

/// What is called, and how.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub struct Command {
    /// The program's file, an input of the thunk.
    pub program: RootPath,
    /// The arguments, the name it is called by (`argv[0]`) first.
    pub args: Vec<String>,
    /// The whole environment: what its model lists and nothing else.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub dir: RootPath,
}

/// Which of the files that the program leaves behind are its outputs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
pub enum Harvest {
    /// The declared ones; each must be there, and what else was written is dropped.
    Declared,
    /// Every regular file that was written, created or changed outside `/tmp`, `/dev`, `/proc` and `/var/tmp`, and every
    /// declared one. Undeclared ones are named by their path. A file of the inputs that was removed, or a new symlink,
    /// device or directory with nothing in it, is an effect that a reduction cannot hold: the attempt fails as
    /// [`ToolFailure::unrepresentable`](crate::job::ToolFailure) and the command runs here.
    Everything,
}

/// One run of one program over content-addressed inputs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Thunk<O = Object> {
    /// What is called.
    pub command: Command,
    /// What the program may read: files at absolute paths, and nothing else.
    pub inputs: BTreeMap<RootPath, Entry<O>>,
    /// What it writes.
    pub outputs: BTreeMap<OutputName, RootPath>,
    /// How undeclared writes are taken.
    pub harvest: Harvest,
    /// The network that the program sees; with [`Network::None`] it is no part of the id. Not sent: a job's
    /// [limits](crate::job::Limits::network) tell it to a worker.
    #[serde(skip)]
    pub network: Network,
}

/// A thunk with nothing left to wait for: the only thing that a backend ever sees.
pub type ReadyThunk = Thunk<BlobId>;

impl Thunk<Object> {
    /// The outputs of other thunks that this one reads.
    pub fn waits_for(&self) -> BTreeSet<OutputRef> {
        self.inputs
            .values()
            .filter_map(|entry| match &entry.object {
                Object::Output(output) => Some(output.clone()),
                Object::Blob(_) => None,
            })
            .collect()
    }

    /// Replaces every output by the blob that it became.
    ///
    /// # Errors
    /// The outputs that `known` has no blob for.
    pub fn resolve(
        &self,
        known: impl Fn(&OutputRef) -> Option<BlobId>,
    ) -> Result<ReadyThunk, BTreeSet<OutputRef>> {
        let mut missing = BTreeSet::new();
        // Collected, not inserted one after the other: what comes in order fills the map's nodes to the brim.
        let inputs = self.inputs.iter().filter_map(|(path, entry)| {
            let object = match &entry.object {
                Object::Blob(id) => Some(*id),
                Object::Output(output) => known(output).or_else(|| {
                    missing.insert(output.clone());
                    None
                }),
            };
            Some((path.clone(), Entry { object: object?, mode: entry.mode }))
        });
        let inputs = inputs.collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        Ok(Thunk {
            command: self.command.clone(),
            inputs,
            outputs: self.outputs.clone(),
            harvest: self.harvest,
            network: self.network,
        })
    }

    /// Replaces those outputs that `known` has a blob for.
    pub fn resolve_some(&self, known: impl Fn(&OutputRef) -> Option<BlobId>) -> Self {
        let mut thunk = self.clone();
        for entry in thunk.inputs.values_mut() {
            if let Object::Output(output) = &entry.object
                && let Some(blob) = known(output)
            {
                entry.object = Object::Blob(blob);
            }
        }
        thunk
    }

    /// As [`resolve`](Self::resolve), for those who do not need the thunk any more: its command, paths and names are moved.
    ///
    /// # Errors
    /// The thunk as it was, and an output that `known` has no blob for.
    pub fn into_ready(
        self,
        known: impl Fn(&OutputRef) -> Option<BlobId>,
    ) -> Result<ReadyThunk, Box<(Self, OutputRef)>> {
        let mut blobs = Vec::with_capacity(self.inputs.len());
        for entry in self.inputs.values() {
            let blob = match &entry.object {
                Object::Blob(id) => Some(*id),
                Object::Output(output) => known(output),
            };
            let Some(blob) = blob else { break };
            blobs.push(blob);
        }
        if let Some(Entry { object: Object::Output(output), .. }) = self.inputs.values().nth(blobs.len()) {
            let output = output.clone();
            return Err(Box::new((self, output)));
        }
        let inputs = self.inputs.into_iter().zip(blobs);
        Ok(Thunk {
            command: self.command,
            inputs: inputs
                .map(|((path, entry), object)| (path, Entry { object, mode: entry.mode }))
                .collect(),
            outputs: self.outputs,
            harvest: self.harvest,
            network: self.network,
        })
    }
}
