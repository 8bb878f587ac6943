//! `--backend microvm`: finds QEMU and a kernel, makes the image, finds out what carries out the guests, starts the pool.
//!
//! The agent in a guest is this very program: `/init` of the image is a copy of the running `ggr`, with the libraries that
//! its loader opens. So agent and host are never of two versions.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ggr_backends::microvm::{
    Accelerator, Counts, Image, Kernel, MicrovmBackend, MicrovmOptions, PATIENCE, Qemu,
};
use ggr_backends::service::Guests;
use ggr_backends::store::FsStore;
use ggr_models::toolchain::elf;

use crate::commands::Context;

/// QEMU's program for this processor.
const QEMU: &str = "qemu-system-x86_64";

/// Bytes of memory of a guest. What none of them touches costs nothing.
pub(crate) const MEMORY: u64 = 1 << 30;

/// A guest under a KVM that works is up in well under a second; one under a KVM that only seems to work never is.
const KVM_LIMIT: Duration = Duration::from_secs(10);

/// What guests are made of here.
pub(crate) struct Parts {
    /// QEMU.
    pub(crate) qemu: Qemu,
    /// What it calls itself.
    pub(crate) version: String,
    /// The guests' kernel.
    pub(crate) kernel: Kernel,
    /// Where images are kept.
    directory: PathBuf,
}

impl Parts {
    /// Looks for them.
    ///
    /// # Errors
    /// What is missing, and where it was looked for.
    pub(crate) fn find(context: &Context) -> Result<Self, String> {
        let path = context.env.value("PATH").unwrap_or_default();
        let program = std::env::split_paths(path)
            .map(|dir| dir.join(QEMU))
            .find(|file| file.is_file())
            .ok_or_else(|| format!("there is no `{QEMU}` in `PATH`"))?;
        let qemu = Qemu::new(program);
        let version = qemu.version().map_err(|e| format!("`{QEMU}` does not start: {e}"))?;
        let cache = context.env.cache_home().ok_or("there is no cache directory: HOME is not set")?;
        let cache = cache.join("ggr");
        let kernel = Kernel::find(&[cache.join("guest"), "/".into()]).ok_or_else(|| {
            format!("there is no kernel with its modules in `{}` or `/`", cache.join("guest").display())
        })?;
        Ok(Self { qemu, version, kernel, directory: cache.join("images") })
    }

    /// The image for an accelerator.
    pub(crate) fn image(&self, accelerator: Accelerator) -> Result<Image, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut libraries = elf::closure(&program).map_err(|e| e.to_string())?;
        libraries.retain(|file| *file != program);
        make_private(&self.directory).map_err(|e| format!("`{}`: {e}", self.directory.display()))?;
        let machine = (accelerator, MEMORY);
        Image::prepare(&self.directory, &self.kernel, (program, libraries), machine, &self.version)
            .map_err(|e| format!("the image: {e}"))
    }

    /// The accelerator with which a guest has booted since this machine started; boots one where that is not known.
    async fn accelerator(&self, store: &Arc<FsStore>) -> (Accelerator, Option<String>) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let memo = self.directory.join("accelerator");
        let seen = fs::read_to_string(&memo).unwrap_or_default();
        if let Some(found) = seen.strip_prefix(&boot).filter(|_| !boot.is_empty()) {
            return match found.strip_prefix("tcg: ") {
                Some(why) => (Accelerator::Tcg, Some(why.to_owned())),
                None => (Accelerator::Kvm, None),
            };
        }
        let (found, text, why) = match self.try_kvm(store).await {
            Ok(()) => (Accelerator::Kvm, "kvm".to_owned(), None),
            Err(why) => (Accelerator::Tcg, format!("tcg: {why}"), Some(why)),
        };
        // What cannot be remembered is found out again.
        let _ = fs::write(memo, format!("{boot}{text}"));
        (found, why)
    }

    async fn try_kvm(&self, store: &Arc<FsStore>) -> Result<(), String> {
        fs::File::options().read(true).write(true).open("/dev/kvm").map_err(|e| format!("/dev/kvm: {e}"))?;
        let image = self.image(Accelerator::Kvm)?;
        self.backend(image, 1, Arc::clone(store)).prepare(KVM_LIMIT).await
    }

    fn backend(&self, image: Image, slots: usize, store: Arc<FsStore>) -> MicrovmBackend {
        let vmm = Arc::new(self.qemu.clone());
        MicrovmBackend::new(MicrovmOptions { vmm, image, slots, patience: PATIENCE, store })
    }
}

/// Templates hold what the user's jobs read.
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

/// Starts a pool of guests over this store. A warning is given where guests are only translated.
///
/// # Errors
/// Why there can be none, in words for the user.
pub(crate) async fn start(
    context: &Context,
    slots: usize,
    store: Arc<FsStore>,
) -> Result<MicrovmBackend, String> {
    let parts = Parts::find(context)?;
    let (accelerator, why) = parts.accelerator(&store).await;
    if let Some(why) = why {
        context.note(&format!("guests run without KVM, 5 to 15 times slower: {why}"));
    }
    Ok(parts.backend(parts.image(accelerator)?, slots, store))
}

/// How a service makes pools of guests, each with templates of its own: they hold what the tenant's jobs read.
///
/// # Errors
/// Why there can be none, in words for the user.
pub(crate) async fn guests(context: &Context, slots: usize, dir: &Path) -> Result<Guests, String> {
    let parts = Parts::find(context)?;
    let store = Arc::new(FsStore::new(&dir.join("try-store")));
    let (accelerator, why) = parts.accelerator(&store).await;
    if let Some(why) = why {
        context.note(&format!("guests run without KVM, 5 to 15 times slower: {why}"));
    }
    let (image, qemu) = (parts.image(accelerator)?, parts.qemu);
    Ok(Box::new(move |tenant| {
        let directory = tenant.root.join("memo/images");
        make_private(&directory).map_err(|e| format!("`{}`: {e}", directory.display()))?;
        let (vmm, store) = (Arc::new(qemu.clone()), Arc::clone(&tenant.store));
        let image = Image { directory, ..image.clone() };
        Ok(MicrovmBackend::new(MicrovmOptions { vmm, image, slots, patience: PATIENCE, store }))
    }))
}

/// Makes pools of one guest each over this store, as often as it is asked: for measurements.
///
/// # Errors
/// As [`start`].
pub(crate) async fn pools(
    context: &Context,
    store: Arc<FsStore>,
) -> Result<impl Fn() -> MicrovmBackend + use<>, String> {
    let parts = Parts::find(context)?;
    let (accelerator, _) = parts.accelerator(&store).await;
    let image = parts.image(accelerator)?;
    Ok(move || parts.backend(image.clone(), 1, Arc::clone(&store)))
}

/// What the pool did, for the summary; nothing if it did nothing.
pub(crate) fn summary(counts: Counts) -> Option<String> {
    let Counts { made, restored, lost, make, restore } = counts;
    (restored > 0).then(|| {
        let snapshots = match made {
            0 => "no new snapshot".to_owned(),
            _ => format!("{made} new snapshots (the last took {:.1} s)", make.as_secs_f64()),
        };
        format!("microVMs: {snapshots}, {restored} restored in {} ms each, {lost} lost", restore.as_millis())
    })
}

/// Whether this process is the first of a guest, and its arguments.
pub(crate) fn guest(arguments: &[std::ffi::OsString]) -> Option<Vec<String>> {
    let is_init = arguments.first().is_some_and(|name| name.as_bytes() == b"/init");
    let is_worker = arguments.get(1).is_some_and(|word| word == ggr_shim::guest::WORKER);
    ((std::process::id() == 1 && is_init) || is_worker)
        .then(|| arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect())
}

/// Boots a guest and restores it once, and says how long that took.
pub(crate) async fn try_out(context: &Context, mut out: impl Write) -> Result<(), String> {
    let parts = Parts::find(context)?;
    let dir = context.env.cache_home().ok_or("there is no cache directory")?.join("ggr/try-store");
    make_private(&dir).map_err(|e| e.to_string())?;
    let store = Arc::new(FsStore::new(&dir));
    let (accelerator, why) = parts.accelerator(&store).await;
    let backend = parts.backend(parts.image(accelerator)?, 1, store);
    backend.prepare(Duration::MAX).await?;
    backend.restore_one().await?;
    let counts = backend.counts();
    let how = match why {
        Some(why) => format!("TCG (no KVM: {why})"),
        None => format!("{accelerator:?}"),
    };
    let written = writeln!(
        out,
        "kernel       {}\nmonitor      {}\naccelerator  {how}\ncold boot    {}\nrestore      {} ms",
        parts.kernel.file.display(),
        parts.version,
        match counts.made {
            0 => "not needed, the image was there".to_owned(),
            _ => format!("{} ms, snapshot included", counts.make.as_millis()),
        },
        counts.restore.as_millis()
    );
    written.map_err(|e| e.to_string())
}
