//! `-march=native`: what this machine's processor makes of it, so that another one compiles the same.
//!
//! The driver is asked once for each combination of flags (`-###`, some 2 ms). What it hands to the compiler is put in
//! place of the flags. The order of `--param` in the compiler's arguments changes by that, which only debug information and
//! its like record: such a call runs here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;

use super::call::Call;
use crate::model::{FileView, Reason};

/// What drivers answered.
#[derive(Default)]
pub(super) struct Natives {
    known: Mutex<FxHashMap<Question, Arc<[String]>>>,
}

/// The driver's stamp and the processor flags.
type Question = (Option<u64>, Vec<String>);

/// The flags whose value may be `native`.
const PROCESSOR: [&str; 3] = ["-march=", "-mtune=", "-mcpu="];

fn is_processor(arg: &str) -> bool {
    PROCESSOR.iter().any(|flag| arg.starts_with(flag))
}

impl Natives {
    /// The arguments (`argv[0]` first, response files replaced) with this machine's processor spelled out.
    ///
    /// # Errors
    /// [`Reason::LocalFlag`] if the result would record the arguments in another order.
    pub(super) fn spell_out(
        &self,
        program: &Path,
        args: &[String],
        call: &Call,
        files: &dyn FileView,
    ) -> Result<Vec<String>, Reason> {
        let records = |flag: &String| {
            ["-g", "-frecord-gcc-switches", "-fverbose-asm", "-flto"]
                .iter()
                .any(|name| flag.starts_with(name))
        };
        if call.flags.iter().any(records) {
            return Err(Reason::LocalFlag("-march=native".into()));
        }
        let flags: Vec<String> = args.iter().filter(|arg| is_processor(arg)).cloned().collect();
        let spelled = self.of(program, flags, files)?;
        let rest = args.iter().skip(1).filter(|arg| !is_processor(arg));
        Ok(args.iter().take(1).chain(spelled.iter()).chain(rest).cloned().collect())
    }

    fn of(&self, program: &Path, flags: Vec<String>, files: &dyn FileView) -> Result<Arc<[String]>, Reason> {
        let question = (files.stamp(program), flags);
        if let Some(known) = self.known.lock().expect("no holder panics").get(&question) {
            return Ok(known.clone());
        }
        let answer: Arc<[String]> = ask(program, &question.1)?.into();
        self.known.lock().expect("no holder panics").insert(question, answer.clone());
        Ok(answer)
    }
}

fn ask(program: &Path, flags: &[String]) -> Result<Vec<String>, Reason> {
    let output = Command::new(program)
        .args(flags)
        .args(["-###", "-E", "-x", "c", "/dev/null"])
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Reason::Other(format!("`{}` could not be asked: {error}", program.display())))?;
    let said = String::from_utf8(output.stderr).map_err(|_| Reason::NotUtf8)?;
    let spelled = read(&said);
    if spelled.iter().any(|flag| flag.ends_with("=native")) || spelled.is_empty() {
        return Err(Reason::LocalFlag("-march=native".into()));
    }
    Ok(spelled)
}

/// The processor's flags in the command that the driver prints on the last line that starts with a space. None of them
/// holds a space or a quote.
fn read(said: &str) -> Vec<String> {
    let line = said.lines().rfind(|line| line.starts_with(' ')).unwrap_or_default();
    let mut words = line.split_whitespace().map(|word| word.trim_matches('"'));
    let mut flags = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--param" => flags.extend(words.next().map(|value| format!("--param={value}"))),
            _ if word.starts_with("-m") || word.starts_with("--param=") => flags.push(word.to_owned()),
            _ => {}
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_prints_is_read() {
        let said = "Target: x\nCOLLECT_GCC_OPTIONS='-march=native'\n /x/cc1 -E -quiet -imultiarch x86 /dev/null \
                    \"-march=znver3\" -mmmx -mno-3dnow --param \"l1-cache-size=32\" -mtune=znver3 -fcf\nCOMPILER_PATH=/x\n";
        assert_eq!(
            read(said),
            ["-march=znver3", "-mmmx", "-mno-3dnow", "--param=l1-cache-size=32", "-mtune=znver3"]
        );
    }
}
