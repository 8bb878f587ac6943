//! `ggr verify`.

use std::process::ExitCode;

use ggr_backends::store::verify::{self, Finding, Repair};
use serde_json::json;

use super::Context;
use crate::error::Error;
use crate::exit::Kind;

/// Read every blob, reduction and thunk of the repository and check it against its name
///
/// The exit code is 1 if something is damaged and still there.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Remove what is damaged: the next build makes it again
    #[arg(long)]
    repair: bool,
}

/// Checks.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = context.repository()?;
    let repair = if args.repair { Repair::Remove } else { Repair::Report };
    let checked = verify::verify(&repo, repair, |_| {})?;
    if context.json.is_some() {
        let findings: Vec<_> = checked.findings.iter().map(as_json).collect();
        context.print_json(&json!({ "good": checked.good, "findings": findings }))?;
    } else {
        let mut text: String = checked.findings.iter().map(|finding| line(finding) + "\n").collect();
        text.push_str(&format!("{} files are good, {} are not\n", checked.good, checked.findings.len()));
        context.print(&text)?;
    }
    let left = checked.findings.iter().any(|finding| !matches!(finding.removed, Ok(true)));
    Ok(if left { Kind::Findings.into() } else { ExitCode::SUCCESS })
}

fn line(finding: &Finding) -> String {
    let end = match &finding.removed {
        Ok(true) => "; removed".to_owned(),
        Ok(false) => String::new(),
        Err(e) => format!("; cannot be removed: {e}"),
    };
    format!("{}: {}{end}", finding.path.display(), finding.damage)
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "path": finding.path,
        "damage": finding.damage.to_string(),
        "removed": matches!(finding.removed, Ok(true)),
    })
}
