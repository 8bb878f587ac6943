//! One `Invoke`, and what its failures mean.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::{DisplayErrorContext, SdkError};
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use ggr_ir::InfraFailure;
use ggr_ir::protocol::lambda::{Answer, MAX_MESSAGE, MessageError, decode};

use super::aws::{self, Call, ServiceError};

/// How long to wait at least when the service says that there are too many invocations.
const THROTTLED: Duration = Duration::from_millis(200);

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a call may take that runs no thunk.
const QUICK: Duration = Duration::from_secs(60);

/// The kind of failure that a function answers with when it does not take the message it got (`runtime-shim/src/lambda/runtime.rs`).
const FOREIGN: &str = "ggr.Message";

/// The Lambda service.
#[derive(Debug, Clone)]
pub struct Connection {
    client: Client,
    config: Option<SdkConfig>,
}

/// An answer.
pub(super) struct Received {
    pub(super) answer: Answer,
    /// Its length on the line.
    pub(super) bytes: usize,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Failed {
    /// The attempt has failed; the next one need not.
    Attempt(InfraFailure),
    /// All that follow will fail too.
    Lasting(ServiceError),
    /// Nobody is there, perhaps for the moment.
    Nobody(ServiceError),
}

/// For calls that answer at once.
pub(super) fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(QUICK).build()
}

/// Connects to the Lambda service; `endpoint` names another than AWS.
pub async fn connect(endpoint: Option<&str>) -> Connection {
    let shared = aws::shared_config(endpoint).await;
    let config = aws_sdk_lambda::config::Builder::from(&shared)
        // The scheduler retries, by kind of failure, on another function or backend if need be.
        .retry_config(RetryConfig::disabled());
    Connection { client: Client::from_conf(config.build()), config: Some(shared) }
}

impl Connection {
    /// A connection by a client that is there already.
    pub fn of(client: Client) -> Self {
        Self { client, config: None }
    }

    /// Whether there are a region and credentials. Asks nobody but the SDK's chain.
    ///
    /// # Errors
    /// [`ServiceError::NoRegion`], [`ServiceError::NoCredentials`].
    pub async fn check(&self) -> Result<(), ServiceError> {
        match &self.config {
            Some(config) => aws::check(config).await,
            None => Ok(()),
        }
    }

    /// Invokes a function and waits for its answer.
    pub(super) async fn invoke(
        &self,
        function: &str,
        message: String,
        limit: Duration,
    ) -> Result<Received, Failed> {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(limit).build();
        let call = self.client.invoke().function_name(function).payload(Blob::new(message));
        let change = aws_sdk_lambda::config::Config::builder().timeout_config(timeouts);
        match call.customize().config_override(change).send().await {
            Ok(output) => answer(function, &output),
            Err(error) => Err(self.refused(function, &error)),
        }
    }

    fn refused(&self, function: &str, error: &SdkError<InvokeError>) -> Failed {
        let text = format!("`{function}`: {}", DisplayErrorContext(error));
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.as_service_error().and_then(|error| error.meta().code());
        let failure = match (error, status, code) {
            (SdkError::TimeoutError(_), ..) => InfraFailure::DeadlinePassed,
            (_, Some(429), _) | (_, _, Some("TooManyRequestsException" | "ThrottlingException")) => {
                InfraFailure::Throttled { after: THROTTLED }
            }
            (_, Some(413), _) | (_, _, Some("RequestTooLargeException")) => InfraFailure::TooBig(text),
            // The connection was there and broke: the function may have run.
            (SdkError::ResponseError(_), ..) => InfraFailure::WorkerDied(text),
            (SdkError::ServiceError(_), Some(status), _) if status < 500 => {
                match self.call(function, |call| call.explain(error)) {
                    ServiceError::Refused { .. } => InfraFailure::Unreachable(text),
                    lasting => return Failed::Lasting(lasting),
                }
            }
            (SdkError::DispatchFailure(_), ..) => {
                return Failed::Nobody(self.call(function, |call| call.explain(error)));
            }
            _ => InfraFailure::Unreachable(text),
        };
        Failed::Attempt(failure)
    }

    fn call<T>(&self, function: &str, then: impl FnOnce(Call<'_>) -> T) -> T {
        let place = self.config.as_ref().map_or_else(|| "its service".to_owned(), aws::place);
        let resource = format!("function `{function}`");
        then(Call { action: "lambda:InvokeFunction", resource: &resource, place: &place })
    }
}

fn answer(function: &str, output: &InvokeOutput) -> Result<Received, Failed> {
    let payload = output.payload().map(Blob::as_ref).unwrap_or_default();
    let died = |text: String| Failed::Attempt(InfraFailure::WorkerDied(text));
    if output.function_error().is_some() {
        return Err(function_failed(function, &String::from_utf8_lossy(&payload[..payload.len().min(2048)])));
    }
    if payload.len() > MAX_MESSAGE {
        return Err(died(format!("`{function}` answered {} bytes", payload.len())));
    }
    match decode(payload) {
        Ok(answer) => Ok(Received { answer, bytes: payload.len() }),
        Err(error @ MessageError::Version { .. }) => Err(other_version(function, error.to_string())),
        // A broken line cuts answers off.
        Err(other) => Err(died(format!("`{function}`: {other}"))),
    }
}

fn other_version(function: &str, text: String) -> Failed {
    Failed::Lasting(ServiceError::OtherVersion { resource: format!("function `{function}`"), text })
}

/// A sign in a function's own failure, and the kind it is a sign of.
type Sign = (&'static str, fn(String) -> InfraFailure);

/// What a function's own failure says, by the texts that Lambda's documentation gives ("Troubleshoot execution issues").
const FUNCTION_FAILURES: [Sign; 4] = [
    ("Task timed out", |_| InfraFailure::DeadlinePassed),
    ("signal: killed", |text| InfraFailure::TooBig(format!("memory ran out: {text}"))),
    ("Runtime.OutOfMemory", |text| InfraFailure::TooBig(format!("memory ran out: {text}"))),
    ("ggr.TooLong", InfraFailure::TooBig),
];

/// A function's own failure, in Lambda's form.
#[derive(serde::Deserialize)]
struct Said {
    #[serde(default, rename = "errorType")]
    kind: String,
    #[serde(default, rename = "errorMessage")]
    message: String,
}

fn function_failed(function: &str, text: &str) -> Failed {
    if let Ok(said) = serde_json::from_str::<Said>(text)
        && said.kind == FOREIGN
    {
        return other_version(function, said.message);
    }
    let said = format!("`{function}` failed: {text}");
    Failed::Attempt(match FUNCTION_FAILURES.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, failure)) => failure(said),
        None => InfraFailure::WorkerDied(said),
    })
}
