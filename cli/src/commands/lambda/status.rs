//! `ggr lambda status`.

use std::fmt::Write as _;
use std::process::ExitCode;

use ggr_backends::lambda::deploy::{FunctionStatus, Plan, Status};
use serde_json::json;

use super::{Context, Error, Service, plan};
use crate::run::runtime;

/// Show functions, role and bucket
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    service: Service,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let plan = plan(context);
    let (place, status) = runtime()?.block_on(async {
        let cloud = args.service.connect(context).await?;
        Ok::<_, Error>((cloud.place().to_owned(), cloud.status(&plan).await?))
    })?;
    if context.json.is_some() {
        context.print_json(&json!({ "ggr": plan.version, "place": place, "status": status }))?;
    } else {
        context.print(&format!("ggr {}, {place}\n{}", plan.version, render(&plan, &status)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(plan: &Plan, status: &Status) -> String {
    let mut text = String::new();
    let mut line = |what: String| writeln!(text, "{what}").expect("writing to a string does not fail");
    status.functions.iter().for_each(|function| line(describe(plan, function)));
    for name in &status.missing {
        line(format!("function `{name}`: not there; `ggr lambda deploy` makes it"));
    }
    if let Some(role) = &status.role {
        line(match (&role.arn, role.ours) {
            (Some(arn), true) => format!("role `{}`: {arn}", role.name),
            (Some(arn), false) => format!("role `{}`: {arn}, not made by ggr", role.name),
            (None, _) => format!("role `{}`: not there", role.name),
        });
    }
    if let Some(bucket) = &status.bucket {
        let by = if bucket.ours { "made by ggr" } else { "not made by ggr" };
        let rule = match bucket.expire_days {
            Some(days) => format!("objects are removed after {days} days"),
            None => "objects stay for ever".to_owned(),
        };
        line(match bucket.there {
            true => format!("bucket `{}`: {by}, {rule}", bucket.name),
            false => format!("bucket `{}`: not there", bucket.name),
        });
    }
    text
}

fn describe(plan: &Plan, function: &FunctionStatus) -> String {
    let version = match &function.ggr {
        Some(version) if *version == plan.version => format!("ggr {version}"),
        Some(version) => {
            format!("ggr {version}, and this is {}: `ggr lambda deploy` updates it", plan.version)
        }
        None => "not made by ggr".to_owned(),
    };
    format!(
        "function `{}`: {}, {version}, {} MB of memory, {} MB of /tmp, {} s",
        function.name, function.state, function.memory_mb, function.tmp_mb, function.limit_s
    )
}
