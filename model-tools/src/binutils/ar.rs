//! `ar` and `ranlib`, and GCC's wrappers around them (binutils' manual, "ar" and "ranlib").
//!
//! Only archives without dates and owners are modelled (`D`, the default on Debian): others depend on more than bytes.

use std::path::{Path, PathBuf};

use ggr_ir::Kind;

use super::plugins::is_llvm;
use super::{Binutils, Draft, answer};
use crate::getopt::{self, Row, Style, Value, Word};
use crate::link::Halt;
use crate::link::facts::{Facts, Leads};
use crate::link::is_plain_object;
use crate::model::{FileView, Found, Invocation, Model, Modelled, Plan, Reason};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Plain,
    /// Members are added (`r`, `q`).
    Add,
    /// The archive is changed by itself (`d`, `m`).
    Change,
    /// The index is made, also by itself.
    Index,
    /// A member's name comes before the archive's.
    Position,
    Thin,
    /// No dates.
    Deterministic,
    /// Members are compared by date.
    Newer,
    Plugin,
    Query,
    Stdin,
    Local,
}

use Meaning::*;
use Value::{No, Yes};

const AR: &[Row<Meaning>] = &[
    ("D", No, Deterministic),
    ("M", No, Stdin),
    ("N", No, Local),
    ("O", No, Plain),
    ("P", No, Plain),
    ("S", No, Plain),
    ("T", No, Thin),
    ("U", No, Local),
    ("V", No, Query),
    ("a", No, Position),
    ("b", No, Position),
    ("c", No, Plain),
    ("d", No, Change),
    ("f", No, Plain),
    ("h", No, Query),
    ("help", No, Query),
    ("i", No, Position),
    ("l", Yes, Plain),
    ("m", No, Change),
    ("o", No, Plain),
    ("output", Yes, Local),
    ("p", No, Query),
    ("plugin", Yes, Plugin),
    ("q", No, Add),
    ("r", No, Add),
    ("record-libdeps", Yes, Plain),
    ("s", No, Index),
    ("t", No, Query),
    ("target", Yes, Plain),
    ("thin", No, Thin),
    ("u", No, Newer),
    ("v", No, Plain),
    ("version", No, Query),
    ("x", No, Local),
];

const RANLIB: &[Row<Meaning>] = &[
    ("D", No, Deterministic),
    ("U", No, Local),
    ("V", No, Query),
    ("h", No, Query),
    ("help", No, Query),
    ("plugin", Yes, Plugin),
    ("t", No, Local),
    ("v", No, Query),
    ("version", No, Query),
];

/// What a command line says.
#[derive(Default, PartialEq, Eq, Debug)]
struct Call {
    operation: Option<Operation>,
    thin: bool,
    deterministic: bool,
    newer: bool,
    plugin: Option<String>,
    archives: Vec<String>,
    members: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Add,
    Change,
    Index,
}

/// Reads `ar`'s arguments: the first may lack its dash.
fn ar_call(args: &[String]) -> Result<Call, Reason> {
    let mut args = args.to_vec();
    if let Some(first) = args.first_mut().filter(|first| !first.starts_with('-')) {
        first.insert(0, '-');
    }
    let (mut call, mut operands) = read(AR, &args)?;
    let Some(operation) = call.operation else { return Err(Reason::Query) };
    if operands.is_empty() {
        return Err(Reason::Query);
    }
    call.archives = vec![operands.remove(0)];
    if operation == Operation::Add {
        call.members = operands;
    }
    Ok(call)
}

fn ranlib_call(args: &[String]) -> Result<Call, Reason> {
    let (mut call, operands) = read(RANLIB, args)?;
    if operands.is_empty() {
        return Err(Reason::Query);
    }
    call.operation = Some(Operation::Index);
    call.archives = operands;
    Ok(call)
}

/// Reads options; answers the operands behind a position's.
fn read(table: &[Row<Meaning>], args: &[String]) -> Result<(Call, Vec<String>), Reason> {
    let (mut call, mut operands, mut position) = (Call::default(), Vec::new(), false);
    for word in getopt::parse(table, Style::Long, args)? {
        let (meaning, value, written) = match word {
            Word::Operand(name) => {
                operands.push(name);
                continue;
            }
            Word::Option(meaning, value, written) => (meaning, value, written),
        };
        match meaning {
            Plain => {}
            Add => call.operation = Some(Operation::Add),
            Change => call.operation = Some(Operation::Change),
            Index => call.operation = call.operation.or(Some(Operation::Index)),
            Position => position = true,
            Thin => call.thin = true,
            Deterministic => call.deterministic = true,
            Newer => call.newer = true,
            Plugin => call.plugin = Some(value),
            Query => return Err(Reason::Query),
            Stdin => return Err(Reason::ReadsStdin),
            Local => return Err(Reason::LocalFlag(written)),
        }
    }
    if position && !operands.is_empty() {
        operands.remove(0);
    }
    Ok((call, operands))
}

/// Which of the four tools it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tool {
    Ar,
    Ranlib,
}

/// The model of `ar`, `ranlib`, `gcc-ar` and `gcc-ranlib`.
pub struct Archiver {
    shared: std::sync::Arc<Binutils>,
}

impl Archiver {
    /// Makes the model.
    pub fn new(shared: std::sync::Arc<Binutils>) -> Self {
        Self { shared }
    }

    fn plan(&self, invocation: &Invocation, files: &dyn FileView) -> Result<Box<Plan>, Halt> {
        let mut draft = Draft::new(invocation, files, &self.shared.tools)?;
        let name = crate::models::tool_name(&invocation.program).into_owned();
        let tool = if name.ends_with("ranlib") { Tool::Ranlib } else { Tool::Ar };
        let call = match tool {
            Tool::Ar => ar_call(&draft.args)?,
            Tool::Ranlib => ranlib_call(&draft.args)?,
        };
        let program = match name.strip_prefix("gcc-") {
            Some(wrapped) => self.wrapped(&mut draft, wrapped)?,
            None => invocation.program.clone(),
        };
        if !call.deterministic && !self.shared.plugins.deterministic(&program, files) {
            return Err(Reason::Other("the archive holds dates and owners".to_owned()).into());
        }
        let mut leads = Vec::new();
        for archive in &call.archives {
            leads.push(self.archive(&mut draft, &call, archive)?);
        }
        match &call.plugin {
            Some(plugin) => draft.program(&invocation.dir.join(plugin))?,
            None if name.starts_with("gcc-") => {}
            None => self.plugins(&mut draft, &call)?,
        }
        let plan = draft.plan(Kind::Archive)?;
        for (output, leads) in plan.outputs.iter().zip(leads) {
            self.shared.linkers.promise(output.output.clone(), Facts::plain(leads));
        }
        Ok(plan)
    }

    /// Adds what `gcc-ar` starts: the tool of that name, and the plugin that it hands to it.
    fn wrapped(&self, draft: &mut Draft<'_>, tool: &str) -> Result<PathBuf, Reason> {
        let program = &draft.invocation.program;
        let own = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let driver = program.with_file_name(own.replacen(&format!("gcc-{tool}"), "gcc", 1));
        let driver = self.shared.tools.driver(&driver, draft.files)?;
        let plugin =
            driver.part("liblto_plugin.so").ok_or(Reason::MissingInput("liblto_plugin.so".to_owned()))?;
        draft.program(plugin)?;
        let beside = driver.program_dirs.iter().map(|dir| dir.join(tool));
        let found =
            beside.into_iter().find(|path| draft.files.stamp(path).is_some()).or_else(|| draft.in_path(tool));
        let found = found.ok_or_else(|| Reason::MissingInput(tool.to_owned()))?;
        draft.program(&found)?;
        draft.keep_in_path(&found);
        Ok(found)
    }

    /// Adds an archive and its members, as inputs and output. Answers where it will lead.
    fn archive(&self, draft: &mut Draft<'_>, call: &Call, name: &str) -> Result<Leads, Halt> {
        let path = draft.invocation.dir.join(name);
        let exists = draft.find(name) != Found::Missing;
        if !exists && call.operation != Some(Operation::Add) {
            return Err(Reason::MissingInput(name.to_owned()).into());
        }
        if exists && call.newer {
            return Err(Reason::LocalFlag("u".to_owned()).into());
        }
        let mut members = Vec::new();
        let mut thin = call.thin;
        if exists {
            draft.rewrites(name)?;
            let old = self.members_of(draft, &path)?;
            thin |= old.is_some();
            members.extend(old.unwrap_or_default());
        }
        for member in &call.members {
            draft.reads(member)?;
            let path = draft.invocation.dir.join(member);
            members.extend(path.to_str().map(str::to_owned));
            if !is_plain_object(member) {
                self.members_of(draft, &path)?;
            }
        }
        if !exists {
            draft.writes(name, 0o666)?;
        }
        Ok(if thin { Leads::Members(members) } else { Leads::Nowhere })
    }

    /// The members of a thin archive by absolute path, which are added: the tool reads them, and leaves out of the index
    /// or the archive those that are not there. Nothing for what is no thin archive.
    fn members_of(&self, draft: &mut Draft<'_>, archive: &Path) -> Result<Option<Vec<String>>, Halt> {
        let facts = self.shared.linkers.knowledge().of(archive, draft.files)?;
        let Leads::Members(names) = &facts.leads else { return Ok(None) };
        let beside = archive.parent().unwrap_or(Path::new("/"));
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let path = beside.join(name);
            draft.inputs.add(Path::new("/"), &path)?;
            members.extend(path.to_str().map(str::to_owned));
            if !is_plain_object(name) {
                self.members_of(draft, &path)?;
            }
        }
        Ok(Some(members))
    }

    /// Adds the plugins that the tool loads by itself.
    fn plugins(&self, draft: &mut Draft<'_>, call: &Call) -> Result<(), Halt> {
        let bin = draft.called();
        let bin = draft.inputs.follow(Path::new("/"), &bin)?;
        let bin = bin.as_path().parent().unwrap_or(Path::new("/")).to_owned();
        let found = self.shared.plugins.of(&bin);
        let with_llvm = found.iter().any(|plugin| is_llvm(plugin)) && self.bitcode(draft, call)?;
        for plugin in found.iter().filter(|plugin| with_llvm || !is_llvm(plugin)) {
            draft.program(plugin)?;
        }
        Ok(())
    }

    /// Whether there may be bitcode among the members.
    fn bitcode(&self, draft: &Draft<'_>, call: &Call) -> Result<bool, Halt> {
        let shared = &self.shared;
        for name in call.members.iter().chain(&call.archives) {
            let path = draft.invocation.dir.join(name);
            let found = match draft.files.find(&path) {
                Found::Placeholder(_) => shared.plugins.bitcode_expected(),
                Found::File { .. } => shared.linkers.knowledge().of(&path, draft.files)?.bitcode,
                _ => false,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Model for Archiver {
    fn name(&self) -> &str {
        "ar"
    }

    fn handles(&self, tool: &str) -> bool {
        matches!(tool, "ar" | "ranlib" | "gcc-ar" | "gcc-ranlib")
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        answer(self.plan(invocation, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ar(line: &str) -> Result<Call, Reason> {
        ar_call(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_tables_are_sorted() {
        for table in [AR, RANLIB] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn operations_are_read_however_they_are_spelt() {
        for line in
            ["rc l.a a.o b.o", "-rc l.a a.o b.o", "-r -c l.a a.o b.o", "qcs l.a a.o b.o", "crD l.a a.o b.o"]
        {
            let call = ar(line).unwrap();
            assert_eq!(call.operation, Some(Operation::Add), "{line}");
            assert_eq!(
                (call.archives, call.members),
                (vec!["l.a".into()], vec!["a.o".into(), "b.o".into()]),
                "{line}"
            );
        }
        let call = ar("rb x.o l.a a.o").unwrap();
        assert_eq!((call.archives, call.members), (vec!["l.a".into()], vec!["a.o".into()]));
        assert!(ar("rcT l.a a.o").unwrap().thin && ar("rc --thin l.a a.o").unwrap().thin);
        assert_eq!(ar("s l.a").unwrap().operation, Some(Operation::Index));
        assert_eq!(ar("ds l.a a.o").unwrap().operation, Some(Operation::Change));
        assert_eq!(ar("d l.a a.o").unwrap().members, Vec::<String>::new());
    }

    #[test]
    fn what_is_more_than_bytes_runs_here() {
        let check = |line: &str, reason: Reason| assert_eq!(ar(line), Err(reason), "{line}");
        check("t l.a", Reason::Query);
        check("x l.a", Reason::LocalFlag("-x".into()));
        check("rcU l.a a.o", Reason::LocalFlag("-rcU".into()));
        check("-M", Reason::ReadsStdin);
        check("rc", Reason::Query);
        check("rZ l.a", Reason::UnknownFlag("-rZ".into()));
        check("--version", Reason::Query);
    }
}
