//! Exit codes: which number says what.
//!
//! The build's own exit status comes through unchanged (128 + the signal's number if a signal ended it, as shells say it).
//! ggr's own failures take numbers that compilers, make, ninja and test runners do not use, each kind its own. 125, 126
//! and 127 mean what they mean for `env`, `nohup`, `timeout` and `docker run`.
//!
//! **Invariant:** a number, once released, keeps its meaning. SPECIFICATION.md and `ggr --help` show this table.

use std::fmt::Write;
use std::process::ExitCode;

/// Why ggr itself failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `ggr verify`, `ggr doctor` and their like found something wrong.
    Findings,
    /// An id or a file that ggr knows nothing of.
    Unknown,
    /// A placeholder or a thunk leads to something that is no longer there.
    Gone,
    /// The repository was written by a newer ggr.
    Version,
    /// The machine does not allow what ggr needs.
    Host,
    /// A mistake in a configuration file or a `GGR_*` variable.
    Config,
    /// The repository or store cannot be read or written.
    Repository,
    /// The place where thunks run failed.
    Infrastructure,
    /// A mistake in ggr's own arguments.
    Usage,
    /// A bug in ggr.
    Bug,
    /// ggr failed in another way.
    Other,
    /// The command was found but could not be started.
    CannotRun,
    /// There is no such command.
    NotFound,
}

/// Every kind: its code, and its line in `ggr --help`.
const TABLE: &[(Kind, u8, &str)] = &[
    (Kind::Findings, 1, "the check found something wrong (verify, doctor)"),
    (Kind::Unknown, 116, "an id or a file that ggr does not know"),
    (Kind::Gone, 117, "a placeholder or thunk leads to something that is gone"),
    (Kind::Version, 118, "the repository was written by another version of ggr"),
    (Kind::Host, 119, "this machine does not allow what ggr needs"),
    (Kind::Config, 120, "a mistake in a configuration file or GGR_* variable"),
    (Kind::Repository, 121, "the repository or store cannot be read or written"),
    (Kind::Infrastructure, 122, "the place where thunks run failed"),
    (Kind::Usage, 123, "a mistake in ggr's own arguments"),
    (Kind::Bug, 124, "a bug in ggr"),
    (Kind::Other, 125, "ggr failed in another way"),
    (Kind::CannotRun, 126, "the command cannot be run"),
    (Kind::NotFound, 127, "the command was not found"),
];

impl Kind {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        TABLE.iter().find(|row| row.0 == self).map_or(125, |row| row.1)
    }
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        ExitCode::from(kind.code())
    }
}

/// The table as `ggr --help` and the man page show it.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "Exit codes:\n  The build's own comes through (128 + N if signal N ended it). ggr's own:\n",
    );
    for (_, code, meaning) in TABLE {
        writeln!(text, "  {code:>3}  {meaning}").expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_code() {
        let mut codes: Vec<u8> = TABLE.iter().map(|row| row.1).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TABLE.len());
        assert_eq!(Kind::Other.code(), 125);
        assert_eq!(Kind::CannotRun.code(), 126);
        assert_eq!(Kind::NotFound.code(), 127);
    }

    #[test]
    fn the_specification_lists_every_code() {
        let specification = include_str!("../../SPECIFICATION.md");
        for (_, code, meaning) in TABLE {
            assert!(specification.contains(&format!("| {code} | {meaning} |")), "{code} {meaning}");
        }
    }
}
