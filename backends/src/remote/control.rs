//! What an operator asks of a service.

use ggr_ir::InfraFailure;
use ggr_ir::protocol::service::{FromService, Status, ToService};

use super::connection::Connection;
use super::{RemoteOptions, confused};

/// A connection for questions, without a store.
#[derive(Debug)]
pub struct Control(Connection);

/// Why a service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be reached, or refuses.
    #[error("`{0}`")]
    Unreachable(String, #[source] std::io::Error),
    /// The connection broke.
    #[error(transparent)]
    Broke(#[from] InfraFailure),
    /// It says why not.
    #[error("the service says: {0}")]
    Refused(String),
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn open(options: &RemoteOptions) -> Result<Self, ControlError> {
        let opened = Connection::open(options, None).await;
        opened.map(Self).map_err(|e| ControlError::Unreachable(options.address.to_string(), e))
    }

    /// What there is.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn status(&self) -> Result<Status, ControlError> {
        match self.0.ask(|seq| ToService::Status { seq }).await? {
            FromService::Status { status, .. } => Ok(*status),
            other => Err(ControlError::Refused(confused(&other).to_string())),
        }
    }

    /// Has a place for this program made ready; returns when it is.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn warm(&self, program: &str) -> Result<(), ControlError> {
        self.carry(|seq| ToService::Warm { seq, program: program.to_owned() }).await
    }

    /// Has the service take no more jobs and end; returns when those that ran have ended.
    ///
    /// # Errors
    /// If this token may not.
    pub async fn drain(&self) -> Result<(), ControlError> {
        self.carry(|seq| ToService::Drain { seq }).await
    }

    async fn carry(&self, request: impl FnOnce(u64) -> ToService) -> Result<(), ControlError> {
        match self.0.ask(request).await? {
            FromService::Carried { outcome, .. } => outcome.map_err(ControlError::Refused),
            other => Err(ControlError::Refused(confused(&other).to_string())),
        }
    }
}
