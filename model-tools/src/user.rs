//! Models of other tools, described by the user in `ggr.toml`.
//!
//! ```toml
//! [[tool]]
//! name = "protoc"                       # the file's name; versions and triplets may be left off
//! inputs = ["*.proto"]                  # operands that are read
//! outputs = []                          # operands that are written
//! input_flags = ["-I:dir:*.proto", "--descriptor_set_in"]
//! output_flags = ["--cpp_out:dir", "-o", "--dependency_out"]
//! value_flags = ["--plugin"]            # flags with a value that names no file
//! flags = ["--experimental_*", "-v"]    # flags without a value
//! env = ["PROTOC_DEBUG"]                # variables that are passed on
//! programs = ["protoc-gen-grpc"]        # programs that it starts, by name or path
//! extra_files = ["/etc/protoc.conf"]    # files that it always reads
//! extra_dirs = ["/usr/include/google"]  # directories that it always reads, whole
//! cache = true                          # false: the result hangs on more (time, randomness)
//! network = "none"                      # or "tenant" or "own": the network that it sees
//! time_limit = "5m"                     # bounds on one run, in place of the user's
//! memory_limit = "2G"
//! output_limit = "100M"
//! process_limit = 64
//! ```
//!
//! **Operands** are the arguments that do not start with `-`, and all after `--`. Each must match a pattern of `inputs` or
//! `outputs` (`*` stands for any text, `?` for one byte; `inputs` come first).
//!
//! **Flags** are matched by name. A value follows `=` or is the next argument; after a dash and one letter it may follow in
//! the same word. What the value names is said after a colon: `file` (which may be left out), `dir` (a directory; of
//! one that is read all files are inputs, or with `dir:PATTERN` those whose names match), `update` (a file that is read if
//! it is there, and written). Names in `flags` may be patterns.
//!
//! **`network`** makes thunks of their own: what a tool finds with one is not what it finds without.
//!
//! An argument that is matched by nothing makes the command run here; it is never guessed at. The command waits for its
//! result, and whatever it writes is taken, so `outputs` and `output_flags` need to name only what must be there in the
//! end and the directories that must exist before.
//!
//! A **script** (`#!`) comes with its interpreter. The files that the interpreter reads itself (Python's library, modules)
//! are not known to ggr: declare them in `extra_dirs`, or the script fails in its sandbox and runs here.
//!
//! **Left out:** response files, directories that are updated, flags that turn others around.

mod describe;
mod files;
mod line;

pub use describe::{UserError, UserTool};

use std::path::Path;
use std::sync::Arc;

use ggr_ir::{Command, Harvest, Kind, OutputName, Thunk};

use crate::model::{FileView, Invocation, Model, Modelled, Plan, Reason, Stages, root_path};
use crate::toolchain::Tools;
use files::Gathering;

/// The model of a tool that the user described.
pub struct User {
    tool: UserTool,
    tools: Arc<Tools>,
}

impl UserTool {
    /// Its model.
    pub fn model(self, tools: Arc<Tools>) -> User {
        User { tool: self, tools }
    }
}

impl User {
    fn plan(&self, invocation: &Invocation, files: &dyn FileView) -> Result<Plan, Reason> {
        let arguments = line::read(&self.tool, invocation.args.get(1..).unwrap_or_default())?;
        let mut gathering = Gathering::new(invocation, files, &self.tools);
        gathering.tool(&self.tool)?;
        for argument in &arguments {
            gathering.argument(argument)?;
        }
        let (inputs, outputs, env) = gathering.finish(&self.tool);
        let thunk = Thunk {
            command: Command {
                program: root_path(&invocation.program)?,
                args: invocation.args.clone(),
                env,
                dir: root_path(&invocation.dir)?,
            },
            inputs,
            outputs: outputs.iter().map(|path| (OutputName::from(path.as_str()), path.clone())).collect(),
            harvest: Harvest::Everything,
            network: self.tool.network,
        };
        let shown = arguments.iter().find_map(line::Argument::shown).unwrap_or_default();
        let shown = Path::new(shown).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(Plan {
            limits: self.tool.limits,
            // The tool alone knows what bits it gives them.
            outputs: Vec::new(),
            thunks: vec![(thunk, Kind::Other)],
            written: Vec::new(),
            deferrable: false,
            cacheable: self.tool.cache,
            fails: false,
            separable: Vec::new(),
            label: format!("{} {shown}", self.tool.name()),
            stages: Stages::None,
        })
    }
}

impl Model for User {
    fn name(&self) -> &str {
        self.tool.name()
    }

    fn handles(&self, tool: &str) -> bool {
        tool == self.tool.name()
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        match self.plan(invocation, files) {
            Ok(plan) => Modelled::Thunks(Box::new(plan)),
            Err(reason) => Modelled::RunHere(reason),
        }
    }
}

#[cfg(test)]
mod tests;
