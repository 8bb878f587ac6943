//! The program of a preprocess stage: `preprocess OUTPUT PROGRAM ARGV0 ARGUMENT…`.
//!
//! Runs the compiler's driver, which writes a preprocessed text to its standard output, and writes what the compiler takes
//! in place of the source ([`directives`]) to the file. Exits as the driver does. `build.rs` compiles this file by itself,
//! statically, without any crate: it is an input of thunks, and should change seldom.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

#[path = "../directives.rs"]
mod directives;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let [output, program, name, rest @ ..] = &args[..] else {
        eprintln!("preprocess: no command is given");
        return ExitCode::from(2);
    };
    match run(Command::new(program).arg0(name).args(rest), output) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("preprocess: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

fn run(command: &mut Command, output: &OsString) -> io::Result<ExitCode> {
    let ran = command.stderr(Stdio::inherit()).output()?;
    if !ran.status.success() {
        return Ok(ExitCode::from(ran.status.code().and_then(|code| code.try_into().ok()).unwrap_or(1)));
    }
    fs::write(output, directives::compilable(&ran.stdout))?;
    Ok(ExitCode::SUCCESS)
}
