//! What a link reads and writes.
//!
//! A compiler driver is asked once for each set of flags what it hands to the linker ([`Template`]); into that go the
//! objects, libraries and linker options of a call, and the whole is walked as the linker walks its arguments. A call of
//! `ld` itself is walked the same way. No process is started when the flags were seen before.
//!
//! **Invariant:** for every name that the linker looks up in more than one place, the sandbox answers as this machine does:
//! the same candidates are there in the same order. So a file that is missing makes the linker fail there, and does not
//! make it choose another one silently.
//!
//! **Left out:** MRI scripts, `--remap-inputs`, error-handling scripts, `@file` read by the linker itself, LTO without the
//! linker plugin, and scripts that name the output: these run here.

#[cfg(test)]
mod complete;
pub mod defaults;
pub mod facts;
mod needed;
pub mod options;
pub mod script;
pub mod template;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ggr_ir::{OutputRef, RootPath};

use crate::inputs::InputSet;
use crate::model::{FileView, Found, Invocation, Modelled, Reason, root_path};
use crate::toolchain::Tools;
use defaults::Defaults;
use facts::{Facts, Knowledge, Leads, Shared};
use options::LdArg;
use template::{Template, Templates};
use walk::{Settings, Walk};

/// Why the files of a link cannot be told now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Halt {
    /// The command must run here.
    RunHere(Reason),
    /// What this placeholder leads to must be known first.
    Force(PathBuf),
}

impl From<Reason> for Halt {
    fn from(reason: Reason) -> Self {
        Self::RunHere(reason)
    }
}

impl From<Halt> for Modelled {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::RunHere(reason) => Self::RunHere(reason),
            Halt::Force(path) => Self::Force(vec![path]),
        }
    }
}

/// One argument of a driver call that concerns the linker, in its order among the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkItem {
    /// A file that is linked, as written.
    File(String),
    /// `-lNAME`.
    Library(String),
    /// `-LDIR`, as written.
    LibraryDir(String),
    /// One argument for the linker: `-Wl,a,b` is two of these, `-Xlinker a` is one.
    Linker(String),
}

/// The link of a compiler driver's call.
#[derive(Clone, Copy, Debug)]
pub struct LinkCall<'a> {
    /// The call.
    pub invocation: &'a Invocation,
    /// Its flags with their values as written, without those that are `items` and without `-o`.
    pub flags: &'a [String],
    /// What concerns the linker, in order.
    pub items: &'a [LinkItem],
    /// The output as written; none for `a.out`.
    pub output: Option<&'a str>,
}

/// One file that a link leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkOutput {
    /// Where, without symlinks on the way.
    pub path: RootPath,
    /// The permission bits before the umask.
    pub permissions: u32,
}

/// What a link comes to, beside its inputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linked {
    /// All that it leaves; the linked file first.
    pub outputs: Vec<LinkOutput>,
    /// What is known of the linked file: for [`Linkers::promise`] once the thunk has an id.
    pub facts: Facts,
}

/// What is known of linkers and of what they read. One for a session; calls may overlap.
#[derive(Default, Debug)]
pub struct Linkers {
    knowledge: Knowledge,
    defaults: Defaults,
    templates: Templates,
}

/// What a walk is given.
pub(crate) struct Context<'a> {
    dir: &'a Path,
    env: &'a BTreeMap<String, String>,
    linker: &'a Path,
    files: &'a dyn FileView,
    tools: &'a Tools,
    knowledge: &'a Knowledge,
    defaults: &'a Defaults,
}

impl Linkers {
    /// Starts from what an earlier session recorded: of its calls ([`Linkers::records`]), and of the files that they read
    /// ([`Knowledge::records`]).
    pub fn new(records: &[u8], knowledge: &[u8]) -> Self {
        Self {
            templates: Templates::from_bytes(records),
            knowledge: Knowledge::new(knowledge),
            ..Self::default()
        }
    }

    /// What the next session should start from.
    pub fn records(&self) -> Vec<u8> {
        self.templates.to_bytes()
    }

    /// Remembers what an output that is still to be made will be, so that a link of it need not wait for it.
    pub fn promise(&self, output: OutputRef, facts: Facts) {
        self.knowledge.promise(output, facts);
    }

    /// What is known of files and promised of outputs.
    pub fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    /// Adds all that a driver's link reads, its programs included.
    ///
    /// # Errors
    /// [`Halt`] if it must run here, or something must be made first.
    pub fn link_inputs(
        &self,
        call: &LinkCall<'_>,
        inputs: &mut InputSet<'_>,
        files: &dyn FileView,
        tools: &Tools,
    ) -> Result<Linked, Halt> {
        let template = self.templates.of(call, files)?;
        let dir = call.invocation.dir.as_path();
        let path = call.invocation.env.get("PATH").map_or("", String::as_str);
        let linker = template.linker(call.flags, path, dir, files)?;
        for program in programs(call, &template, &linker, files)? {
            inputs.add_all(&tools.tool_files(&program, files)?);
        }
        for spec in &template.specs {
            inputs.add(dir, spec)?;
        }
        let args = options::parse(&arguments(call, &template))?;
        self.walk(&args, call.invocation, &linker, inputs, (files, tools))
    }

    /// Adds all that a linker reads that is called by itself. `args` are without `argv[0]`.
    ///
    /// # Errors
    /// As [`Linkers::link_inputs`].
    pub fn ld_inputs(
        &self,
        invocation: &Invocation,
        args: &[String],
        inputs: &mut InputSet<'_>,
        files: &dyn FileView,
        tools: &Tools,
    ) -> Result<Linked, Halt> {
        inputs.add_all(&tools.tool_files(&invocation.program, files)?);
        let args = options::parse(args)?;
        let reads = |arg: &LdArg| matches!(arg, LdArg::File(_) | LdArg::Option(options::Effect::Library, _));
        if !args.iter().any(reads) {
            return Err(Reason::Query.into());
        }
        self.walk(&args, invocation, &invocation.program, inputs, (files, tools))
    }

    fn walk(
        &self,
        args: &[LdArg],
        invocation: &Invocation,
        linker: &Path,
        inputs: &mut InputSet<'_>,
        (files, tools): (&dyn FileView, &Tools),
    ) -> Result<Linked, Halt> {
        let context = Context {
            dir: &invocation.dir,
            env: &invocation.env,
            linker,
            files,
            tools,
            knowledge: &self.knowledge,
            defaults: &self.defaults,
        };
        let settings = Settings::of(args, &context);
        let outputs = outputs(&settings, &context, inputs)?;
        let (settings, shared) = Walk::new(&context, inputs, settings, &outputs).run(args)?;
        let leads = match settings.shared {
            true => Leads::Shared(Shared {
                soname: settings.soname,
                needed: shared.iter().filter_map(|(path, facts)| walk::answers_to(path, facts)).collect(),
                run_path: settings.run_path,
            }),
            false => Leads::Nowhere,
        };
        let facts = Facts { linked: !settings.relocatable, ..Facts::plain(leads) };
        Ok(Linked { outputs, facts })
    }
}

/// The linker's arguments for a driver's call.
fn arguments(call: &LinkCall<'_>, template: &Template) -> Vec<String> {
    let mut args = Vec::with_capacity(template.before.len() + call.items.len() + template.after.len() + 2);
    args.extend(["-o".to_owned(), call.output.unwrap_or("a.out").to_owned()]);
    // The specs put `-L` in front of the driver's own directories, wherever the call has it.
    args.extend(call.items.iter().filter_map(|item| match item {
        LinkItem::LibraryDir(dir) => Some(format!("-L{dir}")),
        _ => None,
    }));
    args.extend_from_slice(&template.before);
    args.extend(call.items.iter().filter_map(|item| match item {
        LinkItem::File(name) => Some(name.clone()),
        LinkItem::Library(name) => Some(format!("-l{name}")),
        LinkItem::Linker(arg) => Some(arg.clone()),
        LinkItem::LibraryDir(_) => None,
    }));
    args.extend_from_slice(&template.after);
    args
}

/// The programs that a driver's link runs. Those of LTO are always among them: whether an object holds LTO code is not
/// known before it is made.
fn programs(
    call: &LinkCall<'_>,
    template: &Template,
    linker: &Path,
    files: &dyn FileView,
) -> Result<Vec<PathBuf>, Reason> {
    let dir = call.invocation.dir.as_path();
    let path = call.invocation.env.get("PATH").map_or("", String::as_str);
    let named = call.invocation.args.first().map_or("", String::as_str);
    let found = match named.contains('/') {
        true => Some(dir.join(named)).filter(|path| files.stamp(path).is_some()),
        false => Tools::in_path(named, path, dir, files),
    };
    let driver = found.unwrap_or_else(|| call.invocation.program.clone());
    let mut programs = vec![driver, template.program.clone(), linker.to_owned()];
    programs.extend(["lto-wrapper", "lto1"].iter().filter_map(|name| template.part(name, dir, files)));
    programs.extend(template.part("as", dir, files).or_else(|| Tools::in_path("as", path, dir, files)));
    for flag in call.flags {
        match flag.as_str() {
            "-flto=jobserver" | "-fno-use-linker-plugin" => return Err(Reason::LocalFlag(flag.clone())),
            "-flto=1" => {}
            // lto-wrapper writes a makefile whose recipes need a shell.
            parallel if parallel.starts_with("-flto=") => {
                programs.extend(
                    ["make", "touch", "mv"].iter().filter_map(|tool| Tools::in_path(tool, path, dir, files)),
                );
                programs.push("/bin/sh".into());
            }
            _ => {}
        }
    }
    Ok(programs)
}

/// The outputs, each where it really stands.
fn outputs(
    settings: &Settings,
    context: &Context<'_>,
    inputs: &mut InputSet<'_>,
) -> Result<Vec<LinkOutput>, Reason> {
    let linked = if settings.relocatable { 0o666 } else { 0o777 };
    let first = (settings.output.as_deref().unwrap_or("a.out"), linked);
    if let Some(name) = settings.writes.iter().find(|name| name.contains('%')) {
        return Err(Reason::Other(format!("the linker makes up a name from `{name}`")));
    }
    let others = settings.writes.iter().filter(|name| *name != "-").map(|name| (name.as_str(), 0o666));
    std::iter::once(first)
        .chain(others)
        .map(|(name, permissions)| {
            let path = output(name, context.dir, inputs, context.files)?;
            Ok(LinkOutput { path, permissions })
        })
        .collect()
}

/// Where an output really stands: its directory's symlinks are followed and become inputs, its own are not allowed.
///
/// # Errors
/// [`Reason::SpecialOutput`] for devices, [`Reason::MissingInput`] without a directory, [`Reason::Other`] for a symlink or
/// a directory in its place.
pub fn output(
    name: &str,
    dir: &Path,
    inputs: &mut InputSet<'_>,
    files: &dyn FileView,
) -> Result<RootPath, Reason> {
    let path = dir.join(name);
    let (Some(parent), Some(last)) = (path.parent(), path.file_name()) else {
        return Err(Reason::SpecialOutput(name.to_owned()));
    };
    let real = inputs.follow(dir, parent)?;
    if files.find(real.as_path()) != Found::Directory {
        return Err(Reason::MissingInput(name.to_owned()));
    }
    inputs.add_dir(dir, parent)?;
    let path = real.as_path().join(last);
    if files.link_target(&path).is_some() {
        return Err(Reason::Other(format!("the output `{name}` is a symlink")));
    }
    match files.find(&path) {
        Found::Other | Found::Directory => Err(Reason::SpecialOutput(name.to_owned())),
        Found::Missing | Found::File { .. } | Found::Placeholder(_) => root_path(&path),
    }
}

/// Whether the name alone says that the file is an object, which leads nowhere. If it is a script for all that, what it
/// names is missing in the sandbox, the linker says so there, and the command runs here.
pub(crate) fn is_plain_object(name: &str) -> bool {
    [".o", ".lo", ".obj", ".os"].iter().any(|end| name.ends_with(end))
}
