//! One `Invoke`, and what its failures mean.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::{DisplayErrorContext, SdkError};
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use ggr_ir::InfraFailure;
use ggr_ir::protocol::lambda::{Answer, MAX_MESSAGE, MessageError, decode};

/// How long to wait at least when the service says that there are too many invocations.
const THROTTLED: Duration = Duration::from_millis(200);

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// The Lambda service.
#[derive(Debug, Clone)]
pub struct Connection {
    client: Client,
}

/// What is known of AWS by the SDK's usual chain (environment, profile, instance); `endpoint` names another service.
pub(crate) async fn shared_config(endpoint: Option<&str>) -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    match (shared.region(), endpoint) {
        // Such services ignore the region; only the signature needs one.
        (None, Some(_)) => shared.into_builder().region(Region::new("us-east-1")).build(),
        _ => shared,
    }
}

/// Connects to the Lambda service; `endpoint` names another than AWS.
pub async fn connect(endpoint: Option<&str>) -> Connection {
    let config = aws_sdk_lambda::config::Builder::from(&shared_config(endpoint).await)
        // The scheduler retries, by kind of failure, on another function or backend if need be.
        .retry_config(RetryConfig::disabled());
    Connection { client: Client::from_conf(config.build()) }
}

impl Connection {
    /// A connection by a client that is there already.
    pub fn of(client: Client) -> Self {
        Self { client }
    }

    /// Invokes a function and waits for its answer.
    pub(super) async fn invoke(
        &self,
        function: &str,
        message: String,
        limit: Duration,
    ) -> Result<Answer, InfraFailure> {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(limit).build();
        let call = self.client.invoke().function_name(function).payload(Blob::new(message));
        let change = aws_sdk_lambda::config::Config::builder().timeout_config(timeouts);
        match call.customize().config_override(change).send().await {
            Ok(output) => answer(function, &output),
            Err(error) => Err(refused(function, &error)),
        }
    }
}

fn answer(function: &str, output: &InvokeOutput) -> Result<Answer, InfraFailure> {
    let payload = output.payload().map(Blob::as_ref).unwrap_or_default();
    if output.function_error().is_some() {
        return Err(function_failed(function, &String::from_utf8_lossy(&payload[..payload.len().min(2048)])));
    }
    if payload.len() > MAX_MESSAGE {
        return Err(InfraFailure::WorkerDied(format!("`{function}` answered {} bytes", payload.len())));
    }
    decode(payload).map_err(|error| match error {
        MessageError::Version { .. } => InfraFailure::Sandbox(format!(
            "`{function}` is of another version of ggr ({error}); `tests/bootstrap` builds the program of this one"
        )),
        // A broken line cuts answers off.
        other => InfraFailure::WorkerDied(format!("`{function}`: {other}")),
    })
}

/// A sign in a function's own failure, and the kind it is a sign of.
type Sign = (&'static str, fn(String) -> InfraFailure);

/// What a function's own failure says, by the texts that Lambda's documentation gives ("Troubleshoot execution issues").
const FUNCTION_FAILURES: [Sign; 5] = [
    ("Task timed out", |_| InfraFailure::DeadlinePassed),
    ("signal: killed", |text| InfraFailure::TooBig(format!("memory ran out: {text}"))),
    ("Runtime.OutOfMemory", |text| InfraFailure::TooBig(format!("memory ran out: {text}"))),
    ("ggr.TooLong", InfraFailure::TooBig),
    ("ggr.Message", InfraFailure::Sandbox),
];

fn function_failed(function: &str, text: &str) -> InfraFailure {
    let said = format!("`{function}` failed: {text}");
    match FUNCTION_FAILURES.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, failure)) => failure(said),
        None => InfraFailure::WorkerDied(said),
    }
}

fn refused(function: &str, error: &SdkError<InvokeError>) -> InfraFailure {
    let text = format!("`{function}`: {}", DisplayErrorContext(error));
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(|error| error.meta().code());
    match (error, status, code) {
        (SdkError::TimeoutError(_), ..) => InfraFailure::DeadlinePassed,
        (_, Some(429), _) | (_, _, Some("TooManyRequestsException" | "ThrottlingException")) => {
            InfraFailure::Throttled { after: THROTTLED }
        }
        (_, Some(413), _) | (_, _, Some("RequestTooLargeException")) => InfraFailure::TooBig(text),
        (_, Some(404), _) | (_, _, Some("ResourceNotFoundException")) => {
            InfraFailure::Unreachable(format!("there is no function {text}; README.md says how to make one"))
        }
        // The connection was there and broke: the function may have run.
        (SdkError::ResponseError(_), ..) => InfraFailure::WorkerDied(text),
        _ => InfraFailure::Unreachable(text),
    }
}
