//! The environment: the one file that reads it, and the list of every variable that means something to ggr.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// A variable that ggr reads.
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) help: &'static str,
}

/// Every variable that ggr reads. The `GGR_*` ones that set a configuration key are named in `config::keys` too.
pub(crate) const VARIABLES: &[Variable] = &[
    Variable { name: "GGR_BACKEND", help: "where thunks run (as --backend)" },
    Variable { name: "GGR_CAPTURE", help: "programs without a model whose runs are recorded (as --capture)" },
    Variable { name: "GGR_COLOR", help: "auto, always or never (as --color)" },
    Variable { name: "GGR_COMPILE_COMMANDS", help: "file for compile_commands.json (as --compile-commands)" },
    Variable {
        name: "GGR_CONFIG",
        help: "the user's configuration file, in place of $XDG_CONFIG_HOME/ggr/config.toml",
    },
    Variable { name: "GGR_DIR", help: "the repository, in place of .ggr (as --dir)" },
    Variable { name: "GGR_ENDPOINT_URL", help: "the S3 service of a shared store (as --endpoint-url)" },
    Variable { name: "GGR_INTERCEPT", help: "auto, mount, path or off (as --intercept)" },
    Variable { name: "GGR_ISOLATION", help: "auto, namespaces or plain (as --isolation)" },
    Variable { name: "GGR_LAMBDA_ENDPOINT", help: "the address of the Lambda service" },
    Variable { name: "GGR_LAMBDA_FUNCTION", help: "what the names of the Lambda functions begin with" },
    Variable { name: "GGR_LAMBDA_MEMORY", help: "memory of a Lambda function, in MB" },
    Variable { name: "GGR_LAMBDA_ROLE", help: "the ARN of the Lambda functions' role" },
    Variable { name: "GGR_LAMBDA_SLOTS", help: "how many thunks run on Lambda side by side" },
    Variable {
        name: "GGR_LAMBDA_STORE",
        help: "s3://BUCKET/PREFIX, or a directory that Lambda functions mount",
    },
    Variable { name: "GGR_LAMBDA_TIMEOUT", help: "time limit of a Lambda function" },
    Variable { name: "GGR_LAMBDA_TMP", help: "size of a Lambda function's /tmp, in MB" },
    Variable { name: "GGR_MAX_CACHE", help: "size limit of the store (as --max-cache)" },
    Variable { name: "GGR_MAX_COST", help: "US dollars for Lambda, then local (as --max-cost)" },
    Variable { name: "GGR_MODE", help: "lazy or wait (as --mode)" },
    Variable { name: "GGR_NETWORK", help: "what network thunks see: none, tenant or own" },
    Variable { name: "GGR_PROGRESS", help: "auto, always or never (as --progress)" },
    Variable { name: "GGR_QUIET", help: "true: print nothing of our own but errors (as --quiet)" },
    Variable {
        name: "GGR_SESSION",
        help: "set by ggr for the build that it runs; a ggr inside does not intercept again",
    },
    Variable { name: "GGR_SLOTS", help: "how many thunks run here side by side (as --slots)" },
    Variable { name: "GGR_STAGES", help: "fused or staged (as --stages)" },
    Variable { name: "GGR_STORE", help: "where blobs live (as --store)" },
    Variable {
        name: "GGR_STORE_BANDWIDTH",
        help: "bytes a second to and from a shared store, each; 0 for no limit",
    },
    Variable { name: "GGR_STORE_MODE", help: "read-write or read-only (as --store-mode)" },
    Variable { name: "GGR_STORE_WAIT", help: "how long a build that has ended waits for its uploads" },
    Variable { name: "GGR_TRACE_OUT", help: "file for a Chrome trace (as --trace-out)" },
    Variable { name: "GGR_VERIFY_RATE", help: "run one thunk in N twice and compare (as --verify-rate)" },
    Variable { name: "GGR_WORKER", help: "addresses of services that run thunks" },
    Variable { name: "GGR_WORKER_CA", help: "certificates that services are trusted by (PEM)" },
    Variable {
        name: "GGR_WORKER_PACKED",
        help: "whether what goes to and from services over a network is packed",
    },
    Variable {
        name: "GGR_WORKER_PLACEMENT",
        help: "which of several services gets a thunk: random, sticky or push",
    },
    Variable { name: "GGR_WORKER_TOKEN", help: "the token for services" },
    Variable { name: "GGR_WORKER_TOKEN_FILE", help: "the file with the token for services" },
    Variable {
        name: "HOME",
        help: "where the user's configuration and cache are, without the XDG variables",
    },
    Variable { name: "MAKEFLAGS", help: "names the jobserver of the make whose recipe ggr is" },
    Variable { name: "NO_COLOR", help: "if set and not empty: no colours" },
    Variable { name: "PATH", help: "where the build's command is found" },
    Variable { name: "TERM", help: "if `dumb`: no colours and no progress line" },
    Variable { name: "XDG_CACHE_HOME", help: "where images of microVMs are kept, in `ggr/`" },
    Variable { name: "XDG_CONFIG_HOME", help: "where the user's configuration lives" },
];

/// A copy of the environment that ggr was started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    all: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The process's environment.
    pub(crate) fn read() -> Self {
        Self { all: std::env::vars_os().collect() }
    }

    /// An environment with these variables alone.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self { all: pairs.iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// The whole of it, for the build's command.
    pub(crate) fn all(&self) -> &BTreeMap<OsString, OsString> {
        &self.all
    }

    /// A variable's value; nothing if it is unset or empty.
    ///
    /// # Panics
    /// In tests, if the variable is missing from [`VARIABLES`].
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        debug_assert!(VARIABLES.iter().any(|v| v.name == name), "`{name}` is not in the list of variables");
        self.all.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The names of the `GGR_*` variables that are set and that ggr does not know.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.all
            .keys()
            .filter_map(|name| name.to_str())
            .filter(|name| name.starts_with("GGR_") && !VARIABLES.iter().any(|v| v.name == *name))
    }

    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) fn config_home(&self) -> Option<PathBuf> {
        self.xdg("XDG_CONFIG_HOME", ".config")
    }

    /// `$XDG_CACHE_HOME`, else `~/.cache`.
    pub(crate) fn cache_home(&self) -> Option<PathBuf> {
        self.xdg("XDG_CACHE_HOME", ".cache")
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.value("HOME").map(PathBuf::from)
    }

    /// Whether the terminal understands escape sequences, as far as `TERM` says.
    pub(crate) fn has_capable_terminal(&self) -> bool {
        self.value("TERM").is_some_and(|term| term != "dumb")
    }

    /// Whether the user asks every program for plain text (<https://no-color.org>).
    pub(crate) fn no_color(&self) -> bool {
        self.value("NO_COLOR").is_some()
    }

    /// Whether this process runs inside a build that a ggr has started.
    pub(crate) fn inside_session(&self) -> bool {
        self.value("GGR_SESSION").is_some()
    }

    /// The XDG rule: relative values are to be ignored.
    fn xdg(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        self.value(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.home()?.join(below_home)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_directories_fall_back_to_home() {
        let check = |pairs: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(Environment::of(pairs).config_home(), expected.map(PathBuf::from));
        };
        check(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")], Some("/c"));
        check(&[("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")], Some("/h/.config"));
        check(&[("XDG_CONFIG_HOME", ""), ("HOME", "/h")], Some("/h/.config"));
        check(&[], None);
    }

    #[test]
    fn a_misspelt_variable_is_found() {
        let env = Environment::of(&[("GGR_SLOTS", "1"), ("GGR_SLOT", "1"), ("OTHER", "1")]);
        assert_eq!(env.unknown().collect::<Vec<_>>(), ["GGR_SLOT"]);
    }
}
