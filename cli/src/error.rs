//! What can go wrong in the command line, and the one place that says so.
//!
//! **Invariant:** an error is printed once, with its whole chain of causes, and with what to do next where that is known.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ggr_backends::lambda::ServiceError;
use ggr_backends::lambda::deploy::DeployError;
use ggr_backends::store::gc::GcError;
use ggr_backends::store::inventory::InventoryError;
use ggr_backends::store::shared::OpenError;
use ggr_ir::json::JsonError;
use ggr_ir::repo::{JournalError, RepoError, ThunkStoreError};
use ggr_ir::{ParseIdError, StoreError};

use crate::config::ConfigError;
use crate::coordinator::{RunError, StartError};
use crate::exit::Kind;
use crate::report::SinkError;

/// A failure of ggr itself; a build that fails is not one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// ggr's own arguments are wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A configuration file or variable is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no such command.
    #[error("`{0}` was not found")]
    CommandNotFound(String),
    /// The command could not be started.
    #[error("`{program}` cannot be run")]
    CannotRun {
        /// The command's first word.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read, written or changed.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// The verb, as `read`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was typed is no id.
    #[error(transparent)]
    NoId(#[from] ParseIdError),
    /// An id or a file that ggr knows nothing of.
    #[error("{what}")]
    Unknown {
        /// Says which.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A placeholder or thunk leads to something that is no longer there.
    #[error("{0}")]
    Gone(String),
    /// The shared store that was asked for cannot be used.
    #[error("cannot use the store `{address}`")]
    SharedStore {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository cannot be used.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A thunk could not be read from the repository.
    #[error(transparent)]
    Thunk(#[from] ThunkStoreError),
    /// The journal of placeholders cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A report could not be read or written.
    #[error(transparent)]
    Report(#[from] SinkError),
    /// The repository could not be listed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The repository could not be collected.
    #[error(transparent)]
    Collect(#[from] GcError),
    /// What was given as a thunk is none.
    #[error("`{place}`")]
    NoThunk {
        /// The file, or `standard input`.
        place: String,
        /// What is wrong with it.
        #[source]
        source: JsonError,
    },
    /// The build could not be run to its end.
    #[error(transparent)]
    Run(RunError),
    /// A thunk has no result, for a reason outside its program.
    #[error("the thunk could not be forced: {0}")]
    NotForced(String),
    /// The machine does not allow something.
    #[error("cannot {doing}")]
    Host {
        /// What ggr tried, as `create a mount namespace`.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// AWS, or what stands in for it, refused.
    #[error(transparent)]
    Aws(#[from] ServiceError),
    /// Functions were not set up, or not removed, to the end.
    #[error(transparent)]
    Deploy(DeployError),
    /// Something that this code holds to be impossible.
    #[error("internal error: {0}")]
    Bug(String),
}

impl Error {
    /// An `Io` error, for `map_err`.
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// A command that did not start.
    pub(crate) fn not_started(program: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::CommandNotFound(program),
            _ => Self::CannotRun { program, source },
        }
    }

    /// The kind, which decides the exit code.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Config(error) if error.is_usage() => Kind::Usage,
            Self::Usage { .. } | Self::NoId(_) | Self::NoThunk { .. } => Kind::Usage,
            Self::Config(_) => Kind::Config,
            Self::CommandNotFound(_) => Kind::NotFound,
            Self::CannotRun { .. } => Kind::CannotRun,
            Self::Io { .. } | Self::Report(_) => Kind::Other,
            Self::Unknown { .. } => Kind::Unknown,
            Self::Gone(_)
            | Self::Store(StoreError::Missing(_))
            | Self::Thunk(ThunkStoreError::Missing(_)) => Kind::Gone,
            Self::Repo(RepoError::RepositoryTooNew { .. }) => Kind::Version,
            Self::Store(_) | Self::Repo(_) | Self::Thunk(_) | Self::Journal(_) => Kind::Repository,
            Self::Inventory(_) | Self::Collect(_) | Self::SharedStore { .. } => Kind::Repository,
            Self::Run(error) => error.kind(),
            Self::NotForced(_) | Self::Aws(_) | Self::Deploy(_) => Kind::Infrastructure,
            Self::Host { .. } => Kind::Host,
            Self::Bug(_) => Kind::Bug,
        }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::Usage { hint, .. } | Self::Unknown { hint, .. } => return Some(hint.clone()),
            Self::Config(error) => return error.hint(),
            Self::CommandNotFound(name) => match nearest_command(name) {
                Some(nearest) => return Some(format!("did you mean `ggr {nearest}`?")),
                None => "check the spelling and `PATH`; ggr's own commands are in `ggr --help`",
            },
            Self::CannotRun { .. } => "check that the file is executable and made for this machine",
            Self::NoId(_) => "`ggr show FILE` prints the thunk behind a file, with its id",
            Self::Gone(_)
            | Self::Store(StoreError::Missing(_))
            | Self::Thunk(ThunkStoreError::Missing(_)) => "run the build again: what is missing is made anew",
            Self::Store(StoreError::Corrupt { .. }) | Self::Thunk(ThunkStoreError::Corrupt { .. }) => {
                "run the build again: what was damaged is made anew; `ggr verify` checks the rest of the store"
            }
            Self::Store(StoreError::Changed { .. }) => "let the file settle, then run the build again",
            Self::Store(StoreError::Io { .. }) | Self::Thunk(_) | Self::Journal(_) => {
                "check permissions and free space; `ggr doctor` looks at both"
            }
            Self::Repo(error) => repository_hint(error),
            Self::NotForced(_) => "`ggr doctor` shows what works here",
            Self::Host { .. } => "`ggr doctor` shows what this machine allows",
            Self::Bug(_) => "please report this, with the command and its output",
            Self::Collect(GcError::Running(_)) => "wait for the other one to end; two at once gain nothing",
            Self::Inventory(_) | Self::Collect(_) => "check permissions; `ggr doctor` looks at them",
            Self::NoThunk { .. } => "`ggr show FILE` prints a thunk in the form that is read here",
            Self::Run(error) => return error.hint(),
            Self::SharedStore { source: OpenError::Bucket(error), .. } => return Some(error.hint()),
            Self::SharedStore { source: OpenError::Threads(_), .. } => {
                "`ggr doctor` shows what this machine allows"
            }
            Self::Aws(error) | Self::Deploy(DeployError::Service { why: error, .. }) => aws_hint(error),
            Self::Deploy(DeployError::Package(_)) | Self::Io { .. } | Self::Report(_) => return None,
        };
        Some(fixed.to_owned())
    }
}

impl From<RunError> for Error {
    /// A command that does not start is told in the same words whoever tried to start it.
    fn from(error: RunError) -> Self {
        match error {
            RunError::Start(StartError::Command { command, source }) => Self::not_started(command, source),
            other => Self::Run(other),
        }
    }
}

/// The command of ggr's own that is most like this name, if any is.
fn nearest_command(name: &str) -> Option<String> {
    // As for configuration keys: one or two wrong letters in a word of six.
    let likeness = |command: &String| strsim::jaro(name, command);
    let nearest =
        crate::args::command_names().into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) > 0.7).then_some(nearest)
}

fn aws_hint(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::NoCredentials(_) => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run `aws configure` or `aws sso login`"
        }
        ServiceError::Expired { .. } => {
            "get new ones, as with `aws sso login`, and run the same command again"
        }
        ServiceError::BadCredentials { .. } => {
            "check AWS_PROFILE and the AWS_* variables: `aws sts get-caller-identity` tries them"
        }
        ServiceError::NoRegion => "set AWS_REGION, or `region` in the profile",
        ServiceError::Denied { .. } => {
            "`ggr lambda policy` prints the smallest policies; have the missing action allowed"
        }
        ServiceError::Missing { .. } => {
            "`ggr lambda deploy` makes what is missing; check AWS_REGION too: another region has other functions"
        }
        ServiceError::OtherRegion { .. } => {
            "set AWS_REGION to where it is, or name another one in `lambda-store`"
        }
        ServiceError::NoAnswer { .. } => {
            "check the network, AWS_ENDPOINT_URL and `lambda-endpoint` (`ggr config` says where it comes from)"
        }
        ServiceError::OtherVersion { .. } => "`ggr lambda deploy` puts this version's program there",
        ServiceError::Clock { .. } => "set the clock; AWS takes no signature that is five minutes off",
        ServiceError::Refused { .. } => "`ggr lambda status` shows what there is",
    }
}

fn repository_hint(error: &RepoError) -> &'static str {
    match error {
        RepoError::RepositoryTooNew { .. } => "use the newer ggr, or name another repository with `--dir`",
        _ => "name another repository with `--dir` or GGR_DIR, or remove this one: only a cache is lost",
    }
}

/// The error as the user sees it, without colours: `ggr: error: …: cause: cause` and a hint.
pub(crate) fn render(error: &Error) -> String {
    let mut text = format!("ggr: error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {}", lowercase_first(&error.to_string())).expect("writing to a string does not fail");
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        write!(text, "\nhint: {hint}").expect("writing to a string does not fail");
    }
    text.push('\n');
    text
}

/// Whether messages are coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paint {
    /// No escape sequences.
    Plain,
    /// What a message begins with stands out.
    Colour,
}

/// Prints the error and gives its exit code.
pub(crate) fn exit(error: &Error, paint: Paint) -> ExitCode {
    let text = render(error);
    match paint {
        Paint::Plain => eprint!("{text}"),
        Paint::Colour => eprint!("{}", coloured(&text)),
    }
    error.kind().into()
}

/// Bold red for the error's front, bold for the hint's.
fn coloured(text: &str) -> String {
    let red = text.replacen("ggr: error:", "\x1b[1;31mggr: error:\x1b[0m", 1);
    red.replacen("\nhint:", "\n\x1b[1mhint:\x1b[0m", 1)
}

/// Makes a panic a bug report of two lines, in place of Rust's own text; `RUST_BACKTRACE` still shows where.
pub(crate) fn report_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let what = info.payload_as_str().unwrap_or("panic");
        let place = info.location().map_or(String::new(), |place| format!(" at {place}"));
        eprint!("{}", render(&Error::Bug(format!("{what}{place}"))));
        if std::backtrace::Backtrace::capture().status() == std::backtrace::BacktraceStatus::Captured {
            default(info);
        }
    }));
}

/// Operating system errors begin with a capital; ours do not.
fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // Two capitals in a row are a name (`EOF`), not a sentence.
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(second).chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_chain_is_on_one_line_and_the_hint_below() {
        let error = Error::CannotRun { program: "./x".into(), source: io::Error::from_raw_os_error(13) };
        assert_eq!(
            render(&error),
            "ggr: error: `./x` cannot be run: permission denied (os error 13)\n\
             hint: check that the file is executable and made for this machine\n"
        );
        assert_eq!(error.kind().code(), 126);
    }

    #[test]
    fn a_cause_that_begins_with_a_name_keeps_it() {
        assert_eq!(lowercase_first("No such file"), "no such file");
        assert_eq!(lowercase_first("EOF reached"), "EOF reached");
        assert_eq!(lowercase_first(""), "");
    }
}
