//! The table of configuration keys: name, variable, flag, help, what it takes, how it is set and shown.

use std::num::NonZeroUsize;
use std::path::Path;

use ggr_ir::units::duration;

use super::error::ConfigError;
use super::layers::Config;
use super::value::{
    Addresses, ByteSize, Intercept, Isolation, Mode, NetworkClass, Origin, Places, Raw, Sourced, Span,
    Staging, StoreMode, StorePlace, When, WorkerPlacement,
};
use crate::capture::Selection;

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name in files, as `max-cache`.
    pub(crate) name: &'static str,
    /// Its variable, as `GGR_MAX_CACHE`.
    pub(crate) variable: Option<&'static str>,
    /// Its flag, as `--max-cache`.
    pub(crate) flag: Option<&'static str>,
    /// What it does.
    pub(crate) help: &'static str,
    /// What it takes, for `… is not EXPECTED`.
    pub(crate) expected: &'static str,
    /// Whether a project's file may set it though it belongs to somebody else.
    pub(crate) safe: bool,
    set: fn(&mut Config, Raw<'_>) -> Option<()>,
    show: fn(&Config) -> (String, &Origin),
}

impl Key {
    /// Sets the value; an error if the key does not take it.
    pub(super) fn set(&self, config: &mut Config, raw: Raw<'_>) -> Result<(), ConfigError> {
        let text = raw.text.to_string_lossy().into_owned();
        let origin = raw.origin.clone();
        (self.set)(config, raw).ok_or(ConfigError::BadValue {
            origin,
            key: self.name,
            text,
            expected: self.expected,
        })
    }

    /// The value as text, and where it came from.
    pub(crate) fn show<'a>(&self, config: &'a Config) -> (String, &'a Origin) {
        (self.show)(config)
    }

    /// The error for a value of a wrong type in a file.
    pub(super) fn refuse(&self, path: &Path, span: Span, found: &str) -> ConfigError {
        ConfigError::BadValue {
            origin: Origin::File { path: path.to_path_buf(), line: span.line, column: span.column },
            key: self.name,
            text: found.to_owned(),
            expected: self.expected,
        }
    }
}

/// A row's `set` and `show` for a field: how the text becomes a value, and how the value becomes text.
macro_rules! field {
    ($field:ident, |$raw:ident| $parse:expr, |$value:ident| $show:expr) => {
        (
            |config: &mut Config, $raw: Raw<'_>| {
                let value = $parse;
                config.$field = Sourced { value, origin: $raw.origin };
                Some(())
            },
            |config: &Config| {
                let $value = &config.$field.value;
                ($show, &config.$field.origin)
            },
        )
    };
}

/// A row of the table.
macro_rules! key {
    ($name:literal, $variable:expr, $flag:expr, $safe:expr, $help:literal, $expected:literal, $field:expr) => {{
        const FIELD: (fn(&mut Config, Raw<'_>) -> Option<()>, fn(&Config) -> (String, &Origin)) = $field;
        Key {
            name: $name,
            variable: $variable,
            flag: $flag,
            help: $help,
            expected: $expected,
            safe: $safe,
            set: FIELD.0,
            show: FIELD.1,
        }
    }};
}

const SAFE: bool = true;
const UNSAFE: bool = false;

/// Every key, by name.
#[rustfmt::skip]
pub(crate) static KEYS: &[Key] = &[
    key!("backend", Some("GGR_BACKEND"), Some("--backend"), UNSAFE,
        "where thunks run; of several, the first is filled first", "`local`, `microvm`, `lambda`, `worker`, `worker=ADDRESS` or several, as `local,lambda`",
        field!(backend, |raw| Places::parse(raw.text()?)?, |value| value.to_string())),
    key!("capture", Some("GGR_CAPTURE"), Some("--capture"), UNSAFE,
        "programs without a model whose runs are recorded", "`auto`, `all`, `off`, or program names (`auto,xxd`)",
        field!(capture, |raw| Selection::parse(raw.text()?)?, |value| value.text())),
    key!("color", Some("GGR_COLOR"), Some("--color"), SAFE,
        "colours in ggr's own messages", "`auto`, `always` or `never`",
        field!(color, |raw| When::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("compile-commands", Some("GGR_COMPILE_COMMANDS"), Some("--compile-commands"), UNSAFE,
        "write the build's compiler calls to this file", "a path",
        field!(compile_commands, |raw| Some(raw.path()), |value| path(value.as_deref(), "none"))),
    key!("dir", Some("GGR_DIR"), Some("--dir"), UNSAFE,
        "the repository", "a path",
        field!(dir, |raw| Some(raw.path()), |value| path(value.as_deref(), "the nearest `.ggr` above, else `.ggr` here"))),
    key!("endpoint-url", Some("GGR_ENDPOINT_URL"), Some("--endpoint-url"), UNSAFE,
        "the address of the S3 service of a shared store", "a URL",
        field!(endpoint_url, |raw| Some(raw.text().filter(|text| text.contains("://"))?.to_owned()), |value| value.clone().unwrap_or_else(|| "AWS, or what AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL names".to_owned()))),
    key!("intercept", Some("GGR_INTERCEPT"), Some("--intercept"), UNSAFE,
        "how tool calls are caught", "`auto`, `mount`, `path` or `off`",
        field!(intercept, |raw| Intercept::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("isolation", Some("GGR_ISOLATION"), Some("--isolation"), UNSAFE,
        "how thunks on this machine are kept apart", "`auto`, `namespaces` (or `sandbox`), `plain` or, for `ggr worker serve`, `microvm`",
        field!(isolation, |raw| Isolation::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("lambda-endpoint", Some("GGR_LAMBDA_ENDPOINT"), None, UNSAFE,
        "the address of the Lambda service", "a URL",
        field!(lambda_endpoint, |raw| Some(raw.text()?.to_owned()), |value| value.clone().unwrap_or_else(|| "AWS".to_owned()))),
    key!("lambda-function", Some("GGR_LAMBDA_FUNCTION"), None, UNSAFE,
        "what the functions' names begin with; `-0`, `-1`, … follow, one for each 1,000 thunks at once", "a name",
        field!(lambda_function, |raw| raw.text().filter(|text| !text.is_empty())?.to_owned(), |value| value.clone())),
    key!("lambda-memory", Some("GGR_LAMBDA_MEMORY"), None, SAFE,
        "memory of a function, in MB: what `ggr lambda deploy` gives it, and what it is priced by; 1,769 is a whole processor", "a whole number from 128 to 10240",
        field!(lambda_memory, |raw| whole(raw.text()?, 128, 10240)?, |value| value.to_string())),
    key!("lambda-role", Some("GGR_LAMBDA_ROLE"), None, UNSAFE,
        "the role that `ggr lambda deploy` gives to functions, in place of one that it makes", "an ARN",
        field!(lambda_role, |raw| Some(raw.text().filter(|text| text.starts_with("arn:"))?.to_owned()), |value| value.clone().unwrap_or_else(|| "made".to_owned()))),
    key!("lambda-slots", Some("GGR_LAMBDA_SLOTS"), None, SAFE,
        "how many thunks run on Lambda side by side", "a whole number from 1",
        field!(lambda_slots, |raw| raw.text()?.parse::<NonZeroUsize>().ok()?, |value| value.to_string())),
    key!("lambda-store", Some("GGR_LAMBDA_STORE"), None, UNSAFE,
        "where functions find objects: a bucket, or a directory that they mount (Amazon EFS)", "`s3://BUCKET/PREFIX` or an absolute path",
        field!(lambda_store, |raw| Some(raw.text().filter(|text| text.starts_with("s3://") || text.starts_with('/'))?.to_owned()), |value| value.clone().unwrap_or_else(|| "none".to_owned()))),
    key!("lambda-timeout", Some("GGR_LAMBDA_TIMEOUT"), None, SAFE,
        "time limit of a function", "a duration from `1m` to `15m`",
        field!(lambda_timeout, |raw| duration(raw.text()?).filter(|limit| (60..=900).contains(&limit.as_secs()))?, |value| format!("{} s", value.as_secs()))),
    key!("lambda-tmp", Some("GGR_LAMBDA_TMP"), None, SAFE,
        "size of a function's /tmp, in MB; beyond 512 it costs", "a whole number from 512 to 10240",
        field!(lambda_tmp, |raw| whole(raw.text()?, 512, 10240)?, |value| value.to_string())),
    key!("max-cache", Some("GGR_MAX_CACHE"), Some("--max-cache"), UNSAFE,
        "size limit of the store; what was used longest ago goes first", "a size such as `10G`",
        field!(max_cache, |raw| ByteSize::parse(raw.text()?)?, |value| value.to_string())),
    key!("max-cost", Some("GGR_MAX_COST"), Some("--max-cost"), SAFE,
        "with so many US dollars spent on Lambda in one build, the rest of it runs here", "an amount such as `2.00`",
        field!(max_cost, |raw| Some(raw.text()?.parse::<f64>().ok().filter(|cost| cost.is_finite() && *cost >= 0.0)?), |value| value.map_or_else(|| "no limit".to_owned(), |cost| format!("{cost:.2}")))),
    key!("memory-limit", None, None, SAFE,
        "address space of one process of a thunk; 0 for no limit", "a size such as `4G`",
        field!(memory_limit, |raw| ByteSize::parse(raw.text()?)?, |value| value.to_string())),
    key!("mode", Some("GGR_MODE"), Some("--mode"), SAFE,
        "whether a call may be answered before it ran", "`lazy` or `wait`",
        field!(mode, |raw| Mode::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("network", Some("GGR_NETWORK"), None, SAFE,
        "what network thunks see: none, one that they share, or one of their own; nothing leads out", "`none`, `tenant` or `own`",
        field!(network, |raw| NetworkClass::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("output-limit", None, None, SAFE,
        "bytes that a thunk may leave behind; 0 for no limit", "a size such as `8G`",
        field!(output_limit, |raw| ByteSize::parse(raw.text()?)?, |value| value.to_string())),
    key!("process-limit", None, None, SAFE,
        "processes and threads of a thunk; 0 for no limit", "a whole number",
        field!(process_limit, |raw| raw.text()?.parse::<u64>().ok()?, |value| value.to_string())),
    key!("progress", Some("GGR_PROGRESS"), Some("--progress"), SAFE,
        "the line that shows how far the build is", "`auto`, `always` or `never`",
        field!(progress, |raw| When::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("quiet", Some("GGR_QUIET"), Some("--quiet"), SAFE,
        "print nothing of ggr's own but errors", "`true` or `false`",
        field!(quiet, |raw| raw.text()?.parse().ok()?, |value| value.to_string())),
    key!("slots", Some("GGR_SLOTS"), Some("--slots"), SAFE,
        "how many thunks run on this machine side by side", "a whole number from 1",
        field!(slots, |raw| raw.text()?.parse::<NonZeroUsize>().ok()?, |value| value.to_string())),
    key!("stages", Some("GGR_STAGES"), Some("--stages"), SAFE,
        "whether a compile is one thunk, or one each for preprocessing, compiling and assembling", "`fused` or `staged`",
        field!(stages, |raw| Staging::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("store", Some("GGR_STORE"), Some("--store"), UNSAFE,
        "where blobs live, or a bucket that others share, behind the repository", "a path or `s3://BUCKET/PREFIX`",
        field!(store, |raw| Some(StorePlace::parse(&raw)?), |value| value.as_ref().map_or_else(|| "in the repository".to_owned(), ToString::to_string))),
    key!("store-bandwidth", Some("GGR_STORE_BANDWIDTH"), None, UNSAFE,
        "bytes a second to and from a shared store, each; 0 for no limit", "a size such as `5M`",
        field!(store_bandwidth, |raw| ByteSize::parse(raw.text()?)?, |value| value.to_string())),
    key!("store-mode", Some("GGR_STORE_MODE"), Some("--store-mode"), UNSAFE,
        "whether a shared store is written to", "`read-write` or `read-only`",
        field!(store_mode, |raw| StoreMode::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("store-wait", Some("GGR_STORE_WAIT"), None, UNSAFE,
        "how long a build that has ended waits for its uploads", "a duration such as `60s`",
        field!(store_wait, |raw| duration(raw.text()?)?, |value| format!("{} s", value.as_secs()))),
    key!("time-limit", None, None, SAFE,
        "wall clock of one try at a thunk", "a duration such as `15m`",
        field!(time_limit, |raw| duration(raw.text()?)?, |value| format!("{} s", value.as_secs()))),
    key!("trace-out", Some("GGR_TRACE_OUT"), Some("--trace-out"), UNSAFE,
        "write a Chrome trace of the build to this file", "a path",
        field!(trace_out, |raw| Some(raw.path()), |value| path(value.as_deref(), "none"))),
    key!("verify-rate", Some("GGR_VERIFY_RATE"), Some("--verify-rate"), SAFE,
        "run one thunk in N twice and compare; 0 for none", "a whole number",
        field!(verify_rate, |raw| raw.text()?.parse::<u32>().ok()?, |value| value.to_string())),
    key!("worker", Some("GGR_WORKER"), None, UNSAFE,
        "the services that `--backend worker` means, and that `ggr worker status` asks", "`unix:PATH`, `http://HOST:PORT`, `https://HOST:PORT` or several, separated by commas",
        field!(worker, |raw| Addresses::parse(raw.text()?)?, |value| value.to_string())),
    key!("worker-ca", Some("GGR_WORKER_CA"), None, UNSAFE,
        "certificates that services at `https://` are trusted by (PEM)", "a path",
        field!(worker_ca, |raw| Some(raw.path()), |value| path(value.as_deref(), "none"))),
    key!("worker-packed", Some("GGR_WORKER_PACKED"), None, SAFE,
        "whether what goes to and from services over a network is packed", "`true` or `false`",
        field!(worker_packed, |raw| raw.text()?.parse().ok()?, |value| value.to_string())),
    key!("worker-placement", Some("GGR_WORKER_PLACEMENT"), None, UNSAFE,
        "which of several services gets a thunk: any, the one that has most of its inputs, or that one, to which inputs are sent ahead", "`random`, `sticky` or `push`",
        field!(worker_placement, |raw| WorkerPlacement::parse(raw.text()?)?, |value| value.word().to_owned())),
    key!("worker-token-file", Some("GGR_WORKER_TOKEN_FILE"), None, UNSAFE,
        "the file with the token for services; GGR_WORKER_TOKEN goes first", "a path",
        field!(worker_token_file, |raw| Some(raw.path()), |value| path(value.as_deref(), "none"))),
];

fn whole(text: &str, least: u32, most: u32) -> Option<u32> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

fn path(path: Option<&Path>, otherwise: &str) -> String {
    path.map_or_else(|| otherwise.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::VARIABLES;

    #[test]
    fn keys_are_sorted_and_their_variables_are_listed() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        for variable in KEYS.iter().filter_map(|key| key.variable) {
            assert!(VARIABLES.iter().any(|v| v.name == variable), "{variable}");
        }
    }
}
