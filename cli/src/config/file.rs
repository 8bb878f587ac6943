//! One configuration file: TOML to settings with their places.

use std::io;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::keys::{KEYS, Key};
use super::value::Span;

/// The longest configuration file that is read, in bytes.
const MAX_LEN: u64 = 1 << 20;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The keys that it sets, in the order of their names.
    pub(super) settings: Vec<Setting>,
    /// Where its first `[[tool]]` table stands.
    pub(super) tools: Option<Span>,
}

/// One key of a file.
#[derive(Debug)]
pub(super) struct Setting {
    /// The key.
    pub(super) key: &'static Key,
    /// Its value as text.
    pub(super) text: String,
    /// Where the key stands.
    pub(super) span: Span,
}

/// Reads a file; nothing if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_path_buf(), source };
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_LEN => {
            Err(fail(io::Error::new(io::ErrorKind::FileTooLarge, "a configuration file has at most 1 MiB")))
        }
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(fail),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(fail(e)),
    }
}

/// Parses a file's text.
pub(super) fn parse(path: &Path, text: &str) -> Result<Parsed, ConfigError> {
    let table = DeTable::parse(text).map_err(|e| {
        let span = Span::of(text, e.span().map_or(text.len(), |span| span.start));
        let message = e.message().replace('\n', "; ");
        ConfigError::Syntax { path: path.to_path_buf(), line: span.line, column: span.column, message }
    })?;
    let mut parsed = Parsed::default();
    for (name, value) in table.get_ref() {
        let span = Span::of(text, name.span().start);
        let name: &str = name.get_ref();
        if name == "tool" {
            parsed.tools = Some(span);
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(ConfigError::UnknownKey {
                path: path.to_path_buf(),
                line: span.line,
                column: span.column,
                key: name.to_owned(),
                nearest: nearest(name),
            });
        };
        let text =
            scalar(value.get_ref()).ok_or_else(|| key.refuse(path, span, value.get_ref().type_str()))?;
        parsed.settings.push(Setting { key, text, span });
    }
    Ok(parsed)
}

/// A string, number or boolean as text; nothing for the other types.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The key most like this one, if any is.
fn nearest(name: &str) -> Option<&'static str> {
    // 0.7 takes one or two wrong letters in a word of six; below it suggestions are noise (clap's own bound).
    KEYS.iter()
        .map(|key| key.name)
        .chain(["tool"])
        .map(|key| (strsim::jaro(name, key), key))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = parse(Path::new("ggr.toml"), text).unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert_eq!(format!("{error}\n{hint}"), expected);
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_its_place_and_the_nearest_key() {
        check(
            "# ours\nslots = 4\nmax_cache = \"1G\"\n",
            "ggr.toml:3:1: unknown key `max_cache`\ndid you mean `max-cache`? `ggr config` lists every key",
        );
        check(
            "tools = 1",
            "ggr.toml:1:1: unknown key `tools`\ndid you mean `tool`? `ggr config` lists every key",
        );
        check(
            "zzz = 1",
            "ggr.toml:1:1: unknown key `zzz`\n`ggr config --keys` lists every key and what it takes",
        );
    }

    #[test]
    fn broken_toml_is_an_error_with_its_place() {
        let error = parse(Path::new("ggr.toml"), "slots = 4\nmode = \n").unwrap_err().to_string();
        assert!(error.starts_with("ggr.toml:2:"), "{error}");
    }

    #[test]
    fn a_table_where_a_word_belongs_is_an_error() {
        let error = parse(Path::new("ggr.toml"), "[slots]\nx = 1\n").unwrap_err().to_string();
        assert_eq!(error, "ggr.toml:1:2: `slots`: `table` is not a whole number from 1");
    }

    #[test]
    fn settings_and_tools_are_found() {
        let parsed = parse(Path::new("f"), "quiet = true\nslots = 3\n[[tool]]\nname = \"x\"\n").unwrap();
        let found: Vec<_> =
            parsed.settings.iter().map(|s| (s.key.name, s.text.as_str(), s.span.line)).collect();
        assert_eq!(found, [("quiet", "true", 1), ("slots", "3", 2)]);
        assert_eq!(parsed.tools.map(|span| span.line), Some(3));
    }
}
