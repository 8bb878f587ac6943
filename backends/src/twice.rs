//! Running some jobs twice, to find programs that do not give the same bytes each time (`--verify-rate`).

use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use ggr_ir::{Attempt, BlobId, Job, Outcome, Reduction, RootPath, ThunkId};

use crate::backend::{Backend, Refusal};

/// Is told the names of the outputs that differ.
type Differ = Box<dyn Fn(&Job, &[String]) + Send + Sync>;

/// Runs one job in `rate` a second time after it has succeeded, and tells when the outputs differ. The first run's result
/// is the one that counts; a second run that fails says nothing.
pub struct Twice {
    inner: Arc<dyn Backend>,
    rate: NonZeroU32,
    differ: Differ,
}

impl Twice {
    /// Which jobs are run twice is decided by their ids: the same ones in every build.
    pub fn new(
        inner: Arc<dyn Backend>,
        rate: NonZeroU32,
        differ: impl Fn(&Job, &[String]) + Send + Sync + 'static,
    ) -> Self {
        Self { inner, rate, differ: Box::new(differ) }
    }

    fn chosen(&self, id: ThunkId) -> bool {
        let hash = id.hash();
        let bytes = hash.as_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % self.rate == 0
    }
}

impl Backend for Twice {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn slots(&self) -> usize {
        self.inner.slots()
    }

    fn duplicates(&self) -> bool {
        self.inner.duplicates()
    }

    fn standby(&self) -> bool {
        self.inner.standby()
    }

    fn keeps(&self) -> bool {
        self.inner.keeps()
    }

    fn prepare(&self, program: &RootPath, inputs: &[BlobId]) {
        self.inner.prepare(program, inputs);
    }

    fn accepts(&self, job: &Job) -> Result<(), Refusal> {
        self.inner.accepts(job)
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Attempt> {
        async move {
            let first = self.inner.run(job).await;
            if let Outcome::Reduced(one) = &first.outcome
                && self.chosen(job.id)
                && let Outcome::Reduced(two) = self.inner.run(job).await.outcome
            {
                let names = differences(one, &two);
                if !names.is_empty() {
                    (self.differ)(job, &names);
                }
            }
            first
        }
        .boxed()
    }
}

/// The outputs that differ, by name; what the programs printed counts as one too.
fn differences(one: &Reduction, two: &Reduction) -> Vec<String> {
    let all = one.outputs.keys().chain(two.outputs.keys());
    let mut names: Vec<String> = all
        .filter(|name| one.outputs.get(*name) != two.outputs.get(*name))
        .map(|name| format!("`{}`", name.0))
        .collect();
    names.sort_unstable();
    names.dedup();
    for (same, name) in
        [(one.stdout == two.stdout, "standard output"), (one.stderr == two.stderr, "standard error")]
    {
        if !same {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ggr_ir::{BlobId, OutputEntry, OutputName, RootPath};

    use super::*;

    fn reduction(bytes: &str, stdout: &str) -> Reduction {
        let path = RootPath::new("/a.o").expect("it is a path");
        let entry = OutputEntry { path, blob: BlobId::of(bytes.as_bytes()), permissions: 0o644 };
        Reduction {
            outputs: BTreeMap::from([(OutputName::from("/a.o"), entry)]),
            stdout: BlobId::of(stdout.as_bytes()),
            stderr: BlobId::of(b""),
            duration_us: 1,
        }
    }

    #[test]
    fn outputs_that_differ_are_named() {
        assert_eq!(differences(&reduction("1", ""), &reduction("1", "")), Vec::<String>::new());
        assert_eq!(differences(&reduction("1", ""), &reduction("2", "x")), ["`/a.o`", "standard output"]);
    }
}
