//! What a bucket refused, and what to do about it.

use std::error::Error as _;
use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// What a failure means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// There is no such object.
    Gone,
    /// There is no such bucket.
    NoBucket,
    /// No credentials were found, or what provides them failed.
    NoCredentials,
    /// The credentials are those of nobody, or signed wrongly.
    BadCredentials,
    /// The credentials have expired.
    Expired,
    /// The credentials do not allow the action.
    Denied,
    /// No region is named.
    NoRegion,
    /// The bucket is in another region; this one, if the service says it.
    WrongRegion(Option<String>),
    /// The service cannot be reached.
    Unreachable,
    /// The service is overloaded, or failed by itself.
    Busy,
    /// The connection broke in the middle of an answer, or the answer makes no sense.
    Cut,
    /// Something else.
    Other,
}

impl Trouble {
    /// Whether there is no use in trying again in this build.
    pub(crate) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Gone | Self::Busy | Self::Cut)
    }
}

/// A request that failed for good, after the SDK's own retries.
#[derive(Clone, Debug)]
pub struct S3Error {
    /// What it means.
    pub trouble: Trouble,
    /// The action that failed, as IAM policies name it: `s3:GetObject`.
    pub action: &'static str,
    pub(super) bucket: String,
    pub(super) endpoint: String,
    pub(super) detail: String,
}

impl S3Error {
    /// One that nobody met, for tests.
    #[cfg(test)]
    pub(crate) fn of(trouble: Trouble, action: &'static str) -> Self {
        Self { trouble, action, bucket: "b".into(), endpoint: "e".into(), detail: String::new() }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let (action, bucket) = (self.action, &self.bucket);
        match &self.trouble {
            Trouble::NoBucket => format!("make the bucket `{bucket}`, or correct its name in `--store`"),
            Trouble::NoCredentials => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or log in with `aws sso login`".into()
            }
            Trouble::BadCredentials => "check the access key, its secret, and this machine's clock; `aws sts get-caller-identity` tries them".into(),
            Trouble::Expired => "get new credentials (`aws sso login`, or the tool that gave you these)".into(),
            Trouble::Denied => format!("allow `{action}` on `{bucket}` in the policy of these credentials; README.md has the smallest one"),
            Trouble::NoRegion => "set AWS_REGION to the bucket's region".into(),
            Trouble::WrongRegion(Some(region)) => format!("set AWS_REGION={region}"),
            Trouble::WrongRegion(None) => "set AWS_REGION to the bucket's region".into(),
            Trouble::Unreachable => "check the network and the endpoint (`--endpoint-url`, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL)".into(),
            Trouble::Busy | Trouble::Cut => "try again later, or build without `--store`".into(),
            Trouble::Gone | Trouble::Other => "build without `--store` if it lasts".into(),
        }
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, bucket, endpoint, detail, .. } = self;
        let what = match &self.trouble {
            Trouble::Gone => "there is no such object".to_owned(),
            Trouble::NoBucket => "there is no such bucket".to_owned(),
            Trouble::NoCredentials => "there are no credentials".to_owned(),
            Trouble::BadCredentials => "the credentials are not accepted".to_owned(),
            Trouble::Expired => "the credentials have expired".to_owned(),
            Trouble::Denied => format!("the credentials do not allow `{action}`"),
            Trouble::NoRegion => "no region is named".to_owned(),
            Trouble::WrongRegion(_) => "the bucket is in another region".to_owned(),
            Trouble::Unreachable => "it cannot be reached".to_owned(),
            Trouble::Busy => "the service is busy".to_owned(),
            Trouble::Cut => "the answer was cut off".to_owned(),
            Trouble::Other => "the request failed".to_owned(),
        };
        write!(f, "bucket `{bucket}` at {endpoint}: {what} ({action}")?;
        if detail.is_empty() { f.write_str(")") } else { write!(f, ": {detail})") }
    }
}

impl std::error::Error for S3Error {}

/// Codes of errors, as S3's "Error responses" lists them.
const CODES: &[(&str, Trouble)] = &[
    ("AccessDenied", Trouble::Denied),
    ("AccountProblem", Trouble::Denied),
    ("AllAccessDisabled", Trouble::Denied),
    ("AuthorizationHeaderMalformed", Trouble::WrongRegion(None)),
    ("ExpiredToken", Trouble::Expired),
    ("ExpiredTokenException", Trouble::Expired),
    ("IllegalLocationConstraintException", Trouble::WrongRegion(None)),
    ("InternalError", Trouble::Busy),
    ("InvalidAccessKeyId", Trouble::BadCredentials),
    ("InvalidToken", Trouble::BadCredentials),
    ("NoSuchBucket", Trouble::NoBucket),
    ("NoSuchKey", Trouble::Gone),
    ("PermanentRedirect", Trouble::WrongRegion(None)),
    ("RequestTimeout", Trouble::Cut),
    ("RequestTimeTooSkewed", Trouble::BadCredentials),
    ("ServiceUnavailable", Trouble::Busy),
    ("SignatureDoesNotMatch", Trouble::BadCredentials),
    ("SlowDown", Trouble::Busy),
    ("TokenRefreshRequired", Trouble::Expired),
];

/// What an SDK's error means, and its text.
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> (Trouble, String)
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let response = error.raw_response();
    let status = response.map(|response| response.status().as_u16());
    let region =
        response.and_then(|response| response.headers().get("x-amz-bucket-region")).map(str::to_owned);
    let trouble = match error {
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => Trouble::Unreachable,
        // What is asked before anything is sent is who we are.
        SdkError::DispatchFailure(_) => Trouble::NoCredentials,
        SdkError::TimeoutError(_) => Trouble::Unreachable,
        SdkError::ResponseError(_) => Trouble::Cut,
        SdkError::ServiceError(_) => by_code(error.code(), status),
        _ => Trouble::Other,
    };
    let trouble = match trouble {
        Trouble::WrongRegion(_) => Trouble::WrongRegion(region),
        other => other,
    };
    (trouble, detail(error))
}

fn by_code(code: Option<&str>, status: Option<u16>) -> Trouble {
    if let Some((_, trouble)) = CODES.iter().find(|(name, _)| Some(*name) == code) {
        return trouble.clone();
    }
    match status {
        Some(301) => Trouble::WrongRegion(None),
        Some(401 | 403) => Trouble::Denied,
        Some(404) => Trouble::Gone,
        Some(408) => Trouble::Cut,
        Some(429 | 500 | 502..=504) => Trouble::Busy,
        _ => Trouble::Other,
    }
}

/// What the service said, or else the innermost cause.
fn detail<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    if let (Some(code), message) = (error.code(), error.message()) {
        return message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}"));
    }
    let mut innermost = error.source();
    while let Some(cause) = innermost.and_then(std::error::Error::source) {
        innermost = Some(cause);
    }
    innermost.map_or_else(|| DisplayErrorContext(error).to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_in_spirit_and_mean_what_the_status_cannot_say() {
        assert_eq!(by_code(Some("ExpiredToken"), Some(400)), Trouble::Expired);
        assert_eq!(by_code(Some("SlowDown"), Some(503)), Trouble::Busy);
        assert_eq!(by_code(Some("NoSuchBucket"), Some(404)), Trouble::NoBucket);
        assert_eq!(by_code(None, Some(404)), Trouble::Gone);
        assert_eq!(by_code(Some("SomethingNew"), Some(403)), Trouble::Denied);
        assert_eq!(by_code(None, None), Trouble::Other);
    }

    #[test]
    fn a_refusal_names_bucket_endpoint_and_action() {
        let error = S3Error {
            trouble: Trouble::Denied,
            action: "s3:PutObject",
            bucket: "team".into(),
            endpoint: "http://127.0.0.1:9".into(),
            detail: "AccessDenied".into(),
        };
        assert_eq!(
            error.to_string(),
            "bucket `team` at http://127.0.0.1:9: the credentials do not allow `s3:PutObject` (s3:PutObject: AccessDenied)"
        );
        assert!(error.hint().contains("allow `s3:PutObject` on `team`"));
    }
}
