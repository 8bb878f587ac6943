//! `objcopy` (binutils' manual, "objcopy"), and what `strip` shares with it: a file is rewritten, in its place or to
//! another.

use std::path::Path;
use std::sync::Arc;

use ggr_ir::Kind;

use super::{Binutils, Draft, answer, promise};
use crate::getopt::{self, Row, Style, Value::Maybe, Value::No, Value::Yes, Word};
use crate::link::Halt;
use crate::link::facts::{Facts, Leads};
use crate::model::{FileView, Found, Invocation, Model, Modelled, Plan, Reason};

/// What an option means for the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    Plain,
    /// The value is a file that is read.
    Reads,
    /// The value is `SECTION=FILE`, and the file is read.
    ReadsSection,
    /// The value is `SECTION=FILE`, and the file is written.
    WritesSection,
    Output,
    InputFormat,
    OutputFormat,
    Query,
    Local,
}

use Effect::*;

const OBJCOPY: &[Row<Effect>] = &[
    ("B", Yes, Plain),
    ("D", No, Plain),
    ("F", Yes, Plain),
    ("G", Yes, Plain),
    ("I", Yes, InputFormat),
    ("K", Yes, Plain),
    ("L", Yes, Plain),
    ("M", No, Plain),
    ("N", Yes, Plain),
    ("O", Yes, OutputFormat),
    ("R", Yes, Plain),
    ("S", No, Plain),
    ("U", No, Local),
    ("V", No, Query),
    ("W", Yes, Plain),
    ("X", No, Plain),
    ("add-gnu-debuglink", Yes, Reads),
    ("add-section", Yes, ReadsSection),
    ("add-symbol", Yes, Plain),
    ("adjust-section-vma", Yes, Plain),
    ("adjust-start", Yes, Plain),
    ("adjust-vma", Yes, Plain),
    ("adjust-warnings", No, Plain),
    ("alt-machine-code", Yes, Plain),
    ("b", Yes, Plain),
    ("binary-architecture", Yes, Plain),
    ("byte", Yes, Plain),
    ("change-addresses", Yes, Plain),
    ("change-leading-char", No, Plain),
    ("change-section-address", Yes, Plain),
    ("change-section-lma", Yes, Plain),
    ("change-section-vma", Yes, Plain),
    ("change-start", Yes, Plain),
    ("change-warnings", No, Plain),
    ("compress-debug-sections", Maybe, Plain),
    ("debugging", No, Plain),
    ("decompress-debug-sections", No, Plain),
    ("disable-deterministic-archives", No, Local),
    ("discard-all", No, Plain),
    ("discard-locals", No, Plain),
    ("dump-section", Yes, WritesSection),
    ("elf-stt-common", Yes, Plain),
    ("enable-deterministic-archives", No, Plain),
    ("extract-dwo", No, Plain),
    ("extract-symbol", No, Plain),
    ("g", No, Plain),
    ("gap-fill", Yes, Plain),
    ("globalize-symbol", Yes, Plain),
    ("globalize-symbols", Yes, Reads),
    ("h", No, Query),
    ("help", No, Query),
    ("i", Maybe, Plain),
    ("impure", No, Plain),
    ("info", No, Query),
    ("input-target", Yes, InputFormat),
    ("interleave", Maybe, Plain),
    ("interleave-width", Yes, Plain),
    ("j", Yes, Plain),
    ("keep-file-symbols", No, Plain),
    ("keep-global-symbol", Yes, Plain),
    ("keep-global-symbols", Yes, Reads),
    ("keep-section", Yes, Plain),
    ("keep-section-symbols", No, Plain),
    ("keep-symbol", Yes, Plain),
    ("keep-symbols", Yes, Reads),
    ("localize-hidden", No, Plain),
    ("localize-symbol", Yes, Plain),
    ("localize-symbols", Yes, Reads),
    ("long-section-names", Yes, Plain),
    ("merge-notes", No, Plain),
    ("no-adjust-warnings", No, Plain),
    ("no-change-warnings", No, Plain),
    ("no-merge-notes", No, Plain),
    ("only-keep-debug", No, Plain),
    ("only-section", Yes, Plain),
    ("output-target", Yes, OutputFormat),
    ("p", No, Local),
    ("pad-to", Yes, Plain),
    ("prefix-alloc-sections", Yes, Plain),
    ("prefix-sections", Yes, Plain),
    ("prefix-symbols", Yes, Plain),
    ("preserve-dates", No, Local),
    ("pure", No, Plain),
    ("readonly-text", No, Plain),
    ("redefine-sym", Yes, Plain),
    ("redefine-syms", Yes, Reads),
    ("remove-leading-char", No, Plain),
    ("remove-relocations", Yes, Plain),
    ("remove-section", Yes, Plain),
    ("rename-section", Yes, Plain),
    ("reverse-bytes", Yes, Plain),
    ("set-section-alignment", Yes, Plain),
    ("set-section-flags", Yes, Plain),
    ("set-start", Yes, Plain),
    ("srec-forceS3", No, Plain),
    ("srec-len", Yes, Plain),
    ("strip-all", No, Plain),
    ("strip-debug", No, Plain),
    ("strip-dwo", No, Plain),
    ("strip-symbol", Yes, Plain),
    ("strip-symbols", Yes, Reads),
    ("strip-unneeded", No, Plain),
    ("strip-unneeded-symbol", Yes, Plain),
    ("strip-unneeded-symbols", Yes, Reads),
    ("target", Yes, Plain),
    ("update-section", Yes, ReadsSection),
    ("v", No, Plain),
    ("verbose", No, Plain),
    ("version", No, Query),
    ("w", No, Plain),
    ("weaken", No, Plain),
    ("weaken-symbol", Yes, Plain),
    ("weaken-symbols", Yes, Reads),
    ("wildcard", No, Plain),
    ("writable-text", No, Plain),
    ("x", No, Plain),
];

/// What a command line says about files.
#[derive(Default)]
struct Call {
    files: Vec<String>,
    output: Option<String>,
    reads: Vec<String>,
    writes: Vec<String>,
    /// The input is, or the output becomes, something other than ELF.
    foreign: bool,
    /// The output is what sections hold, and nothing else.
    headless: bool,
}

fn read(table: &[Row<Effect>], args: &[String]) -> Result<Call, Reason> {
    let mut call = Call::default();
    for word in getopt::parse(table, Style::Long, args)? {
        let (effect, value, written) = match word {
            Word::Operand(name) => {
                call.files.push(name);
                continue;
            }
            Word::Option(effect, value, written) => (effect, value, written),
        };
        let file = || value.split_once('=').map(|(_, file)| file.to_owned());
        match effect {
            Plain => {}
            Reads => call.reads.push(value),
            ReadsSection => call.reads.push(file().ok_or(Reason::UnknownFlag(written))?),
            WritesSection => call.writes.push(file().ok_or(Reason::UnknownFlag(written))?),
            Output => call.output = Some(value),
            InputFormat => call.foreign |= !value.starts_with("elf"),
            OutputFormat => {
                call.foreign |= !value.starts_with("elf");
                call.headless |= value == "binary";
            }
            Query => return Err(Reason::Query),
            Local => return Err(Reason::LocalFlag(written)),
        }
    }
    Ok(call)
}

/// Models a rewriting call.
pub(super) fn rewrite(
    shared: &Binutils,
    table: &[Row<Effect>],
    invocation: &Invocation,
    files: &dyn FileView,
) -> Result<Box<Plan>, Halt> {
    let mut draft = Draft::new(invocation, files, &shared.tools)?;
    let mut call = read(table, &draft.args)?;
    if std::ptr::eq(table, OBJCOPY) && call.files.len() == 2 {
        call.output = call.files.pop();
    }
    if call.files.iter().any(|input| call.output.as_ref() == Some(input)) {
        call.output = None;
    }
    if call.files.is_empty() || (call.output.is_some() && call.files.len() > 1) {
        return Err(Reason::Query.into());
    }
    let mut facts = Facts::plain(Leads::Nowhere);
    for name in &call.files {
        let found = known(shared, &draft, name)?;
        draft.deferrable &= found.is_some() || call.output.is_none();
        facts = found.unwrap_or(facts);
        if let Some(output) = &call.output {
            let read = draft.reads(name)?;
            // Written under another spelling, it is not rewritten in its place but replaced while it is read.
            if draft.inputs.follow(&invocation.dir, Path::new(output))? == read {
                return Err(Reason::Other(format!("`{name}` is read and written")).into());
            }
        }
    }
    for name in &call.reads {
        draft.reads(name)?;
    }
    facts.linked &= !call.foreign;
    let bits = if facts.linked { 0o777 } else { 0o666 };
    match &call.output {
        Some(output) => drop(draft.writes(output, bits)?),
        None => {
            for name in &call.files {
                draft.rewrites(name)?;
            }
        }
    }
    for name in &call.writes {
        draft.writes(name, 0o666)?;
    }
    if call.headless || !call.writes.is_empty() {
        // Such a file may be empty, which a shell's `test -s` would not see of a placeholder.
        draft.deferrable = false;
    }
    let plan = draft.plan(Kind::Binutils)?;
    if call.files.len() == 1 && !call.foreign {
        promise(&shared.linkers, &plan, facts);
    }
    Ok(plan)
}

/// What is known of a file that is rewritten: nothing of a placeholder of which nothing was promised, unless its name
/// says that it is an object.
fn known(shared: &Binutils, draft: &Draft<'_>, name: &str) -> Result<Option<Facts>, Halt> {
    let knowledge = shared.linkers.knowledge();
    match draft.find(name) {
        Found::Placeholder(output) => Ok(match knowledge.promised(&output) {
            Some(facts) => Some((*facts).clone()),
            None if name.ends_with(".o") => Some(Facts::plain(Leads::Nowhere)),
            None => None,
        }),
        Found::Missing => Err(Reason::MissingInput(name.to_owned()).into()),
        _ => {
            let facts = knowledge.of(&draft.invocation.dir.join(name), draft.files)?;
            match &facts.leads {
                Leads::Members(_) => Err(Reason::Other(format!("`{name}` is a thin archive")).into()),
                _ => Ok(Some((*facts).clone())),
            }
        }
    }
}

/// The model of `objcopy`.
pub struct Objcopy {
    shared: Arc<Binutils>,
}

impl Objcopy {
    /// Makes the model.
    pub fn new(shared: Arc<Binutils>) -> Self {
        Self { shared }
    }
}

impl Model for Objcopy {
    fn name(&self) -> &str {
        "objcopy"
    }

    fn handles(&self, tool: &str) -> bool {
        tool == "objcopy"
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        answer(rewrite(&self.shared, OBJCOPY, invocation, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binutils::strip::STRIP;

    #[test]
    fn the_tables_are_sorted() {
        for table in [OBJCOPY, STRIP] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn files_are_told_from_values() {
        let call = |line: &str| {
            read(OBJCOPY, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
        };
        let found = call("--only-keep-debug -j .text --add-section .x=data --dump-section=.y=out a b");
        assert_eq!(found.files, ["a", "b"]);
        assert_eq!(found.reads, ["data"]);
        assert_eq!(found.writes, ["out"]);
        assert!(!found.foreign && call("-O binary a b").foreign);
        assert_eq!(call("--add-gnu-debuglink=a.debug a").reads, ["a.debug"]);
    }
}
