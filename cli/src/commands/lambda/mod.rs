//! `ggr lambda`: the functions that `--backend lambda` runs thunks in.

mod deploy;
mod destroy;
mod policy;
mod status;

use std::process::ExitCode;

use ggr_backends::lambda::deploy::{Bucket, Cloud, DeployError, Plan};
use ggr_ir::protocol::lambda::GGR;

use super::Context;
use crate::error::Error;
use crate::places::functions;

/// Set up, look at or remove the functions of `--backend lambda`
///
/// Names, sizes, role and bucket are settings (`ggr config --keys`: `lambda-…`). Credentials, region and AWS_ENDPOINT_URL are
/// found as by any AWS tool.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What is to be done.
#[derive(clap::Subcommand, Debug)]
enum What {
    Deploy(deploy::Args),
    Status(status::Args),
    Destroy(destroy::Args),
    Policy(policy::Args),
}

/// Which service is asked.
#[derive(clap::Args, Debug)]
struct Service {
    /// Ask this service in place of AWS
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

/// Does it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    match &args.what {
        What::Deploy(args) => deploy::run(context, args),
        What::Status(args) => status::run(context, args),
        What::Destroy(args) => destroy::run(context, args),
        What::Policy(args) => policy::run(context, args),
    }
}

/// What the settings say there is to be. A store that is no bucket is none of AWS's business here: functions mount it.
fn plan(context: &Context) -> Plan {
    let config = &context.config;
    let store = config.lambda_store.value.as_deref();
    Plan {
        prefix: config.lambda_function.value.clone(),
        count: functions(config.lambda_slots.value.get()),
        memory_mb: config.lambda_memory.value,
        tmp_mb: config.lambda_tmp.value,
        limit_s: u32::try_from(config.lambda_timeout.value.as_secs()).unwrap_or(u32::MAX),
        role: config.lambda_role.value.clone(),
        bucket: store.and_then(|store| store.parse::<Bucket>().ok()),
        expire_days: 0,
        version: GGR.to_owned(),
    }
}

impl Service {
    async fn connect(&self, context: &Context) -> Result<Cloud, Error> {
        let endpoint = self.endpoint_url.as_deref().or(context.config.lambda_endpoint.value.as_deref());
        Ok(Cloud::connect(endpoint).await?)
    }
}

/// Prints a line of progress.
fn say(context: &Context) -> impl FnMut(&str) + Send + '_ {
    // Nobody reads any more: what is being done is still to be finished.
    |line: &str| drop(context.print(&format!("{line}\n")))
}

impl From<DeployError> for Error {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Package(error) => Self::Usage {
                message: error.to_string(),
                hint:
                    "`tests/bootstrap` builds the functions' program and prints its path, for `--bootstrap`"
                        .to_owned(),
            },
            error @ DeployError::Service { .. } => Self::Deploy(error),
        }
    }
}
