//! Putting the layers on top of each other.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ggr_models::user::UserTool;

use super::error::ConfigError;
use super::file;
use super::keys::KEYS;
use super::value::{
    Addresses, ByteSize, Intercept, Isolation, Mode, NetworkClass, Origin, Places, Raw, Sourced, Span,
    Staging, StoreMode, StorePlace, When, WorkerPlacement,
};
use crate::capture::Selection;
use crate::env::Environment;

/// The name of a project's file.
const PROJECT_FILE: &str = "ggr.toml";

/// The configuration of one ggr.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where thunks run.
    pub(crate) backend: Sourced<Places>,
    /// Programs without a model whose runs are recorded.
    pub(crate) capture: Sourced<Selection>,
    /// Colours in ggr's own messages.
    pub(crate) color: Sourced<When>,
    /// File for compile_commands.json.
    pub(crate) compile_commands: Sourced<Option<PathBuf>>,
    /// The repository; nothing: the nearest `.ggr` above, else a new one here.
    pub(crate) dir: Sourced<Option<PathBuf>>,
    /// The S3 service; nothing: what the SDK finds.
    pub(crate) endpoint_url: Sourced<Option<String>>,
    /// How tool calls are caught.
    pub(crate) intercept: Sourced<Intercept>,
    pub(crate) isolation: Sourced<Isolation>,
    /// The Lambda service; nothing: what the SDK finds.
    pub(crate) lambda_endpoint: Sourced<Option<String>>,
    /// What the functions' names begin with.
    pub(crate) lambda_function: Sourced<String>,
    /// Memory of a function, in MB.
    pub(crate) lambda_memory: Sourced<u32>,
    /// The functions' role; nothing: one that `ggr lambda deploy` makes.
    pub(crate) lambda_role: Sourced<Option<String>>,
    /// How many thunks run on Lambda side by side.
    pub(crate) lambda_slots: Sourced<NonZeroUsize>,
    /// A bucket, or a directory that functions mount.
    pub(crate) lambda_store: Sourced<Option<String>>,
    /// Time limit of a function.
    pub(crate) lambda_timeout: Sourced<Duration>,
    /// Size of a function's `/tmp`, in MB.
    pub(crate) lambda_tmp: Sourced<u32>,
    /// Size limit of the store.
    pub(crate) max_cache: Sourced<ByteSize>,
    /// US dollars that a build may spend on Lambda.
    pub(crate) max_cost: Sourced<Option<f64>>,
    /// Address space of one process of a thunk; 0 for no limit.
    pub(crate) memory_limit: Sourced<ByteSize>,
    /// Whether a call may be answered before it ran.
    pub(crate) mode: Sourced<Mode>,
    /// What network thunks see.
    pub(crate) network: Sourced<NetworkClass>,
    /// Bytes that a thunk may leave behind; 0 for no limit.
    pub(crate) output_limit: Sourced<ByteSize>,
    /// Processes and threads of a thunk; 0 for no limit.
    pub(crate) process_limit: Sourced<u64>,
    /// The progress line.
    pub(crate) progress: Sourced<When>,
    /// Print nothing of ggr's own but errors.
    pub(crate) quiet: Sourced<bool>,
    /// How many thunks run here side by side.
    pub(crate) slots: Sourced<NonZeroUsize>,
    /// How many thunks a compiler call becomes.
    pub(crate) stages: Sourced<Staging>,
    /// Where blobs live; nothing: in the repository.
    pub(crate) store: Sourced<Option<StorePlace>>,
    /// Bytes a second to and from a shared store; 0 for no limit.
    pub(crate) store_bandwidth: Sourced<ByteSize>,
    /// Whether a shared store is written to.
    pub(crate) store_mode: Sourced<StoreMode>,
    /// How long a build that has ended waits for its uploads.
    pub(crate) store_wait: Sourced<Duration>,
    /// Wall clock of one try at a thunk.
    pub(crate) time_limit: Sourced<Duration>,
    /// File for a Chrome trace.
    pub(crate) trace_out: Sourced<Option<PathBuf>>,
    /// Run one thunk in N twice and compare; 0 for none.
    pub(crate) verify_rate: Sourced<u32>,
    /// The services that `worker` means.
    pub(crate) worker: Sourced<Addresses>,
    /// Certificates that services are trusted by.
    pub(crate) worker_ca: Sourced<Option<PathBuf>>,
    /// Whether what goes to and from services over a network is packed.
    pub(crate) worker_packed: Sourced<bool>,
    /// Which of several services gets a thunk.
    pub(crate) worker_placement: Sourced<WorkerPlacement>,
    /// The file with the token for services.
    pub(crate) worker_token_file: Sourced<Option<PathBuf>>,
    /// Files with `[[tool]]` tables; of two tools with one name the first counts.
    pub(crate) tools: Vec<ToolTables>,
    /// What was read and ignored, for the user to know.
    pub(crate) notes: Vec<String>,
}

/// The `[[tool]]` tables of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolTables {
    /// The file.
    pub(crate) path: PathBuf,
    /// The tools that it describes.
    pub(crate) tools: Vec<UserTool>,
}

impl Config {
    /// What holds when nobody says anything.
    fn defaults() -> Self {
        let slots = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let limits = ggr_ir::Limits::default();
        Self {
            backend: Sourced::default_of(Places::local()),
            capture: Sourced::default_of(Selection::default()),
            color: Sourced::default_of(When::Auto),
            compile_commands: Sourced::default_of(None),
            dir: Sourced::default_of(None),
            endpoint_url: Sourced::default_of(None),
            intercept: Sourced::default_of(Intercept::Auto),
            isolation: Sourced::default_of(Isolation::Auto),
            lambda_endpoint: Sourced::default_of(None),
            lambda_function: Sourced::default_of("ggr".to_owned()),
            // A whole processor.
            lambda_memory: Sourced::default_of(1769),
            lambda_role: Sourced::default_of(None),
            // What a new account may run at once.
            lambda_slots: Sourced::default_of(NonZeroUsize::new(1000).expect("1000 is not 0")),
            lambda_store: Sourced::default_of(None),
            // Lambda's longest.
            lambda_timeout: Sourced::default_of(Duration::from_secs(900)),
            // What is in the price.
            lambda_tmp: Sourced::default_of(512),
            // 20 GiB holds some hundred builds of a program of Git's size, objects with debug information.
            max_cache: Sourced::default_of(ByteSize(20 << 30)),
            max_cost: Sourced::default_of(None),
            memory_limit: Sourced::default_of(ByteSize(limits.memory)),
            mode: Sourced::default_of(Mode::Lazy),
            network: Sourced::default_of(NetworkClass::None),
            output_limit: Sourced::default_of(ByteSize(limits.output)),
            process_limit: Sourced::default_of(limits.processes),
            progress: Sourced::default_of(When::Auto),
            quiet: Sourced::default_of(false),
            slots: Sourced::default_of(slots),
            // One thunk: measured in BENCHMARKS.md, "Stages".
            stages: Sourced::default_of(Staging::Fused),
            store: Sourced::default_of(None),
            store_bandwidth: Sourced::default_of(ByteSize(0)),
            store_mode: Sourced::default_of(StoreMode::ReadWrite),
            store_wait: Sourced::default_of(Duration::from_secs(60)),
            time_limit: Sourced::default_of(limits.wall),
            trace_out: Sourced::default_of(None),
            verify_rate: Sourced::default_of(0),
            worker: Sourced::default_of(Addresses::default()),
            worker_ca: Sourced::default_of(None),
            worker_packed: Sourced::default_of(true),
            worker_placement: Sourced::default_of(WorkerPlacement::Push),
            worker_token_file: Sourced::default_of(None),
            tools: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Reads every layer. `flags` are pairs of key and value; `start` is the directory that relative paths of flags and
    /// variables are relative to, and from which the project's file is looked for upwards.
    pub(crate) fn load(
        env: &Environment,
        flags: &[(&'static str, OsString)],
        start: &Path,
    ) -> Result<Self, ConfigError> {
        let home = env.home();
        let mut config = Self::defaults();
        if let Some(path) = user_file(env) {
            config.apply_file(&path, home.as_deref(), Trust::Full)?;
        }
        if let Some(path) = project_file(start) {
            let trust = trust(&path);
            config.apply_file(&path, home.as_deref(), trust)?;
        }
        for key in KEYS {
            let Some(variable) = key.variable else { continue };
            let Some(text) = env.value(variable) else { continue };
            let origin = Origin::Variable(variable);
            key.set(&mut config, Raw { text, base: start, home: home.as_deref(), origin })?;
        }
        for (name, text) in flags {
            let key = KEYS
                .iter()
                .find(|key| key.name == *name)
                .expect("flags name keys of the table: a test checks it");
            let origin = Origin::Flag(key.flag.unwrap_or(key.name));
            key.set(&mut config, Raw { text, base: start, home: home.as_deref(), origin })?;
        }
        let unknown = env.unknown().map(|name| format!("`{name}` is no variable that ggr knows"));
        config.notes.extend(unknown);
        Ok(config)
    }

    fn apply_file(&mut self, path: &Path, home: Option<&Path>, trust: Trust) -> Result<(), ConfigError> {
        let Some(text) = file::read(path)? else { return Ok(()) };
        let parsed = file::parse(path, &text)?;
        let base = path.parent().unwrap_or(Path::new("/"));
        for setting in parsed.settings {
            if let (Trust::Safe(why), false) = (&trust, setting.key.safe) {
                self.ignored(path, setting.span, setting.key.name, why);
                continue;
            }
            let origin = Origin::File {
                path: path.to_path_buf(),
                line: setting.span.line,
                column: setting.span.column,
            };
            setting.key.set(self, Raw { text: setting.text.as_ref(), base, home, origin })?;
        }
        match (parsed.tools, trust) {
            (Some(_), Trust::Full) => {
                let tools = UserTool::read_all(path, &text)?;
                self.tools.insert(0, ToolTables { path: path.to_path_buf(), tools });
            }
            (Some(span), Trust::Safe(why)) => self.ignored(path, span, "tool", why),
            (None, _) => {}
        }
        Ok(())
    }

    fn ignored(&mut self, path: &Path, span: Span, key: &str, why: &str) {
        self.notes.push(format!("{}:{}: `{key}` is ignored: the file {why}", path.display(), span.line));
    }

    /// Bounds on one attempt at a thunk.
    pub(crate) fn limits(&self) -> ggr_ir::Limits {
        ggr_ir::Limits {
            wall: self.time_limit.value,
            memory: self.memory_limit.value.0,
            output: self.output_limit.value.0,
            processes: self.process_limit.value,
            network: self.network.value.class(),
        }
    }
}

/// How far a file is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// Every key.
    Full,
    /// Safe keys only; says why.
    Safe(&'static str),
}

/// A project's file is believed if the user owns it and nobody else may write it.
fn trust(path: &Path) -> Trust {
    let Ok(found) = std::fs::metadata(path) else { return Trust::Safe("cannot be looked at") };
    judge(found.uid(), found.mode(), rustix::process::geteuid().as_raw())
}

fn judge(owner: u32, mode: u32, user: u32) -> Trust {
    if owner != user {
        return Trust::Safe("belongs to another user");
    }
    if mode & 0o002 != 0 {
        return Trust::Safe("may be written by anybody");
    }
    Trust::Full
}

fn user_file(env: &Environment) -> Option<PathBuf> {
    env.value("GGR_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(env.config_home()?.join("ggr").join("config.toml")))
}

/// The nearest `ggr.toml` at or above `start`.
fn project_file(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|dir| dir.join(PROJECT_FILE)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        root: tempfile::TempDir,
        env: Vec<(String, String)>,
    }

    impl Fixture {
        fn new(user: &str, project: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("project/deep")).unwrap();
            std::fs::write(root.path().join("config.toml"), user).unwrap();
            std::fs::write(root.path().join("project/ggr.toml"), project).unwrap();
            let config = root.path().join("config.toml").display().to_string();
            Self { root, env: vec![("GGR_CONFIG".into(), config), ("HOME".into(), "/home/me".into())] }
        }

        fn load(&self, flags: &[(&'static str, OsString)]) -> Result<Config, ConfigError> {
            let pairs: Vec<_> =
                self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            Config::load(&Environment::of(&pairs), flags, &self.root.path().join("project/deep"))
        }
    }

    #[test]
    fn the_nearer_layer_wins_and_each_value_knows_its_own() {
        let mut fixture =
            Fixture::new("slots = 1\nmode = \"wait\"\nquiet = true\n", "slots = 2\nmode = \"lazy\"\n");
        fixture.env.push(("GGR_SLOTS".into(), "3".into()));
        let config = fixture.load(&[]).unwrap();
        assert_eq!((config.slots.value.get(), config.slots.origin), (3, Origin::Variable("GGR_SLOTS")));
        assert_eq!(config.mode.value, Mode::Lazy);
        assert!(
            matches!(&config.mode.origin, Origin::File { path, line: 2, .. } if path.ends_with("project/ggr.toml"))
        );
        assert!(
            matches!(&config.quiet.origin, Origin::File { path, line: 3, .. } if path.ends_with("config.toml"))
        );
        assert_eq!(config.verify_rate.origin, Origin::Default);
        let config = fixture.load(&[("slots", "4".into())]).unwrap();
        assert_eq!((config.slots.value.get(), config.slots.origin), (4, Origin::Flag("--slots")));
    }

    #[test]
    fn relative_paths_are_relative_to_where_they_are_written() {
        let mut fixture = Fixture::new("store = \"~/blobs\"\n", "dir = \"repo\"\n");
        let config = fixture.load(&[]).unwrap();
        assert_eq!(config.dir.value.unwrap(), fixture.root.path().join("project/repo"));
        assert_eq!(config.store.value.unwrap().directory(), Some(Path::new("/home/me/blobs")));
        fixture.env.push(("GGR_DIR".into(), "x".into()));
        assert_eq!(fixture.load(&[]).unwrap().dir.value.unwrap(), fixture.root.path().join("project/deep/x"));
    }

    #[test]
    fn a_store_is_a_path_or_a_bucket_and_nothing_else() {
        let load = |text: &str| Fixture::new("", "").load(&[("store", text.into())]);
        let place = |text: &str| load(text).unwrap().store.value.unwrap();
        assert_eq!(place("s3://team/some/prefix/").to_string(), "s3://team/some/prefix");
        assert_eq!(place("s3://team").directory(), None);
        assert!(place("blobs").directory().unwrap().ends_with("project/deep/blobs"));
        for wrong in ["gs://team", "s3://"] {
            let error = load(wrong).unwrap_err().to_string();
            assert_eq!(error, format!("flag --store: `{wrong}` is not a path or `s3://BUCKET/PREFIX`"));
        }
    }

    #[test]
    fn a_file_that_anybody_may_write_sets_safe_keys_only() {
        use std::os::unix::fs::PermissionsExt;
        let fixture = Fixture::new("", "dir = \"/elsewhere\"\nslots = 5\n[[tool]]\nname = \"x\"\n");
        let path = fixture.root.path().join("project/ggr.toml");
        assert_eq!(fixture.load(&[]).unwrap().tools.len(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let config = fixture.load(&[]).unwrap();
        assert_eq!(config.slots.value.get(), 5);
        assert_eq!((config.dir.value, config.tools), (None, vec![]));
        let notes = config.notes.join("\n").replace(&path.display().to_string(), "F");
        assert_eq!(
            notes,
            "F:1: `dir` is ignored: the file may be written by anybody\n\
             F:3: `tool` is ignored: the file may be written by anybody"
        );
        assert_eq!(judge(1, 0o644, 2), Trust::Safe("belongs to another user"));
    }

    #[test]
    fn a_bad_value_names_its_place() {
        let mut fixture = Fixture::new("", "\nslots = 0\n");
        let path = fixture.root.path().join("project/ggr.toml").display().to_string();
        let error = fixture.load(&[]).unwrap_err();
        assert_eq!(error.to_string().replace(&path, "F"), "F:2:1: `slots`: `0` is not a whole number from 1");
        std::fs::write(&path, "").unwrap();
        fixture.env.push(("GGR_MODE".into(), "quick".into()));
        let error = fixture.load(&[]).unwrap_err();
        assert_eq!(error.to_string(), "variable GGR_MODE: `quick` is not `lazy` or `wait`");
        fixture.env.pop();
        let error = fixture.load(&[("max-cache", "lots".into())]).unwrap_err();
        assert!(error.is_usage());
        assert_eq!(error.to_string(), "flag --max-cache: `lots` is not a size such as `10G`");
    }
}
