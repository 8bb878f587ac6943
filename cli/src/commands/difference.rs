//! What is different between two thunks that make the same file.

use std::collections::BTreeMap;
use std::fmt;

use ggr_ir::{Entry, Object, RootPath, Thunk};

/// One difference, from the earlier thunk to the later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Another program file.
    Program(RootPath, RootPath),
    /// Another working directory.
    Directory(RootPath, RootPath),
    /// An argument that only the later one has.
    ArgumentAdded(String),
    /// An argument that only the earlier one had.
    ArgumentRemoved(String),
    /// The same arguments in another order.
    ArgumentOrder,
    /// A variable with another value; nothing: unset.
    Variable(String, Option<String>, Option<String>),
    /// An input that only the later one has.
    InputAdded(RootPath),
    /// An input that only the earlier one had.
    InputRemoved(RootPath),
    /// An input with other bytes.
    InputBytes(RootPath),
    /// An input that another thunk makes now.
    InputMade(RootPath),
    /// An input of another kind (executable or not, symlink, directory).
    InputMode(RootPath),
    /// Other outputs.
    Outputs,
    /// Undeclared writes are taken in another way.
    Harvest,
}

impl Difference {
    /// Every difference, what a user changes most often first.
    pub(super) fn between(before: &Thunk, after: &Thunk) -> Vec<Self> {
        let mut found = inputs(&before.inputs, &after.inputs);
        found.extend(arguments(&before.command.args, &after.command.args));
        found.extend(variables(&before.command.env, &after.command.env));
        if before.command.program != after.command.program {
            found.push(Self::Program(before.command.program.clone(), after.command.program.clone()));
        }
        if before.command.dir != after.command.dir {
            found.push(Self::Directory(before.command.dir.clone(), after.command.dir.clone()));
        }
        if before.outputs != after.outputs {
            found.push(Self::Outputs);
        }
        if before.harvest != after.harvest {
            found.push(Self::Harvest);
        }
        found
    }
}

fn inputs(
    before: &BTreeMap<RootPath, Entry<Object>>,
    after: &BTreeMap<RootPath, Entry<Object>>,
) -> Vec<Difference> {
    let changed = after.iter().filter_map(|(path, entry)| match before.get(path) {
        None => Some(Difference::InputAdded(path.clone())),
        Some(old) if old.mode != entry.mode => Some(Difference::InputMode(path.clone())),
        Some(old) if old.object == entry.object => None,
        Some(_) => Some(match entry.object {
            Object::Blob(_) => Difference::InputBytes(path.clone()),
            Object::Output(_) => Difference::InputMade(path.clone()),
        }),
    });
    let removed =
        before.keys().filter(|path| !after.contains_key(*path)).cloned().map(Difference::InputRemoved);
    changed.chain(removed).collect()
}

fn arguments(before: &[String], after: &[String]) -> Vec<Difference> {
    if before == after {
        return Vec::new();
    }
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|arg| !those.contains(arg)).cloned().collect()
    };
    let mut found: Vec<_> = only(after, before).into_iter().map(Difference::ArgumentAdded).collect();
    found.extend(only(before, after).into_iter().map(Difference::ArgumentRemoved));
    if found.is_empty() {
        found.push(Difference::ArgumentOrder);
    }
    found
}

fn variables(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Difference> {
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Difference::Variable(name.clone(), before.get(name).cloned(), after.get(name).cloned()))
        .collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unset =
            |value: &Option<String>| value.as_ref().map_or("unset".to_owned(), |value| format!("`{value}`"));
        match self {
            Self::Program(from, to) => write!(f, "program `{from}` became `{to}`"),
            Self::Directory(from, to) => write!(f, "directory `{from}` became `{to}`"),
            Self::ArgumentAdded(arg) => write!(f, "argument `{arg}` is new"),
            Self::ArgumentRemoved(arg) => write!(f, "argument `{arg}` is gone"),
            Self::ArgumentOrder => f.write_str("the arguments are in another order"),
            Self::Variable(name, from, to) => {
                write!(f, "variable `{name}` was {} and is {}", unset(from), unset(to))
            }
            Self::InputAdded(path) => write!(f, "input `{path}` is new"),
            Self::InputRemoved(path) => write!(f, "input `{path}` is gone"),
            Self::InputBytes(path) => write!(f, "input `{path}` has changed"),
            Self::InputMade(path) => write!(f, "input `{path}` is made in another way (`ggr why {path}`)"),
            Self::InputMode(path) => write!(f, "input `{path}` is another kind of file"),
            Self::Outputs => f.write_str("the outputs have other names"),
            Self::Harvest => f.write_str("undeclared writes are taken in another way"),
        }
    }
}

#[cfg(test)]
mod tests {
    use ggr_ir::{BlobId, Command, Harvest, Mode};

    use super::*;

    fn thunk(args: &[&str], inputs: &[(&str, &str)], env: &[(&str, &str)]) -> Thunk {
        let path = |text: &str| RootPath::new(text).unwrap();
        let entry =
            |text: &str| Entry { object: Object::Blob(BlobId::of(text.as_bytes())), mode: Mode::Regular };
        Thunk {
            command: Command {
                program: path("/usr/bin/gcc"),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                dir: path("/src"),
            },
            inputs: inputs.iter().map(|(at, text)| (path(at), entry(text))).collect(),
            outputs: BTreeMap::new(),
            harvest: Harvest::Declared,
            network: ggr_ir::Network::None,
        }
    }

    fn check(before: &Thunk, after: &Thunk, expected: &[&str]) {
        let found: Vec<_> = Difference::between(before, after).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn changed_inputs_come_first() {
        check(
            &thunk(&["gcc", "-O1"], &[("/a.c", "1"), ("/old.h", "")], &[("LANG", "C")]),
            &thunk(&["gcc", "-O2"], &[("/a.c", "2"), ("/new.h", "")], &[]),
            &[
                "input `/a.c` has changed",
                "input `/new.h` is new",
                "input `/old.h` is gone",
                "argument `-O2` is new",
                "argument `-O1` is gone",
                "variable `LANG` was `C` and is unset",
            ],
        );
    }

    #[test]
    fn the_same_thunk_has_no_difference_and_an_order_is_one() {
        let one = thunk(&["gcc", "-a", "-b"], &[], &[]);
        check(&one, &one, &[]);
        check(&one, &thunk(&["gcc", "-b", "-a"], &[], &[]), &["the arguments are in another order"]);
    }
}
