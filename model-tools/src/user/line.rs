//! Reads a command line by a tool's description.

use super::describe::{Names, UserTool, ValueFlag};
use crate::glob;
use crate::model::Reason;

/// One argument that names a file or directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Argument {
    Reads(String),
    Writes(String),
    Updates(String),
    ReadsDir(String, Option<String>),
    WritesDir(String),
}

impl Argument {
    /// What to show of a call: a file.
    pub(super) fn shown(&self) -> Option<&str> {
        match self {
            Self::Reads(name) | Self::Writes(name) | Self::Updates(name) => Some(name),
            Self::ReadsDir(..) | Self::WritesDir(_) => None,
        }
    }
}

/// Reads the arguments (without `argv[0]`).
///
/// # Errors
/// [`Reason::UnknownFlag`] for an argument that the description does not cover, [`Reason::ReadsStdin`] for `-`.
pub(super) fn read(tool: &UserTool, args: &[String]) -> Result<Vec<Argument>, Reason> {
    let mut found = Vec::new();
    let mut rest = args.iter();
    let mut only_operands = false;
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--" if !only_operands => only_operands = true,
            "-" => return Err(Reason::ReadsStdin),
            flag if !only_operands && flag.starts_with('-') => {
                if let Some((row, value)) = flag_with_value(tool, flag, &mut rest)? {
                    found.extend(named(row, value));
                }
            }
            operand => found.push(matched(tool, operand)?),
        }
    }
    Ok(found)
}

fn matched(tool: &UserTool, operand: &str) -> Result<Argument, Reason> {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| glob::matches(pattern, operand));
    if any(&tool.inputs) {
        return Ok(Argument::Reads(operand.to_owned()));
    }
    if any(&tool.outputs) {
        return Ok(Argument::Writes(operand.to_owned()));
    }
    Err(Reason::UnknownFlag(operand.to_owned()))
}

fn named(row: &ValueFlag, value: String) -> Option<Argument> {
    Some(match (&row.names, row.written) {
        (Names::Nothing, _) => return None,
        (Names::File, false) => Argument::Reads(value),
        (Names::File, true) => Argument::Writes(value),
        (Names::Update, _) => Argument::Updates(value),
        (Names::Dir(pattern), false) => Argument::ReadsDir(value, pattern.clone()),
        (Names::Dir(_), true) => Argument::WritesDir(value),
    })
}

/// The row of a flag with its value; nothing for one that takes none.
fn flag_with_value<'t, 'a>(
    tool: &'t UserTool,
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<Option<(&'t ValueFlag, String)>, Reason> {
    let unknown = || Reason::UnknownFlag(word.to_owned());
    let (name, attached) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    if let Some(row) = tool.value_flags.iter().find(|row| row.name == name) {
        let value = match attached {
            Some(value) => value.to_owned(),
            None => rest.next().ok_or_else(unknown)?.clone(),
        };
        return Ok(Some((row, value)));
    }
    let joined =
        |row: &&ValueFlag| row.name.len() == 2 && !row.name.ends_with('-') && word.starts_with(&row.name);
    if let Some(row) = tool.value_flags.iter().find(joined) {
        return Ok(Some((row, word[2..].to_owned())));
    }
    match tool.flags.iter().any(|pattern| glob::matches(pattern, word)) {
        true => Ok(None),
        false => Err(unknown()),
    }
}
