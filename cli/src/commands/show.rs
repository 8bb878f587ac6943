//! `ggr show FILE|ID`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use ggr_backends::store::FsStore;
use ggr_ir::dag::{self, Dag};
use ggr_ir::repo::Repo;
use ggr_ir::{Mode, ObjectStore, Thunk, ThunkId};

use super::Context;
use super::context::print_bytes;
use super::target::{Target, repository_of};
use crate::error::Error;

/// Show the thunk behind a file or an id, as JSON
///
/// The JSON is what `ggr thunk create` reads. For the id of a blob, its bytes are written to standard output.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A file, or an id (T… or V…)
    target: PathBuf,
    /// The thunks that it waits for, as a tree
    #[arg(long, group = "form")]
    tree: bool,
    /// The command line
    #[arg(long, group = "form")]
    command: bool,
    /// The inputs, one a line
    #[arg(long, group = "form")]
    inputs: bool,
}

/// Prints it.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let repo = repository_of(context, &args.target)?;
    let target = Target::find(context, &repo, &args.target)?;
    if let Target::Blob(id) = target {
        print_bytes(&FsStore::new(context.blobs(&repo)).get_bytes(id)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let thunk = target.thunk(&repo)?;
    let text = if args.tree {
        tree(&repo, target.thunk_id()?)?
    } else if args.command {
        command_line(&thunk) + "\n"
    } else if args.inputs {
        inputs(&thunk)
    } else {
        thunk.to_json() + "\n"
    };
    context.print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// One line a thunk, below the one that waits for it; what was shown already is marked and not unfolded again.
fn tree(repo: &Repo, root: ThunkId) -> Result<String, Error> {
    let dag = Dag::load([root], |id| repo.thunks().get(id)).map_err(super::graph::error)?;
    let mut text = String::new();
    let mut shown = BTreeSet::new();
    let mut stack = vec![(root, 0)];
    while let Some((id, depth)) = stack.pop() {
        let label = dag.thunk(id).map(dag::label).unwrap_or_default();
        let fresh = shown.insert(id);
        let parents = dag.parents(id);
        let mark = if fresh || parents.is_empty() { "" } else { " (see above)" };
        writeln!(text, "{:indent$}{label}  {id}{mark}", "", indent = 2 * depth)
            .expect("writing to a string does not fail");
        if fresh {
            stack.extend(parents.into_iter().rev().map(|parent| (parent, depth + 1)));
        }
    }
    Ok(text)
}

/// The command as a shell would take it, variables and directory included.
fn command_line(thunk: &Thunk) -> String {
    let command = &thunk.command;
    let mut words = vec![
        "cd".to_owned(),
        quote(command.dir.as_str()),
        "&&".to_owned(),
        "env".to_owned(),
        "-i".to_owned(),
    ];
    words.extend(command.env.iter().map(|(name, value)| quote(&format!("{name}={value}"))));
    words.push(quote(command.program.as_str()));
    words.extend(command.args.iter().skip(1).map(|arg| quote(arg)));
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn inputs(thunk: &Thunk) -> String {
    let mut text = String::new();
    for (path, entry) in &thunk.inputs {
        let mode = match entry.mode {
            Mode::Regular => "file",
            Mode::Executable => "program",
            Mode::Symlink => "symlink",
            Mode::Directory => "directory",
        };
        writeln!(text, "{path}\t{mode}\t{}", entry.object).expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_needs_them() {
        assert_eq!(quote("-DX=1"), "-DX=1");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("$HOME"), "'$HOME'");
    }
}
