//! Lambda's runtime API (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html): HTTP/1.1 on loopback.

use ggr_ir::protocol::lambda::{self, Invocation, MAX_MESSAGE};
use ureq::Agent;

use super::environment::Environment;

/// Why the loop ended. Lambda starts the program again.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime API did not answer, or not as it should.
    #[error("the runtime API at `{url}`")]
    Call {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// An invocation without an id cannot be answered.
    #[error("the runtime API gave an invocation without an id")]
    NoId,
}

/// The header with an invocation's id.
const ID: &str = "Lambda-Runtime-Aws-Request-Id";

/// Asks for invocations at `api` (host and port, as in `AWS_LAMBDA_RUNTIME_API`) and answers them, until the API goes away.
///
/// # Errors
/// See [`RuntimeError`].
pub fn serve(api: &str, environment: &mut Environment) -> Result<(), RuntimeError> {
    let base = format!("http://{api}/2018-06-01/runtime/invocation");
    // No time-out: the answer to `next` comes with the next invocation, which may be an hour away.
    let config = Agent::config_builder().http_status_as_error(false).build();
    let agent = Agent::new_with_config(config);
    loop {
        let (id, body) = next(&agent, &format!("{base}/next"))?;
        let (path, text) = match lambda::decode::<Invocation>(&body) {
            Ok(invocation) => ("response", lambda::encode(&environment.answer(&invocation))),
            Err(error) => ("error", refusal("ggr.Message", &error)),
        };
        // An answer that is too long would be refused, and the invocation fail without a reason.
        let (path, text) = match text.len() {
            length if length > MAX_MESSAGE => ("error", refusal("ggr.TooLong", &"the answer is too long")),
            _ => (path, text),
        };
        let url = format!("{base}/{id}/{path}");
        let failed = |source| RuntimeError::Call { url: url.clone(), source: Box::new(source) };
        let mut reply = agent.post(&url).content_type("application/json").send(text).map_err(failed)?;
        // Read to its end, so that the connection serves again. What it says (the invocation was given up meanwhile)
        // changes nothing.
        let _ = reply.body_mut().read_to_vec();
    }
}

fn next(agent: &Agent, url: &str) -> Result<(String, Vec<u8>), RuntimeError> {
    let failed = |source| RuntimeError::Call { url: url.to_owned(), source: Box::new(source) };
    let mut reply = agent.get(url).call().map_err(failed)?;
    if !reply.status().is_success() {
        return Err(failed(ureq::Error::StatusCode(reply.status().as_u16())));
    }
    let id = reply.headers().get(ID).and_then(|id| id.to_str().ok()).ok_or(RuntimeError::NoId)?.to_owned();
    let body = reply.body_mut().with_config().limit(MAX_MESSAGE as u64 + 1).read_to_vec().map_err(failed)?;
    Ok((id, body))
}

/// An error in the runtime API's form.
fn refusal(kind: &str, why: &dyn std::fmt::Display) -> String {
    let text: String =
        why.to_string().chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
    format!(r#"{{"errorType": "{kind}", "errorMessage": "{text}"}}"#)
}
