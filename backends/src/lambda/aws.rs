//! AWS as the SDK finds it (environment, profile, instance), and what its refusals mean.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// A refusal of AWS, or of what stands in for it, by what the user has to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The SDK found none.
    #[error("there are no AWS credentials: {0}")]
    NoCredentials(String),
    /// They were good once.
    #[error("the AWS credentials have expired ({action}: {text})")]
    Expired {
        /// What was asked.
        action: String,
        /// In the service's words.
        text: String,
    },
    /// No account has them, or the secret is not theirs.
    #[error("AWS does not take these credentials ({action}: {text})")]
    BadCredentials {
        /// What was asked.
        action: String,
        /// In the service's words.
        text: String,
    },
    /// Neither a variable nor a profile names one.
    #[error("no AWS region is set")]
    NoRegion,
    /// A policy does not allow it.
    #[error("the credentials are not allowed `{action}` on {resource}: {text}")]
    Denied {
        /// The action as policies name it, `lambda:InvokeFunction`.
        action: String,
        /// On what.
        resource: String,
        /// In the service's words.
        text: String,
    },
    /// It is not there.
    #[error("there is no {resource} ({place})")]
    Missing {
        /// What is not there.
        resource: String,
        /// Where it was looked for.
        place: String,
    },
    /// It is there, in another region.
    #[error("{resource} is in another region than {place}: {text}")]
    OtherRegion {
        /// What.
        resource: String,
        /// Where it was looked for.
        place: String,
        /// In the service's words.
        text: String,
    },
    /// No connection, or none that lasted.
    #[error("no answer to {action} ({place}): {text}")]
    NoAnswer {
        /// What was asked.
        action: String,
        /// Where.
        place: String,
        /// Why.
        text: String,
    },
    /// Function and program do not understand each other.
    #[error("{resource} is of another version of ggr: {text}")]
    OtherVersion {
        /// Which function.
        resource: String,
        /// Both versions.
        text: String,
    },
    /// The clocks differ by more than signatures allow.
    #[error("this machine's clock is wrong ({action}: {text})")]
    Clock {
        /// What was asked.
        action: String,
        /// In the service's words.
        text: String,
    },
    /// Anything else.
    #[error("{action} on {resource}: {text}")]
    Refused {
        /// What was asked.
        action: String,
        /// On what.
        resource: String,
        /// In the service's words.
        text: String,
    },
}

/// What was asked of which service, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// As policies name it.
    pub(super) action: &'a str,
    /// On what, as `function `ggr-0``.
    pub(super) resource: &'a str,
    /// Region or endpoint.
    pub(super) place: &'a str,
}

impl Call<'_> {
    /// What a refusal means. `code` and `text` are the service's.
    pub(super) fn refused(self, status: u16, code: &str, text: &str) -> ServiceError {
        let (resource, place) = (self.resource.to_owned(), self.place.to_owned());
        let (action, text) = (self.action.to_owned(), text.to_owned());
        match (code, status) {
            ("ExpiredToken" | "ExpiredTokenException" | "RequestExpired", _) => {
                ServiceError::Expired { action, text }
            }
            (
                "InvalidClientTokenId"
                | "UnrecognizedClientException"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidSignatureException"
                | "InvalidToken"
                | "AuthFailure",
                _,
            ) => ServiceError::BadCredentials { action, text },
            ("RequestTimeTooSkewed", _) => ServiceError::Clock { action, text },
            ("AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation", _) => {
                ServiceError::Denied { action: named_action(&text).unwrap_or(action), resource, text }
            }
            (
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => ServiceError::OtherRegion { resource, place, text },
            ("NoSuchBucket" | "NoSuchEntity" | "ResourceNotFoundException" | "NotFound", _) | (_, 404) => {
                ServiceError::Missing { resource, place }
            }
            // A HEAD has no body that would say so.
            ("", 403) => ServiceError::Denied { action, resource, text: "forbidden".to_owned() },
            _ if text.is_empty() => {
                ServiceError::Refused { action, resource, text: format!("status {status} {code}") }
            }
            _ => ServiceError::Refused { action, resource, text: format!("{text} ({code})") },
        }
    }

    /// What a failed request means.
    pub(super) fn explain<E>(self, error: &SdkError<E>) -> ServiceError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match (error.as_service_error(), error.raw_response()) {
            (Some(service), Some(response)) => self.refused(
                response.status().as_u16(),
                service.code().unwrap_or_default(),
                service.message().unwrap_or_default(),
            ),
            _ => ServiceError::NoAnswer {
                action: self.action.to_owned(),
                place: self.place.to_owned(),
                text: DisplayErrorContext(error).to_string(),
            },
        }
    }
}

/// The action that the service itself names: passing a role is refused where a function is made.
fn named_action(text: &str) -> Option<String> {
    let rest = text.split_once("not authorized to perform: ")?.1;
    let action = rest.split_whitespace().next()?;
    action.contains(':').then(|| action.to_owned())
}

/// What is known of AWS by the SDK's usual chain; `endpoint` names another service.
pub(crate) async fn shared_config(endpoint: Option<&str>) -> SdkConfig {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    match (shared.region(), shared.endpoint_url()) {
        // Such services ignore the region; only the signature needs one.
        (None, Some(_)) => shared.into_builder().region(Region::new("us-east-1")).build(),
        _ => shared,
    }
}

/// Where requests go, for errors.
pub(super) fn place(config: &SdkConfig) -> String {
    match (config.endpoint_url(), config.region()) {
        (Some(endpoint), _) => format!("at {endpoint}"),
        (None, Some(region)) => format!("region {region}"),
        (None, None) => "no region".to_owned(),
    }
}

/// Whether there are a region and credentials to ask with. Asks nobody but the chain.
///
/// # Errors
/// [`ServiceError::NoRegion`], [`ServiceError::NoCredentials`].
pub(super) async fn check(config: &SdkConfig) -> Result<(), ServiceError> {
    use aws_sdk_lambda::config::ProvideCredentials;
    if config.region().is_none() {
        return Err(ServiceError::NoRegion);
    }
    let Some(provider) = config.credentials_provider() else {
        return Err(ServiceError::NoCredentials("no provider".to_owned()));
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(ServiceError::NoCredentials(DisplayErrorContext(error).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_is_to_be_done() {
        let call = Call {
            action: "lambda:CreateFunction",
            resource: "function `ggr-0`",
            place: "region eu-central-1",
        };
        let check = |status, code: &str, text: &str, expected: &str| {
            assert_eq!(call.refused(status, code, text).to_string(), expected, "{code}");
        };
        check(
            403,
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "the AWS credentials have expired (lambda:CreateFunction: The security token included in the request is expired)",
        );
        check(
            403,
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/u is not authorized to perform: iam:PassRole on resource: r",
            "the credentials are not allowed `iam:PassRole` on function `ggr-0`: User: arn:aws:iam::1:user/u is not \
             authorized to perform: iam:PassRole on resource: r",
        );
        check(
            403,
            "",
            "",
            "the credentials are not allowed `lambda:CreateFunction` on function `ggr-0`: forbidden",
        );
        check(404, "ResourceNotFoundException", "x", "there is no function `ggr-0` (region eu-central-1)");
        check(
            301,
            "PermanentRedirect",
            "x",
            "function `ggr-0` is in another region than region eu-central-1: x",
        );
        check(
            500,
            "ServiceException",
            "",
            "lambda:CreateFunction on function `ggr-0`: status 500 ServiceException",
        );
        check(403, "RequestTimeTooSkewed", "x", "this machine's clock is wrong (lambda:CreateFunction: x)");
    }
}
