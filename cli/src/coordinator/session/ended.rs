//! Why a call is not served by a reduction, and how a pass over the build goes on.

use ggr_backends::drive::Failure;
use ggr_ir::ToolFailure;
use ggr_models::Reason;
use ggr_models::gcc::PREPROCESSOR_FAILS;

/// Why a call is not served by a reduction.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// Its model said so.
    Modelled(Reason),
    /// Its thunk's program failed in the sandbox.
    ToolFailed(ToolFailure),
    /// No place could run it.
    Infra(String),
    /// Something it waits for failed.
    Poisoned,
    /// Its outputs cannot be written.
    Unwritable(String),
    /// The build is being stopped.
    Cancelled,
}

impl Ended {
    /// Whether the real tool counts against the local slots: a question for its version should not wait for compiles.
    pub(crate) fn takes_slot(&self) -> bool {
        !matches!(self, Ended::Modelled(Reason::Query))
    }

    /// Whether the real tool will most likely fail.
    pub(super) fn foretells_failure(&self) -> bool {
        match self {
            Ended::Modelled(Reason::MissingInput(_)) => true,
            Ended::Modelled(Reason::Other(why)) => why == PREPROCESSOR_FAILS,
            _ => false,
        }
    }

    pub(super) fn why(&self) -> String {
        match self {
            Ended::Modelled(reason) => reason.to_string(),
            Ended::ToolFailed(failure) => match &failure.unrepresentable {
                Some(what) => what.clone(),
                None => {
                    let stderr = String::from_utf8_lossy(&failure.stderr);
                    format!("`{}`", stderr.lines().next().unwrap_or("it failed"))
                }
            },
            Ended::Infra(why) => why.clone(),
            Ended::Poisoned => "something that it reads could not be made".into(),
            Ended::Unwritable(why) => format!("its outputs cannot be written: {why}"),
            Ended::Cancelled => "the build is being stopped".into(),
        }
    }
}

impl From<&Failure> for Ended {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Tool(failure) => Ended::ToolFailed(failure.clone()),
            Failure::Poisoned { .. } => Ended::Poisoned,
            Failure::Cancelled | Failure::Stopped => Ended::Cancelled,
            other => Ended::Infra(other.to_string()),
        }
    }
}

/// How a pass over the build is going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Course {
    /// Nothing has gone wrong.
    Going,
    /// A deferred call has failed: the build command must be run again, with every call waiting.
    Again,
    /// ggr itself cannot go on; says why.
    Broken(String),
}
