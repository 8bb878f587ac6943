//! `ggr worker`: what thunks run in, beyond the sandboxes of a build's own.

mod control;
mod serve;

use std::io;
use std::process::ExitCode;

use super::Context;
use crate::error::Error;
use crate::microvm;
use crate::run::runtime;

/// Run thunks of others, and prepare what thunks run in
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What is to be done.
#[derive(clap::Subcommand, Debug)]
enum What {
    Serve(serve::Args),
    Status(control::StatusArgs),
    Warm(control::WarmArgs),
    Drain(control::DrainArgs),
    /// Guests of microVMs
    #[command(subcommand)]
    Image(Image),
}

/// What is to be done with images.
#[derive(clap::Subcommand, Debug)]
enum Image {
    /// Boot a guest, write it down, restore it, and say how long each took
    ///
    /// `ggr --backend microvm make` does all of this by itself when it is needed. The guest's kernel is found in
    /// `~/.cache/ggr/guest` (`boot/vmlinuz-*` with `lib/modules/*`), else in `/boot`.
    Build,
}

/// Does it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    match &args.what {
        What::Serve(args) => serve::run(context, args),
        What::Status(args) => control::status(context, args),
        What::Warm(args) => control::warm(context, args),
        What::Drain(args) => control::drain(context, args),
        What::Image(Image::Build) => build_image(context),
    }
}

fn build_image(context: &Context) -> Result<ExitCode, Error> {
    let mut text = Vec::new();
    let built = runtime()?.block_on(microvm::try_out(context, &mut text));
    built.map_err(|why| no_guests(&why))?;
    context.print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// The error when there can be no guests here.
pub(crate) fn no_guests(why: &str) -> Error {
    Error::Host { doing: "run microVMs".into(), source: io::Error::other(why.to_owned()) }
}
