//! `ggr worker`: what thunks run in, beyond the sandboxes of this machine.

use std::io;
use std::process::ExitCode;

use super::Context;
use crate::error::Error;
use crate::microvm;
use crate::run::runtime;

/// Prepare what thunks run in
///
/// `ggr --backend microvm make` does all of this by itself when it is needed.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// What is to be done.
#[derive(clap::Subcommand, Debug)]
enum What {
    /// Guests of microVMs
    #[command(subcommand)]
    Image(Image),
}

/// What is to be done with images.
#[derive(clap::Subcommand, Debug)]
enum Image {
    /// Boot a guest, write it down, restore it, and say how long each took
    ///
    /// The guest's kernel is found in `~/.cache/ggr/guest` (`boot/vmlinuz-*` with `lib/modules/*`), else in `/boot`.
    Build,
}

/// Does it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let What::Image(Image::Build) = &args.what;
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
