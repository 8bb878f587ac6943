//! The command line: `ggr [OPTIONS] COMMAND [ARGS]…`, where a command that is none of ours is a build to run.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser};

use crate::commands::Command;
use crate::exit;

/// The hidden command that `--` stands for.
const RUN: &str = "run";

/// Run an unmodified build as content-addressed thunks.
///
/// `ggr make -j100` runs `make -j100`; every compiler, linker and archiver call in it becomes a thunk, which is looked up in
/// a cache or run in a sandbox. What comes out is what `make` alone would have written, byte for byte. Options for ggr stand
/// before the build's command; everything after it is the command's own. `ggr -- show` runs a program named like one of
/// ggr's commands.
#[derive(Parser, Debug)]
#[command(
    name = "ggr",
    version,
    allow_external_subcommands = true,
    subcommand_required = true,
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND",
    override_usage = "ggr [OPTIONS] PROGRAM [ARGS]...\n       ggr [OPTIONS] COMMAND [ARGS]...",
    after_help = exit::help(),
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Options for every command")]
pub(crate) struct Global {
    /// Go to this directory first
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub(crate) directory: Option<PathBuf>,
    /// Where thunks run: `local` or `sandbox` (sandboxes on this machine), `microvm` (sandboxes in guests of QEMU), `lambda`,
    /// `worker=ADDRESS` (a `ggr worker serve`), or several, as `local,lambda` (here first)
    #[arg(long, value_name = "NAME", global = true)]
    backend: Option<OsString>,
    /// The repository, in place of the nearest `.ggr`
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<OsString>,
    /// Where blobs live, in place of the repository; or `s3://BUCKET/PREFIX`, which others share, behind it
    #[arg(long, value_name = "PLACE", global = true)]
    store: Option<OsString>,
    /// Whether a shared store is written to: `read-write` or `read-only`
    #[arg(long, value_name = "MODE", global = true)]
    store_mode: Option<OsString>,
    /// The S3 service of a shared store, in place of AWS
    #[arg(long, value_name = "URL", global = true)]
    endpoint_url: Option<OsString>,
    /// How many thunks run on this machine side by side [default: one a processor]
    #[arg(short = 'j', long, value_name = "N", global = true)]
    slots: Option<OsString>,
    /// Whether a tool call may be answered before it ran: `lazy` or `wait`
    #[arg(long, value_name = "MODE", global = true)]
    mode: Option<OsString>,
    /// Whether a compile is one thunk or three: `fused` or `staged`
    #[arg(long, value_name = "HOW", global = true)]
    stages: Option<OsString>,
    /// Programs without a model whose runs are recorded: `auto`, `all`, `off`, or names, as `auto,xxd`
    #[arg(long, value_name = "NAMES", global = true)]
    capture: Option<OsString>,
    /// How tool calls are caught: `auto`, `mount`, `path` or `off`
    #[arg(long, value_name = "HOW", global = true)]
    intercept: Option<OsString>,
    /// How thunks on this machine are kept apart: `auto`, `namespaces` (or `sandbox`) or `plain`
    #[arg(long, value_name = "HOW", global = true)]
    isolation: Option<OsString>,
    /// Size limit of the store, as 10G
    #[arg(long, value_name = "SIZE", global = true)]
    max_cache: Option<OsString>,
    /// With so many US dollars spent on Lambda, run the rest of the build here, as 2.00
    #[arg(long, value_name = "DOLLARS", global = true)]
    max_cost: Option<OsString>,
    /// Run one thunk in N twice and compare
    #[arg(long, value_name = "N", global = true)]
    verify_rate: Option<OsString>,
    /// Print nothing of ggr's own but errors
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    quiet: bool,
    /// Colours in ggr's own messages: `auto`, `always` or `never`
    #[arg(long, value_name = "WHEN", global = true)]
    color: Option<OsString>,
    /// The status line of a build: `auto` (on a terminal) or `never`
    #[arg(long, value_name = "WHEN", global = true)]
    progress: Option<OsString>,
    /// A command's answer as JSON, a build's events as JSON lines, to FILE [default: standard output for an answer,
    /// standard error for events]
    #[arg(long, value_name = "FILE", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    /// Write a Chrome trace of the build (for ui.perfetto.dev)
    #[arg(long, value_name = "FILE", global = true)]
    trace_out: Option<OsString>,
    /// Write the build's compiler calls in the form of compile_commands.json
    #[arg(long, value_name = "FILE", global = true)]
    compile_commands: Option<OsString>,
}

impl Global {
    /// The configuration keys that flags set, with their values.
    pub(crate) fn settings(&self) -> Vec<(&'static str, OsString)> {
        let quiet = self.quiet.then(|| OsString::from("true"));
        let flags: [(&'static str, &Option<OsString>); 19] = [
            ("backend", &self.backend),
            ("capture", &self.capture),
            ("color", &self.color),
            ("compile-commands", &self.compile_commands),
            ("dir", &self.dir),
            ("endpoint-url", &self.endpoint_url),
            ("intercept", &self.intercept),
            ("isolation", &self.isolation),
            ("max-cache", &self.max_cache),
            ("max-cost", &self.max_cost),
            ("mode", &self.mode),
            ("progress", &self.progress),
            ("quiet", &quiet),
            ("slots", &self.slots),
            ("stages", &self.stages),
            ("store", &self.store),
            ("store-mode", &self.store_mode),
            ("trace-out", &self.trace_out),
            ("verify-rate", &self.verify_rate),
        ];
        flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }
}

/// Parses a command line, the program's name first.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(name_the_separator(args))
}

/// The names of ggr's commands.
pub(crate) fn command_names() -> Vec<String> {
    let visible = Cli::command();
    visible.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name().to_owned()).collect()
}

/// Replaces a `--` that stands where the command's name would by the hidden command `run`, which takes the rest as it is:
/// clap itself has no external command after `--`.
fn name_the_separator(mut args: Vec<OsString>) -> Vec<OsString> {
    let command = Cli::command();
    let takes_value = |arg: &OsStr| {
        let Some(text) = arg.to_str() else { return false };
        command.get_arguments().any(|known| {
            known.get_action().takes_values()
                && !known.is_require_equals_set()
                && (known.get_long().is_some_and(|long| text.strip_prefix("--") == Some(long))
                    || known.get_short().is_some_and(|short| text == format!("-{short}")))
        })
    };
    let mut index = 1;
    while let Some(arg) = args.get(index) {
        if arg == "--" {
            args[index] = RUN.into();
            break;
        }
        if !arg.as_encoded_bytes().starts_with(b"-") {
            break;
        }
        index += if takes_value(arg) { 2 } else { 1 };
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KEYS;

    fn build(line: &str) -> Vec<String> {
        let cli = parse(line.split(' ').map(OsString::from).collect()).unwrap();
        let words = match cli.command {
            Command::Build(words) => words,
            Command::Run(args) => args.command,
            other => panic!("{line} is no build but {other:?}"),
        };
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn everything_after_the_program_is_its_own() {
        let check = |line: &str, expected: &str| assert_eq!(build(line).join(" "), expected, "{line}");
        check("ggr make -j8", "make -j8");
        check("ggr -j4 --quiet make -j8 --quiet -C dir", "make -j8 --quiet -C dir");
        check("ggr make -- -x", "make -- -x");
        check("ggr ./build.sh --help", "./build.sh --help");
        check("ggr -- show", "show");
        check("ggr -j 4 -- show -- --x", "show -- --x");
        check("ggr --store x -- ls", "ls");
        check("ggr --json -- ls", "ls");
        check("ggr -- -weird", "-weird");
    }

    #[test]
    fn flags_of_ours_may_follow_our_commands() {
        let cli = parse(["ggr", "config", "--slots", "3"].map(OsString::from).to_vec()).unwrap();
        assert_eq!(cli.global.settings(), [("slots", OsString::from("3"))]);
    }

    #[test]
    fn every_flag_of_a_key_is_an_option_and_sets_a_key() {
        let command = Cli::command();
        let options: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        for key in KEYS {
            let Some(flag) = key.flag else { continue };
            assert!(options.contains(&flag.trim_start_matches('-')), "{flag}");
        }
        let all = Some(OsString::from("1"));
        let global = Global {
            backend: all.clone(),
            capture: all.clone(),
            color: all.clone(),
            compile_commands: all.clone(),
            dir: all.clone(),
            endpoint_url: all.clone(),
            intercept: all.clone(),
            isolation: all.clone(),
            max_cache: all.clone(),
            max_cost: all.clone(),
            mode: all.clone(),
            progress: all.clone(),
            quiet: true,
            slots: all.clone(),
            stages: all.clone(),
            store: all.clone(),
            store_mode: all.clone(),
            trace_out: all.clone(),
            verify_rate: all,
            ..Global::default()
        };
        for (name, _) in global.settings() {
            assert!(KEYS.iter().any(|key| key.name == name && key.flag.is_some()), "{name}");
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
