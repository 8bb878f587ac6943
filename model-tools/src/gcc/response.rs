//! Response files: `@file` in an argument list, by the rules of `expandargv` (libiberty, `argv.c`).

use std::path::{Path, PathBuf};

use crate::model::{FileView, Found, Reason};

/// How many response files one command may expand, as in `expandargv`.
const MAX_FILES: u32 = 2000;

/// An argument list without response files.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Expanded {
    pub(crate) args: Vec<String>,
    /// The files that were read, as spelled.
    pub(crate) files: Vec<PathBuf>,
}

/// Why an argument list could not be expanded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ExpandError {
    /// A response file is a placeholder.
    Placeholder(PathBuf),
    /// Anything else.
    RunHere(Reason),
}

/// Replaces each `@file` by the arguments in it; one that is not there stays as it is.
pub(crate) fn expand(args: &[String], dir: &Path, files: &dyn FileView) -> Result<Expanded, ExpandError> {
    let Some((program, args)) = args.split_first() else { return Ok(Expanded::default()) };
    let mut out = Expanded { args: vec![program.clone()], files: Vec::new() };
    // The arguments still to be looked at, the next one last.
    let mut stack: Vec<String> = args.iter().rev().cloned().collect();
    while let Some(arg) = stack.pop() {
        let Some(name) = arg.strip_prefix('@') else {
            out.args.push(arg);
            continue;
        };
        let path = dir.join(name);
        match files.find(&path) {
            Found::Missing => out.args.push(arg),
            Found::Placeholder(_) => return Err(ExpandError::Placeholder(path)),
            Found::Directory | Found::Other => {
                return Err(ExpandError::RunHere(Reason::Other(format!("`{arg}` is no response file"))));
            }
            Found::File { .. } => {
                if out.files.len() as u32 == MAX_FILES {
                    return Err(ExpandError::RunHere(Reason::Other("too many response files".into())));
                }
                let bytes = files
                    .read(&path)
                    .map_err(|error| ExpandError::RunHere(Reason::Other(format!("`{arg}`: {error}"))))?;
                let text = std::str::from_utf8(&bytes).map_err(|_| ExpandError::RunHere(Reason::NotUtf8))?;
                out.files.push(name.into());
                stack.extend(split(text).into_iter().rev());
            }
        }
    }
    Ok(out)
}

/// Splits text as `buildargv` does: white space separates, quotes of either kind group, a backslash takes the next
/// character as it is (inside quotes too).
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = text.chars().skip_while(|c| is_space(*c)).peekable();
    while chars.peek().is_some() {
        let (mut word, mut quote) = (String::new(), None);
        while let Some(&c) = chars.peek() {
            if is_space(c) && quote.is_none() {
                break;
            }
            chars.next();
            match (c, quote) {
                ('\\', _) => word.extend(chars.next()),
                (c, Some(open)) if c == open => quote = None,
                ('\'' | '"', None) => quote = Some(c),
                _ => word.push(c),
            }
        }
        words.push(word);
        while chars.next_if(|c| is_space(*c)).is_some() {}
    }
    words
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DiskView;

    #[test]
    fn words_are_split_as_gcc_splits_them() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split(text), expected, "{text:?}");
        check("", &[]);
        check("  \n", &[]);
        check(" -c\n-DX=\"a b\" 'it''s' \\\"q ", &["-c", "-DX=a b", "its", "\"q"]);
        check("-DS='\"x\"' \"\" a\\ b", &["-DS=\"x\"", "", "a b"]);
        check("\"a\\\"b\" 'a\\'b'", &["a\"b", "a'b"]);
    }

    #[test]
    fn response_files_nest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("one"), "-a @two -d").unwrap();
        std::fs::write(dir.path().join("two"), "-b\n-c @none").unwrap();
        let args = ["gcc".to_owned(), "@one".to_owned(), "x.c".to_owned()];
        let out = expand(&args, dir.path(), &DiskView::new()).unwrap();
        assert_eq!(out.args, ["gcc", "-a", "-b", "-c", "@none", "-d", "x.c"]);
        assert_eq!(out.files, [PathBuf::from("one"), PathBuf::from("two")]);
    }
}
