//! What goes from the store to the user's files and standard output.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use ggr_backends::drive::Finished;
use ggr_backends::memo::Stamp;
use ggr_backends::store::Remove;
use ggr_ir::{BlobId, ObjectStore, Reduction};
use ggr_models::Plan;

use super::Session;
use crate::coordinator::call::Call;
use crate::coordinator::materialize;
use crate::intercept::supervisor::FileId;
use crate::report::Event;

impl Session {
    /// The bytes of a blob that is to become one of the user's files: checked, since nobody would look at them again. A
    /// damaged one is removed from the store.
    ///
    /// # Errors
    /// `InvalidData` if it is gone or damaged: the caller makes it anew.
    pub(crate) fn checked_bytes(&self, id: BlobId) -> io::Result<Vec<u8>> {
        let bytes = std::fs::read(self.store.path(id)).unwrap_or_default();
        if BlobId::of(&bytes) == id {
            return Ok(bytes);
        }
        // What cannot be removed is found damaged again.
        let _ = self.store.remove(id);
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("blob {id} is damaged")))
    }

    pub(crate) fn ingest(&self, path: &Path) -> io::Result<BlobId> {
        self.store.ingest(path).map(|ingested| ingested.id).map_err(io::Error::other)
    }

    pub(crate) fn put_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        self.store.put_bytes(bytes).map_err(io::Error::other)
    }

    /// The stamp and the hash of a regular file, which need not be in the store.
    pub(crate) fn digest(&self, path: &Path) -> io::Result<(Stamp, BlobId)> {
        self.view.digest(path)
    }

    /// Notes that a file is about to be changed by a captured program.
    pub(crate) fn distrust(&self, file: FileId) {
        self.view.distrust(file);
    }

    /// Notes what a file of the user's holds, which was just written.
    pub(crate) fn remember(&self, path: &Path, blob: BlobId) {
        self.view.remember(path, blob);
    }

    /// Writes a plan's files where the tool would have written them.
    pub(crate) fn materialize(
        &self,
        call: &Call,
        plan: &Plan,
        reductions: &[Arc<Finished>],
    ) -> io::Result<()> {
        let planned: HashMap<_, _> = plan.outputs.iter().map(|o| (&o.output.name, o)).collect();
        let Some(last) = reductions.last() else { return Ok(()) };
        for (path, bytes) in &plan.written {
            std::fs::write(path, bytes)?;
        }
        for (name, entry) in &last.outputs {
            let (path, permissions) = match planned.get(name) {
                Some(output) => (output.path.as_path(), output.mode(call.umask)),
                None => {
                    (entry.path.as_path(), rewritten(&entry.path).unwrap_or(entry.permissions & !call.umask))
                }
            };
            let written = materialize::write(&self.store.path(entry.blob), entry.blob, path, permissions);
            if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
                // What cannot be removed is found damaged again.
                let _ = self.store.remove(entry.blob);
            }
            if let Some(meta) = written? {
                self.view.remember_stat(&meta, entry.blob);
            }
            self.report(&Event::Materialized { path: path.to_owned(), bytes: entry.blob.size() });
        }
        Ok(())
    }

    /// What the tools printed, in their order.
    pub(crate) fn printed(&self, reductions: &[Arc<Finished>]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for reduction in reductions {
            for (blob, to) in [(reduction.stdout, &mut stdout), (reduction.stderr, &mut stderr)] {
                if blob.size() > 0 {
                    to.extend(self.store.get_bytes(blob).map_err(io::Error::other)?);
                }
            }
        }
        Ok((stdout, stderr))
    }

    /// What a recorded call printed.
    pub(crate) fn printed_by(&self, reduction: &Reduction) -> io::Result<(Vec<u8>, Vec<u8>)> {
        Ok((self.checked_bytes(reduction.stdout)?, self.checked_bytes(reduction.stderr)?))
    }

    /// Prints what deferred calls printed, each call's output in one piece.
    pub(crate) fn print_for_build(&self, reductions: &[Arc<Finished>]) {
        match self.printed(reductions) {
            Ok((stdout, stderr)) => self.print_bytes(&stdout, &stderr),
            Err(error) => self.fail_build(format!("reading what a tool printed: {error}")),
        }
    }

    pub(crate) fn print_bytes(&self, stdout: &[u8], stderr: &[u8]) {
        let mut output = self.output.lock().expect("no holder panics");
        // A closed pipe is the reader's wish, as it would be to the tool.
        if !stdout.is_empty() {
            let _ = match &mut output.stdout {
                Some(file) => file.write_all(stdout),
                None => io::stdout().write_all(stdout).and_then(|()| io::stdout().flush()),
            };
        }
        if !stderr.is_empty() {
            let _ = match &mut output.stderr {
                Some(file) => file.write_all(stderr),
                None => io::stderr().write_all(stderr),
            };
        }
    }
}

/// The permission bits of a file that a tool rewrote: it keeps them, whatever the sandbox's copy had.
fn rewritten(path: &ggr_ir::RootPath) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::symlink_metadata(path.as_path()).ok()?;
    found.is_file().then(|| found.permissions().mode() & 0o7777)
}
