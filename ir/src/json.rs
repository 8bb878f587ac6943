//! The public JSON form of a thunk, which `ggr show` prints and `ggr thunk create` reads.
//!
//! ```json
//! {
//!   "function": {
//!     "hash": "V…",                          the program: the object at its path
//!     "program": "/usr/bin/gcc",             its path; may be left out if one executable object has that hash
//!     "args": ["gcc", "-c", "a.c"],          argv[0] first
//!     "envs": ["LANG=C"],
//!     "dir": "/w"
//!   },
//!   "objects": ["V…=/w/a.c", "T…#/w/b.h=/w/b.h"],
//!   "modes": {"/usr/bin/gcc": "x", "/lib": "link", "/tmp": "dir"},   what is no regular file; may be left out
//!   "outputs": ["/w/a.o"],
//!   "harvest": "declared",                   or "everything"; may be left out
//!   "network": "none"                        or "tenant" or "own"; may be left out
//! }
//! ```
//!
//! An output whose name is not its path is `{"name": …, "path": …}`, and an object whose string could be split in two ways
//! (a path that holds `=/`) is `{"object": …, "path": …}`. Unknown keys are refused, duplicates too. Every thunk that a
//! model makes comes back the same from this form.

mod forms;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::Network;
use crate::path::RootPath;
use crate::thunk::{Command, Entry, Harvest, Mode, Object, Thunk};
use forms::{ObjectAt, ObjectText, OutputAt, Variable};

/// The longest text that a reader takes, in bytes.
pub const MAX_LEN: usize = 512 << 20;

/// Why a text is no thunk.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON, or a key is missing, unknown or holds the wrong thing. Says which, with line and column.
    #[error("this is not a thunk")]
    Syntax(#[source] serde_json::Error),
    /// A list names a path or an output twice.
    #[error("`{key}` holds `{item}` twice")]
    Twice {
        /// The list.
        key: &'static str,
        /// What it holds twice.
        item: String,
    },
    /// `modes` speaks of a path that is no object's.
    #[error("`modes` holds `{0}`, which is not the path of an object")]
    ModeOfNothing(RootPath),
    /// `function.program` is not the path of an object.
    #[error("`function.program` is `{0}`, which is not the path of an object")]
    NoProgram(RootPath),
    /// `function.hash` is not what stands at `function.program`.
    #[error("`function.hash` is `{hash}`, but the object at `{program}` is `{found}`")]
    OtherProgram {
        /// The path.
        program: RootPath,
        /// What it should be.
        hash: String,
        /// What is there.
        found: String,
    },
    /// `function.program` was left out, and not exactly one executable object has the hash.
    #[error("`function.program` is missing, and {found} executable objects have the hash in `function.hash`")]
    WhichProgram {
        /// How many have it.
        found: usize,
    },
    /// Longer than [`MAX_LEN`].
    #[error("a thunk of {0} bytes is too long")]
    TooLong(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    function: Function,
    objects: Vec<ObjectAt>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    modes: BTreeMap<RootPath, ModeName>,
    outputs: Vec<OutputAt>,
    #[serde(default, skip_serializing_if = "HarvestName::is_default")]
    harvest: HarvestName,
    #[serde(default, skip_serializing_if = "NetworkName::is_none")]
    network: NetworkName,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    hash: ObjectText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    program: Option<RootPath>,
    args: Vec<String>,
    #[serde(default)]
    envs: Vec<Variable>,
    dir: RootPath,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum ModeName {
    #[serde(rename = "file")]
    Regular,
    #[serde(rename = "x")]
    Executable,
    #[serde(rename = "link")]
    Symlink,
    #[serde(rename = "dir")]
    Directory,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HarvestName {
    #[default]
    Declared,
    Everything,
}

impl HarvestName {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NetworkName {
    #[default]
    None,
    Tenant,
    Own,
}

impl NetworkName {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl Thunk {
    /// The JSON form, indented, with a line feed at the end.
    pub fn to_json(&self) -> String {
        let document = Document {
            function: self.function(),
            objects: self
                .inputs
                .iter()
                .map(|(path, entry)| ObjectAt { object: entry.object.clone(), path: path.clone() })
                .collect(),
            modes: self
                .inputs
                .iter()
                .filter_map(|(path, entry)| Some((path.clone(), name(entry.mode)?)))
                .collect(),
            outputs: self
                .outputs
                .iter()
                .map(|(name, path)| OutputAt { name: name.clone(), path: path.clone() })
                .collect(),
            harvest: match self.harvest {
                Harvest::Declared => HarvestName::Declared,
                Harvest::Everything => HarvestName::Everything,
            },
            network: match self.network {
                Network::None => NetworkName::None,
                Network::Tenant => NetworkName::Tenant,
                Network::Own => NetworkName::Own,
            },
        };
        let mut text =
            serde_json::to_string_pretty(&document).expect("the document has text keys and no failing parts");
        text.push('\n');
        text
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// What is wrong with it: for syntax, keys and single values with line and column, else with the key.
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        if text.len() > MAX_LEN {
            return Err(JsonError::TooLong(text.len()));
        }
        let document: Document = serde_json::from_str(text).map_err(JsonError::Syntax)?;
        let mut inputs = BTreeMap::new();
        for ObjectAt { object, path } in document.objects {
            if inputs.insert(path.clone(), Entry { object, mode: Mode::Regular }).is_some() {
                return Err(JsonError::Twice { key: "objects", item: path.to_string() });
            }
        }
        for (path, name) in document.modes {
            match inputs.get_mut(&path) {
                Some(entry) => entry.mode = mode(name),
                None => return Err(JsonError::ModeOfNothing(path)),
            }
        }
        let mut outputs = BTreeMap::new();
        for OutputAt { name, path } in document.outputs {
            if outputs.insert(name.clone(), path).is_some() {
                return Err(JsonError::Twice { key: "outputs", item: name.0.to_string() });
            }
        }
        let harvest = match document.harvest {
            HarvestName::Declared => Harvest::Declared,
            HarvestName::Everything => Harvest::Everything,
        };
        let network = match document.network {
            NetworkName::None => Network::None,
            NetworkName::Tenant => Network::Tenant,
            NetworkName::Own => Network::Own,
        };
        Ok(Thunk { command: command(document.function, &inputs)?, inputs, outputs, harvest, network })
    }

    fn function(&self) -> Function {
        let command = &self.command;
        // A thunk without its program cannot run, but it can be shown.
        let none = Object::Blob(crate::hash::BlobId::of(b""));
        let hash = self.inputs.get(&command.program).map_or(none, |entry| entry.object.clone());
        Function {
            hash: ObjectText(hash),
            program: Some(command.program.clone()),
            args: command.args.clone(),
            envs: command.env.iter().map(|(name, value)| Variable(name.clone(), value.clone())).collect(),
            dir: command.dir.clone(),
        }
    }
}

fn command(function: Function, inputs: &BTreeMap<RootPath, Entry<Object>>) -> Result<Command, JsonError> {
    let ObjectText(hash) = function.hash;
    let program = match function.program {
        Some(program) => match inputs.get(&program) {
            None => return Err(JsonError::NoProgram(program)),
            Some(entry) if entry.object != hash => {
                let (hash, found) = (hash.to_string(), entry.object.to_string());
                return Err(JsonError::OtherProgram { program, hash, found });
            }
            Some(_) => program,
        },
        None => only_program(&hash, inputs)?,
    };
    let mut env = BTreeMap::new();
    for Variable(name, value) in function.envs {
        if env.insert(name.clone(), value).is_some() {
            return Err(JsonError::Twice { key: "function.envs", item: name });
        }
    }
    Ok(Command { program, args: function.args, env, dir: function.dir })
}

fn only_program(hash: &Object, inputs: &BTreeMap<RootPath, Entry<Object>>) -> Result<RootPath, JsonError> {
    let with_hash =
        inputs.iter().filter(|(_, entry)| entry.mode == Mode::Executable && entry.object == *hash);
    let paths: Vec<_> = with_hash.map(|(path, _)| path).collect();
    match paths[..] {
        [path] => Ok(path.clone()),
        _ => Err(JsonError::WhichProgram { found: paths.len() }),
    }
}

fn name(mode: Mode) -> Option<ModeName> {
    match mode {
        Mode::Regular => None,
        Mode::Executable => Some(ModeName::Executable),
        Mode::Symlink => Some(ModeName::Symlink),
        Mode::Directory => Some(ModeName::Directory),
    }
}

fn mode(name: ModeName) -> Mode {
    match name {
        ModeName::Regular => Mode::Regular,
        ModeName::Executable => Mode::Executable,
        ModeName::Symlink => Mode::Symlink,
        ModeName::Directory => Mode::Directory,
    }
}

#[cfg(test)]
mod tests;
