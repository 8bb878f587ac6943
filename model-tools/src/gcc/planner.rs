//! From a call to its plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggr_ir::{Command, Harvest, Kind, Network, OutputName, OutputRef, RootPath, Thunk, ToolLimits};

use super::Gcc;
use super::call::{self, Call, LinkArg, Source};
use super::clang::{self, Dialect};
use super::environment::{self, Environment};
use super::flags::Mode;
use super::separable::separable;
use super::source::{Language, Personality};
use super::stages::Stager;
use super::stop::Stop;
use super::units::{Unit, Units};
use super::{PREPROCESSOR_FAILS, outputs, response};
use crate::inputs::InputSet;
use crate::link::{self, LinkCall, LinkItem, Linked};
use crate::model::{FileView, Invocation, Plan, PlannedOutput, Reason, Stages, root_path};
use crate::toolchain::{Family, ToolFiles};

/// Directories of which a sandbox keeps only what was declared.
const NOT_HARVESTED: [&str; 4] = ["/tmp", "/var/tmp", "/dev", "/proc"];

/// One call on its way to a plan.
pub(super) struct Planner<'a> {
    gcc: &'a Gcc,
    invocation: &'a Invocation,
    files: &'a dyn FileView,
    call: Call,
    /// What the driver is given in the sandbox.
    args: Vec<String>,
    /// Response files, as spelled.
    responses: Vec<PathBuf>,
    set: InputSet<'a>,
    /// The declared outputs, with their permissions.
    outputs: BTreeMap<RootPath, u32>,
    written: Vec<(PathBuf, Vec<u8>)>,
    /// The compiler's programs with their libraries.
    tools: ToolFiles,
    /// The assembler that the driver starts.
    assembler: Option<PathBuf>,
}

impl<'a> Planner<'a> {
    /// Reads the command line.
    ///
    /// # Errors
    /// [`Stop`] if that tells already that it must run here.
    pub(super) fn new(
        gcc: &'a Gcc,
        invocation: &'a Invocation,
        files: &'a dyn FileView,
    ) -> Result<Self, Stop> {
        let dialect = Dialect::of(&invocation.program);
        let named = invocation.args.first().map_or("", String::as_str);
        let personality = match dialect {
            Dialect::Clang => Some(clang::personality(named)),
            Dialect::Gcc => personality(&invocation.program),
        };
        let personality =
            personality.ok_or_else(|| Reason::NoModel(invocation.program.display().to_string()))?;
        let expanded = response::expand(&invocation.args, &invocation.dir, files)?;
        let call = call::parse(expanded.args.get(1..).unwrap_or_default(), personality, dialect)?;
        if dialect == Dialect::Clang {
            clang::check(&call)?;
        }
        let args = match call.native {
            true => gcc.natives.spell_out(&invocation.program, &expanded.args, &call, files)?,
            false => invocation.args.clone(),
        };
        Ok(Self {
            gcc,
            invocation,
            files,
            call,
            args: coloured(args, invocation),
            responses: expanded.files,
            set: InputSet::new(files, gcc.tools.trails()),
            outputs: BTreeMap::new(),
            written: Vec::new(),
            tools: Arc::new([]),
            assembler: None,
        })
    }

    /// Gathers inputs and outputs.
    ///
    /// # Errors
    /// [`Stop`] if it must run here, or something must be made first.
    pub(super) fn plan(mut self) -> Result<Plan, Stop> {
        let dir = self.invocation.dir.as_path();
        self.set.add_dir(dir, dir)?;
        let links = self.call.mode == Mode::Link;
        let environment =
            environment::gather(self.invocation, links, (&mut self.set, &self.gcc.searches), self.files)?;
        let units = self.units(&environment)?;
        let linked = if links { Some(self.link()?) } else { None };
        self.declare(&units, linked.as_ref())?;
        for file in std::mem::take(&mut self.responses) {
            self.set.add(dir, &file)?;
        }
        let locale = self.locale(&environment.env);
        self.set.add_all(&locale);
        if self.gcc.assemblers.is_none() {
            return self.finish(environment, units, linked);
        }
        let stager = Stager {
            gcc: self.gcc,
            invocation: self.invocation,
            files: self.files,
            call: self.call.clone(),
            exact: self.exact(),
            precompiled: units.iter().any(Unit::takes_precompiled),
            env: environment.env.clone(),
            tools: self.tools.clone(),
            locale,
            assembler: self.assembler.clone(),
        };
        self.finish(environment, units, linked)
            .map(|fused| if fused.fails { fused } else { stager.cut(fused) })
    }

    fn units(&mut self, environment: &Environment) -> Result<Vec<Unit>, Stop> {
        let driver = self.gcc.tools.driver(&self.invocation.program, self.files)?;
        let clang = driver.family == Family::Clang;
        if clang {
            clang::add_installation(&driver, &mut self.set, self.files)?;
        }
        let mut programs = vec![environment.driver.as_path(), self.invocation.program.as_path()];
        for source in &self.call.sources {
            if let Some(name) = source.language.compiler().filter(|_| !clang) {
                programs.push(driver.part(name).ok_or_else(|| Reason::MissingInput(name.to_owned()))?);
            }
        }
        let assembles = matches!(self.call.mode, Mode::Assemble | Mode::Link) && !self.call.precompiles();
        if assembles && !self.call.sources.is_empty() {
            // Clang starts it only when it is told to.
            let assembler = driver.part("as").or(environment.assembler.as_deref());
            programs.push(assembler.ok_or_else(|| Reason::MissingInput("as".to_owned()))?);
            self.assembler = assembler.map(Path::to_owned);
        }
        if self.call.extras.contains("dwo") {
            programs.extend(environment.objcopy.as_deref());
        }
        // The driver looks for the linker's plugin before it sees that nothing is linked (`driver::maybe_run_linker`).
        let links_nothing = matches!(self.call.mode, Mode::Check | Mode::Dependencies);
        if (links_nothing || self.call.precompiles())
            && let Some(plugin) = driver.part("liblto_plugin.so")
        {
            self.set.add(Path::new("/"), plugin)?;
        }
        programs.sort();
        programs.dedup();
        let (version, files) = self.gcc.tools.stamped_files_of(&programs, self.files)?;
        environment::check_libraries(self.invocation, &files, self.files)?;
        self.set.add_all(&files);
        self.tools = files;
        let units = Units {
            gcc: self.gcc,
            call: &self.call,
            invocation: self.invocation,
            env: &environment.env,
            files: self.files,
            version,
            family: driver.family,
        };
        self.call.sources.iter().map(|source| units.add(source, &mut self.set)).collect()
    }

    fn link(&mut self) -> Result<Linked, Stop> {
        let items: Vec<LinkItem> = self.call.link_items.iter().cloned().map(LinkItem::from).collect();
        let call = LinkCall {
            invocation: self.invocation,
            flags: &self.call.flags,
            items: &items,
            output: self.call.output.as_deref(),
        };
        Ok(self.gcc.linkers.link_inputs(&call, &mut self.set, self.files, &self.gcc.tools)?)
    }

    /// Names the outputs, and writes the depfiles of a call that can be answered before it ran.
    fn declare(&mut self, units: &[Unit], linked: Option<&Linked>) -> Result<(), Stop> {
        for output in linked.iter().flat_map(|linked| &linked.outputs) {
            self.outputs.insert(output.path.clone(), output.permissions);
        }
        for name in std::mem::take(&mut self.call.dump_names) {
            let file = name.rsplit('=').next().unwrap_or(&name);
            if let Some(parent) = Path::new(file).parent() {
                self.set.add_dir(&self.invocation.dir, parent)?;
            }
        }
        for (source, unit) in self.call.sources.clone().into_iter().zip(units) {
            if let Some(name) = outputs::object(&self.call, &source) {
                self.declare_one(&name, &source)?;
            }
            let Some(name) = outputs::depfile(&self.call, &source) else { continue };
            let path = match link::output(&name, &self.invocation.dir, &mut self.set, self.files) {
                Ok(path) => path,
                Err(Reason::SpecialOutput(special)) if special == "/dev/null" => continue,
                Err(reason) => return Err(reason.into()),
            };
            let scan = unit.scan.as_deref().filter(|_| !unit.lists_for_itself);
            match scan.and_then(|scan| outputs::depfile_text(&self.call, &source, scan)) {
                Some(text) if self.exact() => self.written.push((path.as_path().to_owned(), text)),
                _ => drop(self.outputs.insert(path, 0o666)),
            }
        }
        Ok(())
    }

    fn declare_one(&mut self, name: &str, source: &Source) -> Result<(), Stop> {
        if name == "-" {
            return Err(Reason::SpecialOutput(name.to_owned()).into());
        }
        let path = link::output(name, &self.invocation.dir, &mut self.set, self.files)?;
        if self.set.follow(&self.invocation.dir, Path::new(&source.path))? == path {
            return Err(Reason::Other(format!("`{name}` is both source and output")).into());
        }
        if self.outputs.insert(path, 0o666).is_some() {
            return Err(Reason::Other(format!("`{name}` is written twice")).into());
        }
        Ok(())
    }

    /// Whether the declared outputs and the depfiles are all that the call leaves, and it says nothing that is its result.
    fn exact(&self) -> bool {
        let call = &self.call;
        let simple = match call.mode {
            Mode::Assemble | Mode::Compile => !call.sources.is_empty() && call.link_items.is_empty(),
            Mode::Link => call.sources.is_empty(),
            Mode::Check | Mode::Preprocess | Mode::Dependencies => false,
        };
        simple && call.extras.is_empty() && !call.dumps
    }

    /// Whether files may be left that are not declared.
    fn undeclared(&self) -> bool {
        !self.call.extras.is_empty() || self.call.dumps
    }

    fn locale(&self, env: &BTreeMap<String, String>) -> ToolFiles {
        let key = environment::locale_key(env);
        let known = self.gcc.locales.lock().expect("no holder panics").get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut set = InputSet::new(self.files, self.gcc.tools.trails());
            environment::add_locale(env, &mut set, self.files);
            let files: ToolFiles = set.finish().into_iter().collect();
            self.gcc.locales.lock().expect("no holder panics").insert(key, files.clone());
            files
        })
    }

    fn finish(
        mut self,
        environment: Environment,
        units: Vec<Unit>,
        linked: Option<Linked>,
    ) -> Result<Plan, Stop> {
        let mut env = environment.env;
        let uses_time = units.iter().any(|unit| unit.uses_time) && !env.contains_key("SOURCE_DATE_EPOCH");
        if uses_time {
            env.extend(self.invocation.env.get("TZ").map(|zone| ("TZ".to_owned(), zone.clone())));
            let _ = self.set.add(Path::new("/"), Path::new("/etc/localtime"));
        }
        let fails = units.iter().any(|unit| unit.scan.as_ref().is_some_and(|scan| scan.fails));
        if fails && self.undeclared() {
            return Err(Reason::Other(PREPROCESSOR_FAILS.into()).into());
        }
        let deferrable = self.exact();
        let written_below = |dir: &str| {
            self.invocation.dir.starts_with(dir)
                || self.outputs.keys().any(|path| path.as_path().starts_with(dir))
        };
        if self.undeclared() && NOT_HARVESTED.iter().any(|dir| written_below(dir)) {
            return Err(Reason::Other("files beside the output in a temporary directory".into()).into());
        }
        let thunk = Thunk {
            command: Command {
                program: root_path(&self.invocation.program)?,
                args: self.args,
                env,
                dir: root_path(&self.invocation.dir)?,
            },
            inputs: self.set.finish(),
            outputs: self
                .outputs
                .keys()
                .map(|path| (OutputName::from(path.as_str()), path.clone()))
                .collect(),
            harvest: if deferrable { Harvest::Declared } else { Harvest::Everything },
            network: Network::None,
        };
        let id = thunk.id();
        let output = |path: &RootPath| OutputRef { thunk: id, name: OutputName::from(path.as_str()) };
        if let Some(linked) = linked
            && let Some(first) = linked.outputs.first()
        {
            self.gcc.linkers.promise(output(&first.path), linked.facts);
        }
        if let ([Unit { scan: Some(scan), .. }], Some(path)) = (&units[..], self.outputs.keys().next())
            && self.call.precompiles()
        {
            self.gcc.precompiled.promise(output(path), scan, &self.invocation.dir, self.files);
        }
        Ok(Plan {
            limits: ToolLimits::default(),
            outputs: self
                .outputs
                .iter()
                .map(|(path, permissions)| PlannedOutput {
                    path: path.as_path().to_owned(),
                    output: output(path),
                    permissions: *permissions,
                })
                .collect(),
            written: self.written,
            deferrable,
            cacheable: !uses_time,
            fails,
            separable: separable(&self.call, Dialect::of(&self.invocation.program), &self.invocation.args),
            label: label(self.invocation, &self.call, self.outputs.keys().next()),
            stages: Stages::None,
            thunks: vec![(thunk, kind(&self.call))],
        })
    }
}

impl From<LinkArg> for LinkItem {
    fn from(arg: LinkArg) -> Self {
        match arg {
            LinkArg::File(name) => Self::File(name),
            LinkArg::Library(name) => Self::Library(name),
            LinkArg::LibraryDir(name) => Self::LibraryDir(name),
            LinkArg::Linker(text) => Self::Linker(text),
        }
    }
}

fn kind(call: &Call) -> Kind {
    let assembler = |source: &Source| source.language == Language::Assembler;
    match call.mode {
        Mode::Link if call.sources.is_empty() => Kind::Link,
        Mode::Preprocess | Mode::Dependencies => Kind::Preprocess,
        _ if !call.sources.is_empty() && call.sources.iter().all(assembler) => Kind::Assemble,
        _ => Kind::Compile,
    }
}

/// Asks for colours if the caller's messages go to a terminal, as the tool would find out by itself here. The flag
/// appears nowhere in the result.
fn coloured(mut args: Vec<String>, invocation: &Invocation) -> Vec<String> {
    let plain = ["-fdiagnostics-color", "-fno-diagnostics-color", "-fdiagnostics-plain-output", "@"];
    let said = args.iter().any(|arg| plain.iter().any(|flag| arg.starts_with(flag)));
    let capable = invocation.env.get("TERM").is_some_and(|term| term != "dumb");
    if invocation.stderr_is_terminal && capable && !said {
        args.push("-fdiagnostics-color=always".to_owned());
    }
    args
}

fn label(invocation: &Invocation, call: &Call, output: Option<&RootPath>) -> String {
    let named = invocation.args.first().map_or("gcc", String::as_str);
    let tool = named.rsplit('/').next().unwrap_or(named);
    let source = call.sources.first();
    let object = source.and_then(|source| outputs::object(call, source));
    let object = object.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path));
    let what = object.or(output.map(RootPath::file_name)).or(source.map(|source| source.path.as_str()));
    format!("{tool} {}", what.unwrap_or("a.out"))
}

/// Which driver a file is: its name ends with one of the known ones, behind a triplet and before a version.
fn personality(program: &Path) -> Option<Personality> {
    let mut name = program.file_name()?.to_str()?;
    while let Some((rest, version)) = name.rsplit_once('-')
        && !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        name = rest;
    }
    Personality::of(name).or_else(|| {
        let (triplet, tool) = name.rsplit_once('-')?;
        let is_triplet = triplet.contains('-');
        Personality::of(tool).filter(|_| is_triplet)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_asked_for_where_the_tool_would_show_them() {
        let check = |line: &str, term: &str, stderr_is_terminal: bool, expected: bool| {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let env = [("TERM".to_owned(), term.to_owned())].into();
            let (program, dir) = ("/usr/bin/gcc".into(), "/".into());
            let invocation = Invocation { program, args: args.clone(), env, dir, stderr_is_terminal };
            assert_eq!(coloured(args.clone(), &invocation).len() > args.len(), expected, "{line}");
        };
        check("gcc -c a.c", "xterm", true, true);
        check("gcc -c a.c", "xterm", false, false);
        check("gcc -c a.c", "dumb", true, false);
        check("gcc -c a.c -fdiagnostics-color=never", "xterm", true, false);
    }

    #[test]
    fn drivers_are_known_by_their_names() {
        let check = |name: &str, expected| assert_eq!(personality(Path::new(name)), expected, "{name}");
        check("/usr/bin/gcc", Some(Personality::C));
        check("/usr/bin/x86_64-linux-gnu-gcc-12", Some(Personality::C));
        check("/usr/bin/x86_64-linux-gnu-g++-12.2", Some(Personality::Cxx));
        check("/usr/bin/x86_64-linux-gnu-cpp-12", Some(Personality::Cpp));
        check("/usr/bin/gcc-ar-12", None);
        check("/usr/bin/x86_64-linux-gnu-gcc-ar-12", None);
        check("/usr/bin/my-gcc", None);
    }
}
