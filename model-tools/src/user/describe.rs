//! Reads the `[[tool]]` tables of a `ggr.toml`.

use std::path::{Path, PathBuf};

use ggr_ir::{Network, ToolLimits, units};
use serde::Deserialize;
use toml::Spanned;

/// What a flag's value names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Names {
    File,
    /// A directory; the pattern says which of its files are read.
    Dir(Option<String>),
    Update,
    /// Nothing.
    Nothing,
}

/// A flag with a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ValueFlag {
    pub(super) name: String,
    pub(super) names: Names,
    /// Whether what it names is written.
    pub(super) written: bool,
}

/// A tool as the user described it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserTool {
    name: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) value_flags: Vec<ValueFlag>,
    pub(super) flags: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) programs: Vec<String>,
    pub(super) extra_files: Vec<PathBuf>,
    pub(super) extra_dirs: Vec<PathBuf>,
    pub(super) cache: bool,
    pub(super) network: Network,
    pub(super) limits: ToolLimits,
}

/// A mistake in a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {what}", path.display())]
pub struct UserError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, with the key.
    pub what: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    tool: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Spanned<String>,
    #[serde(default)]
    inputs: Vec<Spanned<String>>,
    #[serde(default)]
    outputs: Vec<Spanned<String>>,
    #[serde(default)]
    input_flags: Vec<Spanned<String>>,
    #[serde(default)]
    output_flags: Vec<Spanned<String>>,
    #[serde(default)]
    value_flags: Vec<Spanned<String>>,
    #[serde(default)]
    flags: Vec<Spanned<String>>,
    #[serde(default)]
    env: Vec<Spanned<String>>,
    #[serde(default)]
    programs: Vec<Spanned<String>>,
    #[serde(default)]
    extra_files: Vec<Spanned<String>>,
    #[serde(default)]
    extra_dirs: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    cache: bool,
    network: Option<Spanned<String>>,
    time_limit: Option<Spanned<String>>,
    memory_limit: Option<Spanned<String>>,
    output_limit: Option<Spanned<String>>,
    process_limit: Option<u64>,
}

fn yes() -> bool {
    true
}

impl UserTool {
    /// The name of the tool's file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the tables of a file; its other keys are somebody else's. Relative paths in it stand beside the file.
    ///
    /// # Errors
    /// The first mistake, with its line and key.
    pub fn read_all(path: &Path, text: &str) -> Result<Vec<Self>, UserError> {
        let reader = Reader { path, text };
        let document: Document = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            reader.error(start, error.message().to_owned())
        })?;
        let mut tools: Vec<Self> = Vec::new();
        for table in document.tool {
            let at = table.name.span().start;
            let tool = reader.tool(table)?;
            if tools.iter().any(|other| other.name == tool.name) {
                return Err(reader.error(at, format!("`name`: `{}` is described twice", tool.name)));
            }
            tools.push(tool);
        }
        Ok(tools)
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn error(&self, at: usize, what: String) -> UserError {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        UserError { path: self.path.to_owned(), line, what }
    }

    fn tool(&self, table: Table) -> Result<UserTool, UserError> {
        let at = table.name.span().start;
        let name = table.name.into_inner();
        if name.is_empty() || name.contains('/') {
            return Err(self.error(at, format!("`name` must be a file's name, not `{name}`")));
        }
        let network = self.value("network", table.network, Network::named, "`none`, `tenant` or `own`")?;
        let limits = ToolLimits {
            wall: self.value("time_limit", table.time_limit, units::duration, "a duration such as `5m`")?,
            memory: self.value("memory_limit", table.memory_limit, units::size, "a size such as `2G`")?,
            output: self.value("output_limit", table.output_limit, units::size, "a size such as `2G`")?,
            processes: table.process_limit,
        };
        let mut value_flags = Vec::new();
        for (key, list, written) in
            [("input_flags", table.input_flags, false), ("output_flags", table.output_flags, true)]
        {
            for flag in list {
                value_flags.push(self.value_flag(key, flag, written)?);
            }
        }
        for flag in self.flags("value_flags", table.value_flags)? {
            value_flags.push(ValueFlag { name: flag, names: Names::Nothing, written: false });
        }
        let beside = |paths: Vec<Spanned<String>>| -> Vec<PathBuf> {
            let dir = self.path.parent().unwrap_or(Path::new("/"));
            paths.into_iter().map(|path| dir.join(path.into_inner())).collect()
        };
        Ok(UserTool {
            name,
            inputs: plain(table.inputs),
            outputs: plain(table.outputs),
            value_flags,
            flags: self.flags("flags", table.flags)?,
            env: self.variables(table.env)?,
            programs: plain(table.programs),
            extra_files: beside(table.extra_files),
            extra_dirs: beside(table.extra_dirs),
            cache: table.cache,
            network: network.unwrap_or_default(),
            limits,
        })
    }

    /// Reads a value that is a word.
    fn value<T>(
        &self,
        key: &str,
        value: Option<Spanned<String>>,
        read: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, UserError> {
        let Some(value) = value else { return Ok(None) };
        let at = value.span().start;
        let text = value.into_inner();
        let wrong = || self.error(at, format!("`{key}` is {expected}, not `{text}`"));
        read(&text).ok_or_else(wrong).map(Some)
    }

    fn value_flag(&self, key: &str, flag: Spanned<String>, written: bool) -> Result<ValueFlag, UserError> {
        let at = flag.span().start;
        let text = flag.into_inner();
        let (name, kind) = text.split_once(':').unwrap_or((&text, "file"));
        self.dashed(key, name, at)?;
        let names = match kind.split_once(':').unwrap_or((kind, "")) {
            ("file", "") => Names::File,
            ("update", "") if written => Names::Update,
            ("dir", "") => Names::Dir(None),
            ("dir", pattern) if !written => Names::Dir(Some(pattern.to_owned())),
            _ => {
                let known =
                    if written { "`file`, `dir` or `update`" } else { "`file`, `dir` or `dir:PATTERN`" };
                return Err(self.error(at, format!("`{key}`: after `{name}:` comes {known}, not `{kind}`")));
            }
        };
        Ok(ValueFlag { name: name.to_owned(), names, written })
    }

    fn flags(&self, key: &str, flags: Vec<Spanned<String>>) -> Result<Vec<String>, UserError> {
        let check = |flag: Spanned<String>| {
            let at = flag.span().start;
            let text = flag.into_inner();
            self.dashed(key, &text, at).map(|()| text)
        };
        flags.into_iter().map(check).collect()
    }

    fn dashed(&self, key: &str, name: &str, at: usize) -> Result<(), UserError> {
        if name.starts_with('-') && name.len() > 1 && !name.contains('=') {
            return Ok(());
        }
        Err(self.error(at, format!("`{key}`: a flag starts with `-` and holds no `=`, unlike `{name}`")))
    }

    fn variables(&self, names: Vec<Spanned<String>>) -> Result<Vec<String>, UserError> {
        let check = |name: Spanned<String>| {
            let at = name.span().start;
            let text = name.into_inner();
            let fine = !text.is_empty() && !text.contains(['=', '$']);
            fine.then_some(text.clone())
                .ok_or_else(|| self.error(at, format!("`env` takes names of variables, not `{text}`")))
        };
        names.into_iter().map(check).collect()
    }
}

fn plain(list: Vec<Spanned<String>>) -> Vec<String> {
    list.into_iter().map(Spanned::into_inner).collect()
}
