//! What can be wrong with a configuration.

use std::io;
use std::path::PathBuf;

use ggr_models::user::UserError;

use super::value::Origin;

/// A mistake in a configuration file, variable or flag.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is there but cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// There is no such key.
    #[error("{}:{line}:{column}: unknown key `{key}`", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The key.
        key: String,
        /// The valid key that is most like it.
        nearest: Option<&'static str>,
    },
    /// A description of a tool is wrong.
    #[error(transparent)]
    Tool(#[from] UserError),
    /// A value that its key does not take.
    #[error("{}: {}`{text}` is not {expected}", origin.place(), origin.key_prefix(key))]
    BadValue {
        /// Where it was written.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// The value.
        text: String,
        /// What the key takes.
        expected: &'static str,
    },
}

impl ConfigError {
    /// Whether the mistake is in ggr's arguments.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::BadValue { origin: Origin::Flag(_), .. })
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`? `ggr config` lists every key"))
            }
            Self::UnknownKey { .. } | Self::BadValue { .. } => {
                Some("`ggr config --keys` lists every key and what it takes".to_owned())
            }
            Self::Syntax { .. } => Some("the file is TOML: `key = \"value\"`, one a line".to_owned()),
            Self::Tool(_) => Some("README.md shows how a tool is described".to_owned()),
            Self::Read { .. } => None,
        }
    }
}
