//! Why modelling a call ends early.

use std::path::PathBuf;

use super::response::ExpandError;
use crate::link::Halt;
use crate::model::{Modelled, Reason};

/// An end before a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The command runs here.
    RunHere(Reason),
    /// These must be real first.
    Force(Vec<PathBuf>),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::RunHere(reason)
    }
}

impl From<ExpandError> for Stop {
    fn from(error: ExpandError) -> Self {
        match error {
            ExpandError::Placeholder(path) => Self::Force(vec![path]),
            ExpandError::RunHere(reason) => Self::RunHere(reason),
        }
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::RunHere(reason) => Self::RunHere(reason),
            Halt::Force(path) => Self::Force(vec![path]),
        }
    }
}

impl From<Stop> for Modelled {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::RunHere(reason) => Self::RunHere(reason),
            Stop::Force(paths) => Self::Force(paths),
        }
    }
}
