//! The few calls to IAM that a function's role needs.
//!
//! The SDK's crate for IAM has 220,000 generated lines, more than that for Lambda, to be compiled for six calls: here they go
//! through the SDK's own runtime and signer. IAM's protocol is a form that is posted, and XML that comes back.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_lambda::config::ProvideCredentials;
use aws_sdk_lambda::error::DisplayErrorContext;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;

use super::super::aws::{Call, ServiceError};
use super::{TAG, TAG_VALUE};

/// IAM has one endpoint for all regions, and its signatures name this one.
const ENDPOINT: &str = "https://iam.amazonaws.com";
const REGION: &str = "us-east-1";
const VERSION: &str = "2010-05-08";

/// IAM.
pub(super) struct Iam {
    config: SdkConfig,
    endpoint: String,
}

/// A role that is there.
pub(super) struct Role {
    pub(super) arn: String,
    /// It carries ggr's tag.
    pub(super) ours: bool,
}

/// An answer: its status and its XML.
type Reply = (u16, String);

impl Iam {
    pub(super) fn new(config: &SdkConfig) -> Self {
        let endpoint = super::service_endpoint(config, "IAM").unwrap_or_else(|| ENDPOINT.to_owned());
        Self { config: config.clone(), endpoint }
    }

    /// The role of that name, if there is one.
    pub(super) async fn role(&self, name: &str) -> Result<Option<Role>, ServiceError> {
        let xml = match self.call("GetRole", name, &[("RoleName", name)]).await {
            Ok(xml) => xml,
            Err(ServiceError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let ours = xml.contains(&format!("<Key>{TAG}</Key>"));
        Ok(element(&xml, "Arn").map(|arn| Role { arn, ours }))
    }

    /// Makes a role that Lambda may take; its ARN.
    pub(super) async fn create(&self, name: &str, trust: &str) -> Result<String, ServiceError> {
        let fields = [
            ("RoleName", name),
            ("AssumeRolePolicyDocument", trust),
            ("Description", "ggr: what its Lambda functions may do"),
            ("Tags.member.1.Key", TAG),
            ("Tags.member.1.Value", TAG_VALUE),
        ];
        let xml = self.call("CreateRole", name, &fields).await?;
        element(&xml, "Arn").ok_or_else(|| self.odd("CreateRole", name))
    }

    /// What the role's policy of that name says.
    pub(super) async fn policy(&self, role: &str, policy: &str) -> Result<Option<String>, ServiceError> {
        let fields = [("RoleName", role), ("PolicyName", policy)];
        match self.call("GetRolePolicy", role, &fields).await {
            Ok(xml) => Ok(element(&xml, "PolicyDocument").map(|text| decoded(&text))),
            Err(ServiceError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the role a policy.
    pub(super) async fn put_policy(&self, role: &str, policy: &str, text: &str) -> Result<(), ServiceError> {
        let fields = [("RoleName", role), ("PolicyName", policy), ("PolicyDocument", text)];
        self.call("PutRolePolicy", role, &fields).await.map(drop)
    }

    /// Takes a policy from the role.
    pub(super) async fn delete_policy(&self, role: &str, policy: &str) -> Result<(), ServiceError> {
        let fields = [("RoleName", role), ("PolicyName", policy)];
        match self.call("DeleteRolePolicy", role, &fields).await {
            Ok(_) | Err(ServiceError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the role.
    pub(super) async fn delete(&self, name: &str) -> Result<(), ServiceError> {
        self.call("DeleteRole", name, &[("RoleName", name)]).await.map(drop)
    }

    async fn call(
        &self,
        action: &'static str,
        role: &str,
        fields: &[(&str, &str)],
    ) -> Result<String, ServiceError> {
        let (resource, place) = (format!("role `{role}`"), format!("at {}", self.endpoint));
        let named = format!("iam:{action}");
        let call = Call { action: &named, resource: &resource, place: &place };
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("Action", action).append_pair("Version", VERSION).extend_pairs(fields);
        let unanswered =
            |text: String| ServiceError::NoAnswer { action: named.clone(), place: place.clone(), text };
        let request = self.signed(&body.finish()).await.map_err(&unanswered)?;
        let (status, xml) = self.send(action, request).await.map_err(&unanswered)?;
        if status < 300 {
            return Ok(xml);
        }
        let text = |name| element(&xml, name).unwrap_or_default();
        Err(call.refused(status, &text("Code"), &text("Message")))
    }

    async fn signed(&self, body: &str) -> Result<HttpRequest, String> {
        let provider = self.config.credentials_provider().ok_or("no credentials")?;
        let credentials = provider.provide_credentials().await;
        let identity: Identity = credentials.map_err(|error| DisplayErrorContext(error).to_string())?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("iam")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let uri = format!("{}/", self.endpoint.trim_end_matches('/'));
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let signable =
            SignableRequest::new("POST", &uri, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &params).map_err(|error| error.to_string())?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").map_err(|error| error.to_string())?;
        request.set_uri(uri).map_err(|error| error.to_string())?;
        let made = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let kept = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (name, value) in made.chain(kept) {
            request.headers_mut().try_insert(name, value).map_err(|error| error.to_string())?;
        }
        Ok(request)
    }

    async fn send(&self, action: &'static str, request: HttpRequest) -> Result<Reply, String> {
        let http = self.config.http_client().ok_or("no HTTP client")?;
        let mut operation = Operation::builder()
            .service_name("iam")
            .operation_name(action)
            .http_client(http)
            .endpoint_url(&self.endpoint)
            .no_auth()
            .no_retry()
            .timeout_config(super::super::invoke::timeouts());
        if let Some(sleep) = self.config.sleep_impl() {
            operation = operation.sleep_impl(sleep);
        }
        let operation = operation
            .serializer(|request: HttpRequest| Ok(request))
            .deserializer(|response: &HttpResponse| -> Result<Reply, OrchestratorError<std::io::Error>> {
                let bytes = response.body().bytes().unwrap_or_default();
                Ok((response.status().as_u16(), String::from_utf8_lossy(bytes).into_owned()))
            })
            .build();
        operation.invoke(request).await.map_err(|error| DisplayErrorContext(error).to_string())
    }

    fn odd(&self, action: &str, role: &str) -> ServiceError {
        ServiceError::Refused {
            action: format!("iam:{action}"),
            resource: format!("role `{role}`"),
            text: "the answer has another form than IAM's".to_owned(),
        }
    }
}

/// The text of the first element of that name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = [("&quot;", "\""), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    Some(plain.iter().fold(text.trim().to_owned(), |text, (from, to)| text.replace(from, to)))
}

/// Percent signs resolved: IAM gives documents as they stand in addresses.
fn decoded(text: &str) -> String {
    let whole = format!("x={}", text.replace('+', "%2B"));
    form_urlencoded::parse(whole.as_bytes()).next().map_or(String::new(), |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_documents_come_out_of_their_wrapping() {
        let xml = "<R><Role><Arn>arn:aws:iam::1:role/a</Arn><M>a &amp;quot; &lt;b&gt;</M></Role></R>";
        assert_eq!(element(xml, "Arn").as_deref(), Some("arn:aws:iam::1:role/a"));
        assert_eq!(element(xml, "M").as_deref(), Some("a &quot; <b>"));
        assert_eq!(element(xml, "Code"), None);
        assert_eq!(decoded("%7B%22a%22%3A+1+%7D"), "{\"a\":+1+}");
    }
}
