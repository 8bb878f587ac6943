//! `ggr thunk create`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ggr_ir::json::MAX_LEN;
use ggr_ir::{Command, Harvest, Network, OutputName, RootPath, Thunk};
use ggr_models::{FileView, InputSet, Reason, Tools};

use crate::commands::Context;
use crate::coordinator::Output;
use crate::error::Error;
use crate::report::Reporter;
use crate::run::{Purpose, Workshop, runtime};

/// Make a thunk and print its id
///
/// From JSON as `ggr show` prints it, or from flags. With flags the program's shared libraries become inputs by themselves.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A file with JSON [default: standard input]
    #[arg(conflicts_with_all = ["program", "inputs", "outputs", "variables", "cwd", "network", "arguments"])]
    json_file: Option<PathBuf>,
    /// The program, found as given or in PATH
    #[arg(long)]
    program: Option<PathBuf>,
    /// A file or directory that it may read; may be given again
    #[arg(long = "input", value_name = "FILE", requires = "program")]
    inputs: Vec<PathBuf>,
    /// A file that it writes; may be given again
    #[arg(long = "output", value_name = "FILE", requires = "program")]
    outputs: Vec<PathBuf>,
    /// A variable of its environment; may be given again
    #[arg(long = "env", value_name = "NAME=VALUE", requires = "program")]
    variables: Vec<String>,
    /// Its working directory [default: this one]
    #[arg(long, value_name = "DIR", requires = "program")]
    cwd: Option<PathBuf>,
    /// The network that it sees; another than `none` makes it another thunk
    #[arg(long, value_name = "CLASS", value_parser = network, default_value = "none", requires = "program")]
    network: Network,
    /// Its arguments, after `--`
    #[arg(last = true, requires = "program")]
    arguments: Vec<String>,
}

fn network(text: &str) -> Result<Network, String> {
    Network::named(text).ok_or_else(|| "not `none`, `tenant` or `own`".to_owned())
}

/// Stores the thunk.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let id = match &args.program {
        None => {
            let repo = context.repository_or_new()?;
            repo.thunks().put(&read(args.json_file.as_deref())?)?
        }
        Some(program) => runtime()?.block_on(from_flags(context, args, program))?,
    };
    context.print(&format!("{id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads JSON from a file, or from standard input.
pub(super) fn read(file: Option<&Path>) -> Result<Thunk, Error> {
    let mut text = String::new();
    let place = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => {
            let bound = MAX_LEN as u64 + 1;
            let read = std::fs::File::open(file).and_then(|open| open.take(bound).read_to_string(&mut text));
            read.map_err(Error::io("read", file))?;
            file.display().to_string()
        }
        None => {
            let read = std::io::stdin().take(MAX_LEN as u64 + 1).read_to_string(&mut text);
            read.map_err(Error::io("read", "standard input"))?;
            "standard input".to_owned()
        }
    };
    Thunk::from_json(&text).map_err(|source| Error::NoThunk { place, source })
}

async fn from_flags(context: &Context, args: &Args, program: &Path) -> Result<ggr_ir::ThunkId, Error> {
    let output = Output { stdout: None, stderr: None };
    let workshop = Workshop::open(context, Purpose::Build, Reporter::new(Vec::new()), output).await?;
    let thunk = tokio::task::block_in_place(|| thunk(context, args, program, workshop.session.view()));
    let id = thunk.and_then(|thunk| Ok(workshop.repo.thunks().put(&thunk)?));
    workshop.close(context).await;
    id
}

fn thunk(context: &Context, args: &Args, program: &Path, files: &dyn FileView) -> Result<Thunk, Error> {
    let wrong = |reason: Reason| usage(reason.to_string());
    let dir = context.dir.join(args.cwd.as_deref().unwrap_or(Path::new(".")));
    let dir = dir.canonicalize().map_err(Error::io("look at", &dir))?;
    let root = |path: &Path| RootPath::lexical(&dir, path).map_err(|e| usage(e.to_string()));
    let file = match program.components().count() {
        1 => Tools::in_path(&program.to_string_lossy(), &path(context), &dir, files),
        _ => Some(context.dir.join(program)),
    };
    let file = file.ok_or_else(|| Error::CommandNotFound(program.display().to_string()))?;
    let file = file.canonicalize().map_err(Error::io("look at", &file))?;
    let tools = Tools::default();
    let mut inputs = InputSet::new(files, tools.trails());
    inputs.add_all(&tools.tool_files(&file, files).map_err(wrong)?);
    inputs.add_dir(&dir, Path::new(".")).map_err(wrong)?;
    for input in &args.inputs {
        inputs.add(&dir, input).map_err(wrong)?;
    }
    let mut outputs = BTreeMap::new();
    for output in &args.outputs {
        let path = root(output)?;
        inputs.add_dir(&dir, path.as_path().parent().unwrap_or(Path::new("/"))).map_err(wrong)?;
        outputs.insert(OutputName::from(path.as_str()), path);
    }
    let name = program.display().to_string();
    let command = Command {
        program: root(&file)?,
        args: std::iter::once(name).chain(args.arguments.iter().cloned()).collect(),
        env: variables(&args.variables)?,
        dir: root(&dir)?,
    };
    let (inputs, network) = (inputs.finish(), args.network);
    Ok(Thunk { command, inputs, outputs, harvest: Harvest::Declared, network })
}

fn path(context: &Context) -> String {
    context.env.value("PATH").unwrap_or_default().to_string_lossy().into_owned()
}

fn variables(given: &[String]) -> Result<BTreeMap<String, String>, Error> {
    given
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(usage(format!("`{text}` is not `NAME=VALUE`"))),
        })
        .collect()
}

fn usage(message: String) -> Error {
    Error::Usage { message, hint: "`ggr thunk create --help` shows how a thunk is described".to_owned() }
}
