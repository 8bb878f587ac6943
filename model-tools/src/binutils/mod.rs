//! The models of GNU binutils: `ar`, `ranlib`, `strip`, `objcopy`, `as`, `ld`.
//!
//! `nm`, `size`, `objdump` and `readelf` write to their standard output only: they have no model, run here, and the files
//! that they read are made when they open them.
//!
//! **Invariant:** where a tool rewrites a file in its place, that file is an input and an output of the same thunk, and
//! keeps the permission bits that it has.

pub mod ar;
pub mod assembler;
pub mod ld;
pub mod objcopy;
mod plugins;
pub mod strip;

#[cfg(test)]
mod complete;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggr_ir::{Command, Harvest, Kind, Network, OutputName, OutputRef, RootPath, Thunk, ToolLimits};

use crate::gcc::response;
use crate::inputs::InputSet;
use crate::link::facts::Facts;
use crate::link::{Halt, Linkers};
use crate::model::{
    FileView, Found, Invocation, Model, Modelled, Plan, PlannedOutput, Reason, Stages, UNMASKED, root_path,
};
use crate::toolchain::Tools;

/// What these models share: one for a session.
#[derive(Default)]
pub struct Binutils {
    tools: Arc<Tools>,
    linkers: Arc<Linkers>,
    plugins: plugins::Plugins,
}

impl Binutils {
    /// Stands on what the session knows of tools and linkers.
    pub fn new(tools: Arc<Tools>, linkers: Arc<Linkers>) -> Self {
        Self { tools, linkers, plugins: plugins::Plugins::default() }
    }
}

/// A compiler driver's model, watched for calls that make bitcode: archivers then load LLVM's plugin.
pub struct Watched<M> {
    driver: M,
    shared: Arc<Binutils>,
}

impl<M> Watched<M> {
    /// Watches a driver's model for these tools.
    pub fn new(driver: M, shared: Arc<Binutils>) -> Self {
        Self { driver, shared }
    }
}

impl<M: Model> Model for Watched<M> {
    fn name(&self) -> &str {
        self.driver.name()
    }

    fn handles(&self, tool: &str) -> bool {
        self.driver.handles(tool)
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        let bitcode = |arg: &String| ["-flto", "-emit-llvm", "@"].iter().any(|start| arg.starts_with(start));
        let name = crate::models::tool_name(&invocation.program);
        if name.starts_with("clang") && invocation.args.iter().any(bitcode) {
            self.shared.plugins.expect_bitcode();
        }
        self.driver.model(invocation, files)
    }
}

/// The variables that choose the language of messages, the strongest first.
const MESSAGES: &[&str] = &["LC_ALL", "LC_MESSAGES", "LANG"];

/// A call that is being modelled.
struct Draft<'a> {
    invocation: &'a Invocation,
    files: &'a dyn FileView,
    tools: &'a Tools,
    /// The arguments without `argv[0]`, response files expanded.
    args: Vec<String>,
    inputs: InputSet<'a>,
    env: BTreeMap<String, String>,
    outputs: Vec<(RootPath, u32)>,
    deferrable: bool,
}

impl<'a> Draft<'a> {
    /// Expands the arguments, and adds the tool with its libraries under the name that it is called by.
    fn new(invocation: &'a Invocation, files: &'a dyn FileView, tools: &'a Tools) -> Result<Self, Halt> {
        english(&invocation.env)?;
        let expanded =
            response::expand(&invocation.args, &invocation.dir, files).map_err(|error| match error {
                response::ExpandError::Placeholder(path) => Halt::Force(path),
                response::ExpandError::RunHere(reason) => Halt::RunHere(reason),
            })?;
        let mut draft = Self {
            invocation,
            files,
            tools,
            args: expanded.args.into_iter().skip(1).collect(),
            inputs: InputSet::new(files, tools.trails()),
            env: BTreeMap::new(),
            outputs: Vec::new(),
            deferrable: true,
        };
        for file in &expanded.files {
            draft.inputs.add(&invocation.dir, file)?;
        }
        draft.program(&invocation.program)?;
        let called = draft.called();
        draft.program(&called)?;
        Ok(draft)
    }

    /// The tool's file by the name that it is called by. A tool that finds its own directory through `PATH` is given the
    /// one that it stands in.
    fn called(&mut self) -> PathBuf {
        let named = self.invocation.args.first().map_or("", String::as_str);
        if named.contains('/') {
            return self.invocation.dir.join(named);
        }
        match self.in_path(named) {
            Some(found) => {
                self.keep_in_path(&found);
                found
            }
            None => self.invocation.program.clone(),
        }
    }

    /// Keeps the directory of a program in the tool's `PATH`.
    fn keep_in_path(&mut self, program: &Path) {
        let dir = program.parent().unwrap_or(Path::new("/")).display().to_string();
        let path = self.env.entry("PATH".to_owned()).or_default();
        if path.split(':').all(|kept| kept != dir) {
            *path = if path.is_empty() { dir } else { format!("{path}:{dir}") };
        }
    }

    fn in_path(&self, name: &str) -> Option<PathBuf> {
        let path = self.invocation.env.get("PATH").map_or("", String::as_str);
        Tools::in_path(name, path, &self.invocation.dir, self.files)
    }

    /// Passes these variables on.
    fn pass(&mut self, names: &[&str]) {
        for &name in names {
            if let Some(value) = self.invocation.env.get(name) {
                self.env.insert(name.to_owned(), value.clone());
            }
        }
    }

    /// Adds a program, or a library that is loaded, with all that it loads itself.
    fn program(&mut self, path: &Path) -> Result<(), Reason> {
        self.inputs.add_all(&self.tools.tool_files(path, self.files)?);
        Ok(())
    }

    /// Adds a file that is read.
    fn reads(&mut self, name: &str) -> Result<RootPath, Reason> {
        self.inputs.add(&self.invocation.dir, Path::new(name))
    }

    /// Adds a file that is written.
    fn writes(&mut self, name: &str, permissions: u32) -> Result<RootPath, Reason> {
        let path = crate::link::output(name, &self.invocation.dir, &mut self.inputs, self.files)?;
        self.outputs.push((path.clone(), permissions));
        Ok(path)
    }

    /// Adds a file that is rewritten in its place.
    ///
    /// The caller waits if it is real already: should the tool fail, the file must still be there.
    fn rewrites(&mut self, name: &str) -> Result<(), Reason> {
        let path = self.invocation.dir.join(name);
        self.deferrable &= matches!(self.find(name), Found::Placeholder(_));
        self.reads(name)?;
        // What stands there is asked of the system: its bits and names are the placeholder's, whose file it is.
        let meta = std::fs::metadata(&path).map_err(|_| Reason::MissingInput(name.to_owned()))?;
        if meta.nlink() > 1 {
            return Err(Reason::Other(format!("`{name}` has another name, and is rewritten under both")));
        }
        self.writes(name, UNMASKED | (meta.mode() & 0o7777))?;
        Ok(())
    }

    fn find(&self, name: &str) -> Found {
        self.files.find(&self.invocation.dir.join(name))
    }

    /// The plan: one thunk.
    fn plan(self, kind: Kind) -> Result<Box<Plan>, Reason> {
        let invocation = self.invocation;
        let tool = invocation.program.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let called = invocation.args.first().and_then(|name| name.rsplit('/').next()).unwrap_or(tool);
        let shown = self.outputs.first().map_or("", |(path, _)| path.file_name());
        let label = format!("{called} {shown}");
        let thunk = Thunk {
            command: Command {
                program: root_path(&invocation.program)?,
                args: invocation.args.clone(),
                env: self.env,
                dir: root_path(&invocation.dir)?,
            },
            inputs: self.inputs.finish(),
            outputs: self
                .outputs
                .iter()
                .map(|(path, _)| (OutputName::from(path.as_str()), path.clone()))
                .collect(),
            harvest: if self.deferrable { Harvest::Declared } else { Harvest::Everything },
            network: Network::None,
        };
        let id = thunk.id();
        let planned = |(path, permissions): (RootPath, u32)| PlannedOutput {
            path: path.as_path().to_owned(),
            output: OutputRef { thunk: id, name: path.as_str().into() },
            permissions,
        };
        Ok(Box::new(Plan {
            limits: ToolLimits::default(),
            outputs: self.outputs.into_iter().map(planned).collect(),
            thunks: vec![(thunk, kind)],
            written: Vec::new(),
            deferrable: self.deferrable,
            cacheable: true,
            fails: false,
            separable: Vec::new(),
            label,
            stages: Stages::None,
        }))
    }
}

/// The messages of these tools are translated; their catalogues are no inputs.
fn english(env: &BTreeMap<String, String>) -> Result<(), Reason> {
    let set = |name: &&&str| env.get(**name).filter(|value| !value.is_empty());
    let Some(locale) = MESSAGES.iter().find_map(|name| set(&name)) else { return Ok(()) };
    let plain = ["C", "POSIX", "en"].iter().any(|start| {
        locale.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
    });
    if plain { Ok(()) } else { Err(Reason::Other(format!("messages in the locale `{locale}`"))) }
}

/// Turns the steps' outcome into an answer.
fn answer(modelled: Result<Box<Plan>, Halt>) -> Modelled {
    modelled.map_or_else(Modelled::from, Modelled::Thunks)
}

/// Remembers what a plan's first output will be.
fn promise(linkers: &Linkers, plan: &Plan, facts: Facts) {
    if let Some(first) = plan.outputs.first() {
        linkers.promise(first.output.clone(), facts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translated_messages_are_left_to_this_machine() {
        let check = |name: &str, value: &str, plain: bool| {
            let env = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(english(&env).is_ok(), plain, "{name}={value}");
        };
        check("LANG", "C.UTF-8", true);
        check("LANG", "en_GB.UTF-8", true);
        check("LC_ALL", "POSIX", true);
        check("LC_ALL", "", true);
        check("LC_MESSAGES", "de_DE.UTF-8", false);
        check("LANG", "enm", false);
    }

    #[test]
    fn bitcode_is_expected_once_clang_was_asked_for_it() {
        let shared = Arc::new(Binutils::default());
        let watched = Watched::new(strip::Strip::new(shared.clone()), shared.clone());
        let call = |line: &str| {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let program = Path::new("/usr/bin").join(&args[0]);
            let dir = PathBuf::from("/");
            let invocation =
                Invocation { program, args, env: BTreeMap::new(), dir, stderr_is_terminal: false };
            watched.model(&invocation, &crate::testing::DiskView::new());
            shared.plugins.bitcode_expected()
        };
        assert!(!call("clang-14 -c a.c"));
        assert!(!call("gcc-12 -flto -c a.c"));
        assert!(call("clang++-14 -flto=thin -c a.cc"));
    }
}
