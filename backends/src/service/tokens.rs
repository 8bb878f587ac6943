//! Who may use a service, and as which tenant.
//!
//! A file of tokens has a line for each tenant: `NAME TOKEN`, or `NAME TOKEN operator` for one who may also see all pools and
//! drain the service. A file with nothing but one token is that of the tenant `default`, an operator.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ggr_ir::protocol::service::MAX_TOKEN;

/// Shorter tokens can be guessed: 16 letters of base64 are 96 bits.
const SHORTEST: usize = 16;

/// The longest file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// Somebody who has shown who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The tenant.
    pub(super) tenant: String,
    /// Whether he may see all and drain.
    pub(super) operator: bool,
}

/// The tokens of a service, as hashes.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<(blake3::Hash, Identity)>);

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("`{0}` cannot be read")]
    Read(String, #[source] io::Error),
    /// Others may read it.
    #[error("`{0}` may be read by others; `chmod 600` it")]
    Open(String),
    /// A line is wrong.
    #[error("`{path}`, line {line}: {why}")]
    Line {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

impl Tokens {
    /// Reads a file of tokens, which only its owner may read.
    ///
    /// # Errors
    /// Names the file and the line, never a token.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let name = path.display().to_string();
        let failed = |source| TokensError::Read(name.clone(), source);
        let meta = fs::metadata(path).map_err(failed)?;
        if meta.mode() & 0o077 != 0 {
            return Err(TokensError::Open(name));
        }
        if meta.len() > MOST {
            return Err(failed(io::Error::other("it is longer than a megabyte")));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text).map_err(|(line, why)| TokensError::Line { path: name, line, why })
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut tokens = Vec::new();
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
        for (at, line) in &lines {
            let words: Vec<_> = line.split_whitespace().collect();
            let (tenant, token, operator) = match words[..] {
                [token] if lines.len() == 1 => ("default", token, true),
                [tenant, token] => (tenant, token, false),
                [tenant, token, "operator"] => (tenant, token, true),
                _ => return Err((*at, "expected `NAME TOKEN` or `NAME TOKEN operator`")),
            };
            if !sound_name(tenant) {
                return Err((*at, "a tenant's name has 1 to 64 letters, digits, `-` and `_`"));
            }
            if !(SHORTEST..=MAX_TOKEN).contains(&token.len()) {
                return Err((*at, "a token has 16 to 1024 letters"));
            }
            let identity = Identity { tenant: tenant.to_owned(), operator };
            tokens.push((blake3::hash(token.as_bytes()), identity));
        }
        if tokens.is_empty() { Err((1, "there is no token in it")) } else { Ok(Self(tokens)) }
    }

    /// Whose token this is. All are looked at, and hashes are compared in constant time (`blake3::Hash` does): how long it
    /// takes says nothing of how near a guess was.
    pub(super) fn identify(&self, token: &str) -> Option<Identity> {
        let shown = blake3::hash(token.as_bytes());
        self.0.iter().fold(
            None,
            |found, (hash, identity)| {
                if *hash == shown { Some(identity.clone()) } else { found }
            },
        )
    }
}

/// Names become names of directories.
fn sound_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbb";

    #[test]
    fn a_token_leads_to_its_tenant_and_no_other_does() {
        let tokens = Tokens::parse(&format!("# two\nann {A}\nbob {B} operator\n")).unwrap();
        let check = |token: &str, expected: Option<(&str, bool)>| {
            let found = tokens.identify(token).map(|who| (who.tenant, who.operator));
            assert_eq!(found, expected.map(|(name, operator)| (name.to_owned(), operator)), "{token}");
        };
        check(A, Some(("ann", false)));
        check(B, Some(("bob", true)));
        check("", None);
        check(&A[1..], None);
        let one = Tokens::parse(A).unwrap().identify(A).unwrap();
        assert_eq!((one.tenant.as_str(), one.operator), ("default", true));
    }

    #[test]
    fn lines_that_are_wrong_are_named() {
        let check = |text: &str, line: usize| {
            assert_eq!(Tokens::parse(text).unwrap_err().0, line, "{text}");
        };
        check("", 1);
        check(&format!("{A}\n{B}"), 1);
        check(&format!("ann {A}\n../bob {B}"), 2);
        check("ann short", 1);
        check(&format!("ann {A} king"), 1);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens");
        fs::write(&file, A).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Tokens::read(&file).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Tokens::read(&file).unwrap().identify(A).is_some());
    }
}
