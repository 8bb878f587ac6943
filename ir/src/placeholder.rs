//! The file that stands where an output will be.
//!
//! Its bytes are one line that names the output, so that `ggr force` finds its way back from a tree that `ggr trace`
//! left, and so that a person who looks into it learns what it is.

use crate::thunk::{Object, OutputRef};

/// What a placeholder starts with.
pub const MAGIC: &str = "#!ggr-placeholder 1 ";

/// What the rest of the file says to a person.
const HINT: &str = "# This file has not been made yet. `ggr force FILE` makes it.\n";

/// The longest placeholder that a reader looks at, in bytes.
pub const MAX_LEN: u64 = 16 * 1024;

/// The bytes of the placeholder for an output.
pub fn bytes(output: &OutputRef) -> Vec<u8> {
    format!("{MAGIC}{output}\n{HINT}").into_bytes()
}

/// The output that a file which starts with these bytes stands for; nothing if it is no placeholder. What comes after the
/// first line does not matter: a placeholder may have been half filled when its coordinator was killed.
pub fn parse(bytes: &[u8]) -> Option<OutputRef> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let line = &rest[..rest.iter().position(|&b| b == b'\n')?];
    match std::str::from_utf8(line).ok()?.parse().ok()? {
        Object::Output(output) => Some(output),
        Object::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::ThunkId;

    #[test]
    fn a_placeholder_leads_back_to_its_output() {
        let output = OutputRef { thunk: ThunkId::synthetic(7), name: "/a b/c.o".into() };
        assert_eq!(parse(&bytes(&output)), Some(output));
        assert_eq!(parse(b"\x7fELF"), None);
        assert_eq!(parse(b""), None);
    }
}
