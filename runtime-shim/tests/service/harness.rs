//! A service in a fresh directory, and clients with stores of their own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ggr_backends::backend::Backend;
use ggr_backends::remote::{Control, RemoteBackend, RemoteOptions};
use ggr_backends::service::{Address, Isolation, Memory, Service, ServiceOptions, Sharing, Stopper, Tokens};
use ggr_backends::store::FsStore;
use ggr_ir::{Attempt, BlobId, Harvest, Job, Kind, Limits, ObjectStore, Outcome, Reduction};
use ggr_shim::bench::{Kit, command};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// The shell and these programs are in every root.
const PROGRAMS: [&str; 5] = ["/usr/bin/dash", "/usr/bin/cat", "/usr/bin/sleep", "/usr/bin/id", "/usr/bin/ln"];

/// Nothing here takes longer; a hang is a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The tokens of the tenants `ann` and `bob`, who is an operator.
pub(crate) const ANN: &str = "ann-0123456789abcdef";
pub(crate) const BOB: &str = "bob-0123456789abcdef";

/// The command line of workers that `cargo test` built beside this test. A service adds `--slots N --store DIR`, and the
/// example takes `DIR N`. It is started from `dir`, through which tenants pass: the checkout may be nobody else's to enter.
fn workers(dir: &Path) -> Vec<std::ffi::OsString> {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().unwrap().parent().unwrap().join("examples/worker");
    let program = dir.join("worker");
    if !program.exists() {
        std::fs::hard_link(&built, &program).or_else(|_| std::fs::copy(&built, &program).map(drop)).unwrap();
    }
    let script = format!("exec {} \"$4\" \"$2\"", program.display());
    ["/bin/sh", "-c", &script, "sh"].map(Into::into).to_vec()
}

/// A service that runs.
pub(crate) struct Running {
    pub(crate) dir: TempDir,
    pub(crate) address: Address,
    pub(crate) stopper: Stopper,
    pub(crate) task: JoinHandle<()>,
}

/// What a service is started with.
pub(crate) struct Setting {
    pub(crate) slots: usize,
    pub(crate) sharing: Sharing,
    pub(crate) memory: u64,
    /// Listens on the network with tokens, and not at a Unix socket.
    pub(crate) network: bool,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) peers: Vec<Address>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            slots: 4,
            sharing: Sharing::Apart,
            memory: 1 << 30,
            network: false,
            certificate: None,
            peers: Vec::new(),
        }
    }
}

impl Running {
    pub(crate) async fn new() -> Self {
        Self::with(Setting::default()).await
    }

    pub(crate) async fn with(setting: Setting) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        // Tenants with user ids of their own pass through it.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let listen = if setting.network {
            Address::Tcp("127.0.0.1:0".into())
        } else {
            Address::Unix(dir.path().join("socket"))
        };
        Self::at(dir, listen, setting).await
    }

    /// A service over a directory that is there.
    pub(crate) async fn at(dir: TempDir, listen: Address, setting: Setting) -> Self {
        let tokens = dir.path().join("tokens");
        std::fs::write(&tokens, format!("ann {ANN}\nbob {BOB} operator\n")).unwrap();
        std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
        let options = || ServiceOptions {
            listen: listen.clone(),
            certificate: setting.certificate.clone(),
            tokens: Some(Tokens::read(&tokens).unwrap()),
            dir: dir.path().join("state"),
            sharing: setting.sharing,
            slots: setting.slots,
            isolation: Isolation::Sandbox(workers(dir.path())),
            memory: Memory { each: 16 << 20, bound: setting.memory },
            peers: setting.peers.clone(),
            authority: None,
            store_limit: 1 << 30,
        };
        // One that was just ended may not have let go of the address.
        let mut opened = Service::open(options()).await;
        for _ in 0..200 {
            if !opened.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            opened = Service::open(options()).await;
        }
        let service = opened.unwrap();
        let (address, stopper) = (service.address().clone(), service.stopper());
        Self { dir, address, stopper, task: tokio::spawn(service.run()) }
    }

    pub(crate) fn options(&self, token: &str) -> RemoteOptions {
        RemoteOptions {
            address: self.address.clone(),
            token: token.to_owned(),
            authority: None,
            packed: true,
            patience: Duration::from_secs(20),
        }
    }

    pub(crate) async fn client(&self, token: &str) -> Client {
        Client::connect(self.options(token)).await.unwrap()
    }

    pub(crate) async fn control(&self, token: &str) -> Control {
        Control::open(&self.options(token)).await.unwrap()
    }

    /// The directory of a tenant's store.
    pub(crate) fn tenant(&self, name: &str) -> PathBuf {
        self.dir.path().join("state/tenants").join(name)
    }
}

/// A client with a store of its own.
pub(crate) struct Client {
    pub(crate) backend: Arc<RemoteBackend>,
    pub(crate) kit: Kit,
    store: Arc<FsStore>,
    _dir: TempDir,
}

impl Client {
    pub(crate) async fn connect(options: RemoteOptions) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(FsStore::new(dir.path()));
        let backend = Arc::new(RemoteBackend::connect(options, Arc::clone(&store)).await?);
        let mut kit = Kit::new(dir.path());
        PROGRAMS.iter().for_each(|program| kit.program(Path::new(program)).unwrap());
        Ok(Self { backend, kit, store, _dir: dir })
    }

    pub(crate) fn store(&self) -> &FsStore {
        &self.store
    }

    /// A shell script in `/work` that writes these files.
    pub(crate) fn job(&self, script: &str, outputs: &[&str]) -> Job {
        let call = command(&["/usr/bin/dash", "-c", script], "/work");
        let thunk = self.kit.thunk(call, outputs, Harvest::Declared);
        Job {
            id: thunk.id(),
            thunk: Arc::new(thunk),
            limits: Limits::default(),
            kind: Kind::Other,
            label: script.to_owned(),
        }
    }

    pub(crate) async fn run(&self, job: &Job) -> Attempt {
        tokio::time::timeout(LIMIT, self.backend.run(job)).await.expect("every start gets a finish")
    }

    pub(crate) async fn sh(&self, script: &str, outputs: &[&str]) -> Attempt {
        self.run(&self.job(script, outputs)).await
    }

    pub(crate) fn text(&self, id: BlobId) -> String {
        String::from_utf8_lossy(&self.store().get_bytes(id).unwrap()).into_owned()
    }

    pub(crate) fn stdout(&self, attempt: &Attempt) -> String {
        self.text(reduced(attempt).stdout)
    }
}

/// Says that a test cannot run here, past what the test harness keeps to itself: `tests/run` counts these lines.
pub(crate) fn skipped(test: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

#[track_caller]
pub(crate) fn reduced(attempt: &Attempt) -> &Reduction {
    let Outcome::Reduced(reduction) = &attempt.outcome else { panic!("{:?}", attempt.outcome) };
    reduction
}

/// Waits until it holds, within [`LIMIT`].
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}
