//! One function.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_sdk_lambda::client::Waiters;
use aws_sdk_lambda::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_lambda::operation::create_function::builders::CreateFunctionFluentBuilder;
use aws_sdk_lambda::operation::get_function::GetFunctionOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Architecture, EphemeralStorage, FunctionCode, FunctionConfiguration, Runtime};

use super::super::aws::{Call, ServiceError};
use super::role::{Taken, foreign};
use super::{Cloud, Package, Plan, TAG};

/// How long a function may take to become ready: AWS unpacks the program, which takes seconds.
const READY: Duration = Duration::from_secs(180);

/// A new role is known to Lambda after some seconds; how often and in which steps it is tried.
const ROLE_TRIES: u32 = 20;
const ROLE_STEP: Duration = Duration::from_secs(2);

const HANDLER: &str = "bootstrap";

/// What was done with a function.
pub(super) enum Did {
    Made(String),
    Changed(Vec<String>),
    Nothing,
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(how) => write!(f, "made: {how}"),
            Self::Changed(what) => write!(f, "changed: {}", what.join(", ")),
            Self::Nothing => write!(f, "was as it should be"),
        }
    }
}

impl Cloud {
    pub(super) async fn make_function(
        &self,
        plan: &Plan,
        name: &str,
        role: &Taken,
        package: &Package,
    ) -> Result<Did, ServiceError> {
        let Some(found) = self.function(name).await? else {
            self.create(plan, name, role, package).await?;
            return Ok(Did::Made(shape(plan)));
        };
        if !found.tags().is_some_and(|tags| tags.contains_key(TAG)) {
            return Err(foreign(&format!("function `{name}`"), "lambda:UpdateFunctionCode"));
        }
        let mut changed = Vec::new();
        let config = found.configuration();
        let arn = config.and_then(FunctionConfiguration::function_arn).unwrap_or(name).to_owned();
        if config.and_then(FunctionConfiguration::code_sha256) != Some(&package.sha256) {
            self.update_code(name, package).await?;
            changed.push("program".to_owned());
        }
        let differs = config.map(|config| differences(config, plan, &role.arn)).unwrap_or_default();
        if !differs.is_empty() {
            self.update_configuration(plan, name, &role.arn).await?;
            changed.extend(differs);
        }
        let version = found.tags().and_then(|tags| tags.get(TAG));
        if version != Some(&plan.version) {
            self.tag(plan, name, &arn).await?;
            changed.push(format!("version {}", plan.version));
        }
        Ok(if changed.is_empty() { Did::Nothing } else { Did::Changed(changed) })
    }

    /// The function of that name, if there is one.
    pub(super) async fn function(&self, name: &str) -> Result<Option<GetFunctionOutput>, ServiceError> {
        let sent = self.lambda.get_function().function_name(name).send().await;
        match sent.map_err(|error| self.explain_lambda("lambda:GetFunction", name, &error)) {
            Ok(found) => Ok(Some(found)),
            Err(ServiceError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(
        &self,
        plan: &Plan,
        name: &str,
        role: &Taken,
        package: &Package,
    ) -> Result<(), ServiceError> {
        let mut tries = if role.fresh { ROLE_TRIES } else { 1 };
        loop {
            tries -= 1;
            match self.creation(plan, name, &role.arn, package).send().await {
                Ok(_) => break,
                // "The role defined for the function cannot be assumed by Lambda."
                Err(error) if tries > 0 && error.code() == Some("InvalidParameterValueException") => {
                    tokio::time::sleep(ROLE_STEP).await;
                }
                Err(error) => return Err(self.explain_lambda("lambda:CreateFunction", name, &error)),
            }
        }
        let waited = self.lambda.wait_until_function_active_v2().function_name(name).wait(READY).await;
        waited.map(drop).map_err(|error| stuck(name, "lambda:CreateFunction", &error))
    }

    fn creation(
        &self,
        plan: &Plan,
        name: &str,
        role: &str,
        package: &Package,
    ) -> CreateFunctionFluentBuilder {
        let code = FunctionCode::builder().zip_file(Blob::new(package.zip.clone())).build();
        self.lambda
            .create_function()
            .function_name(name)
            .runtime(Runtime::Providedal2023)
            .architectures(Architecture::X8664)
            .handler(HANDLER)
            .role(role)
            .code(code)
            .description(description(plan))
            .memory_size(number(plan.memory_mb))
            .timeout(number(plan.limit_s))
            .ephemeral_storage(storage(plan))
            .set_tags(Some(HashMap::from([(TAG.to_owned(), plan.version.clone())])))
    }

    async fn update_code(&self, name: &str, package: &Package) -> Result<(), ServiceError> {
        let action = "lambda:UpdateFunctionCode";
        let request = self.lambda.update_function_code().function_name(name);
        let request = request.zip_file(Blob::new(package.zip.clone())).architectures(Architecture::X8664);
        request.send().await.map_err(|error| self.explain_lambda(action, name, &error))?;
        self.updated(name, action).await
    }

    async fn update_configuration(&self, plan: &Plan, name: &str, role: &str) -> Result<(), ServiceError> {
        let action = "lambda:UpdateFunctionConfiguration";
        let request = self
            .lambda
            .update_function_configuration()
            .function_name(name)
            .runtime(Runtime::Providedal2023)
            .handler(HANDLER)
            .role(role)
            .description(description(plan))
            .memory_size(number(plan.memory_mb))
            .timeout(number(plan.limit_s))
            .ephemeral_storage(storage(plan));
        request.send().await.map_err(|error| self.explain_lambda(action, name, &error))?;
        self.updated(name, action).await
    }

    async fn updated(&self, name: &str, action: &str) -> Result<(), ServiceError> {
        let waited = self.lambda.wait_until_function_updated_v2().function_name(name).wait(READY).await;
        waited.map(drop).map_err(|error| stuck(name, action, &error))
    }

    async fn tag(&self, plan: &Plan, name: &str, arn: &str) -> Result<(), ServiceError> {
        let sent = self.lambda.tag_resource().resource(arn).tags(TAG, &plan.version).send().await;
        sent.map(drop).map_err(|error| self.explain_lambda("lambda:TagResource", name, &error))
    }

    pub(super) fn explain_lambda<E>(
        &self,
        action: &str,
        name: &str,
        error: &aws_sdk_lambda::error::SdkError<E>,
    ) -> ServiceError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let resource = format!("function `{name}`");
        Call { action, resource: &resource, place: &self.place }.explain(error)
    }
}

/// What a function has and should not.
fn differences(found: &FunctionConfiguration, plan: &Plan, role: &str) -> Vec<String> {
    let tmp = found.ephemeral_storage().map(EphemeralStorage::size);
    let rows = [
        (found.memory_size() == Some(number(plan.memory_mb)), format!("{} MB of memory", plan.memory_mb)),
        (tmp == Some(number(plan.tmp_mb)), format!("{} MB of /tmp", plan.tmp_mb)),
        (found.timeout() == Some(number(plan.limit_s)), format!("{} s", plan.limit_s)),
        (found.role() == Some(role), format!("role `{role}`")),
        (found.runtime() == Some(&Runtime::Providedal2023), "runtime".to_owned()),
        (found.handler() == Some(HANDLER), "handler".to_owned()),
        (found.description() == Some(&description(plan)), "description".to_owned()),
    ];
    rows.into_iter().filter(|(same, _)| !same).map(|(_, what)| what).collect()
}

fn description(plan: &Plan) -> String {
    format!("ggr {}: runs thunks of builds", plan.version)
}

fn shape(plan: &Plan) -> String {
    format!(
        "ggr {}, {} MB of memory, {} MB of /tmp, {} s",
        plan.version, plan.memory_mb, plan.tmp_mb, plan.limit_s
    )
}

fn storage(plan: &Plan) -> EphemeralStorage {
    EphemeralStorage::builder().size(number(plan.tmp_mb)).build().expect("a size is given")
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn stuck(name: &str, action: &str, error: &(impl std::error::Error + 'static)) -> ServiceError {
    ServiceError::Refused {
        action: action.to_owned(),
        resource: format!("function `{name}`"),
        text: format!("it did not become ready: {}", DisplayErrorContext(error)),
    }
}
