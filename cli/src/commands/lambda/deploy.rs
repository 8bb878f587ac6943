//! `ggr lambda deploy`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, Error, Service, plan, policy, say};
use crate::run::runtime;

/// What a GB of objects costs for a month, in US dollars (S3 Standard, us-east-1, 2025).
const GB_MONTH: f64 = 0.023;

/// Make or update functions, their role and their bucket
///
/// Says line by line what it did. What is there already and as it should be is not touched, so it may be run again at any
/// time: after a failure, or after ggr was updated. What does not carry ggr's tag is left alone.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The functions' program [default: `bootstrap` beside ggr's own]
    #[arg(long, value_name = "PATH")]
    bootstrap: Option<PathBuf>,
    /// Remove objects from the bucket so many days after they were put there
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    expire_days: u32,
    /// Print the smallest policies and do nothing else, as `ggr lambda policy`
    #[arg(long)]
    print_policies: bool,
    #[command(flatten)]
    service: Service,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    if args.print_policies {
        return policy::print(context);
    }
    let mut plan = plan(context);
    plan.expire_days = args.expire_days;
    let program = match &args.bootstrap {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(Error::io("find", "ggr"))?.with_file_name("bootstrap"),
    };
    runtime()?.block_on(async {
        let cloud = args.service.connect(context).await?;
        context.print(&format!("ggr {}, {}\n", plan.version, cloud.place()))?;
        cloud.deploy(&plan, program, &mut say(context)).await?;
        Ok::<_, Error>(())
    })?;
    context.print(&idle(&plan))?;
    Ok(ExitCode::SUCCESS)
}

/// What it costs while nothing is built.
fn idle(plan: &ggr_backends::lambda::deploy::Plan) -> String {
    let mut text = "while nothing is built: functions and role cost nothing".to_owned();
    if plan.bucket.is_some() {
        text += &format!(
            "; the bucket costs ${GB_MONTH} a GB and month, and is empty again {} days after the last build",
            plan.expire_days
        );
    }
    text + "\n"
}
