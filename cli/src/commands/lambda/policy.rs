//! `ggr lambda policy`.

use std::process::ExitCode;

use ggr_backends::lambda::deploy::policies;
use serde_json::json;

use super::{Context, Error, plan};

/// Print the smallest IAM policies: for the functions' role, for who builds, for who deploys
///
/// Asks nobody. The settings decide what the policies name.
#[derive(clap::Args, Debug)]
pub(super) struct Args {}

pub(super) fn run(context: &Context, _args: &Args) -> Result<ExitCode, Error> {
    print(context)
}

pub(super) fn print(context: &Context) -> Result<ExitCode, Error> {
    let plan = plan(context);
    let role = plan.role.clone().unwrap_or_else(|| plan.role_name());
    let all = policies(&plan.prefix, &role, plan.role.is_none(), plan.bucket.as_ref());
    if context.json.is_some() {
        context.print_json(&json!({
            "trust": all.trust, "function": all.function, "build": all.build, "deploy": all.deploy,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let parts = [
        ("The functions' role: who may take it", &all.trust),
        ("The functions' role: what it may do", &all.function),
        ("Who builds with `--backend lambda`", &all.build),
        ("Who runs `ggr lambda deploy`, `status` and `destroy`", &all.deploy),
    ];
    let text: Vec<String> = parts.iter().map(|(title, policy)| format!("# {title}\n{policy:#}\n")).collect();
    context.print(&text.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
