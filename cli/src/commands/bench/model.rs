//! `ggr bench model`: how fast calls become thunks.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use ggr_backends::memo::StatMemo;
use ggr_backends::store::FsStore;
use ggr_ir::{BlobId, OutputRef};
use ggr_models::model::Directory;
use ggr_models::{FileView, Found, Invocation, Modelled, Models, Plan};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::commands::{Context, cc};
use crate::coordinator::{Placeholders, View};
use crate::error::Error;

/// Turn a build's calls into thunks again, in one thread, and say how many a second
///
/// The calls are those of a log that `ggr --json=LOG make` wrote; the tree must stand as that build left it. What an
/// earlier call makes is a placeholder for the later ones, as in a build.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The log of a build
    log: PathBuf,
}

/// What one pass over the calls came to.
#[derive(Clone, Copy, Default)]
struct Pass {
    thunks: u64,
    here: u64,
    took: Duration,
}

impl Pass {
    fn per_second(self) -> f64 {
        self.thunks as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let calls = calls(context, &args.log)?;
    let dir = tempfile::tempdir().map_err(Error::io("create a directory in", std::env::temp_dir()))?;
    let memo = dir.path().join("models");
    let mut passes = Vec::new();
    // The second process begins with what the first has saved.
    for process in [&["cold"][..], &["warm, a new process", "warm, the same process"]] {
        let models = Models::standard(&memo);
        let stat = Arc::new(StatMemo::new(dir.path().join("stat")));
        let store = Arc::new(FsStore::new(dir.path()));
        let view = View::new(Arc::new(Placeholders::default()), store, Arc::clone(&stat));
        passes.extend(process.iter().map(|name| (*name, pass(&models, &view, &calls))));
        models.save(&memo).and_then(|()| stat.save()).map_err(Error::io("write below", dir.path()))?;
    }
    print(context, calls.len(), &passes)
}

fn print(context: &Context, calls: usize, passes: &[(&str, Pass)]) -> Result<ExitCode, Error> {
    if context.json.is_some() {
        let row = |(name, pass): &(&str, Pass)| {
            json!({
                "pass": name,
                "calls": calls,
                "thunks": pass.thunks,
                "run_here": pass.here,
                "seconds": pass.took.as_secs_f64(),
                "per_second": pass.per_second(),
            })
        };
        context.print_json(&json!(passes.iter().map(row).collect::<Vec<_>>()))?;
    } else {
        for (name, pass) in passes {
            context.print(&format!(
                "{name:<24} {calls} calls, {} thunks, {} run here: {:.3} s, {:.0} thunks a second\n",
                pass.thunks,
                pass.here,
                pass.took.as_secs_f64(),
                pass.per_second()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The user's files in the midst of a build: where an earlier call's outputs stand now, there were placeholders.
struct Midway<'a> {
    view: &'a View,
    /// By the path's text: hashing it as a path takes it apart.
    outputs: RwLock<FxHashMap<OsString, OutputRef>>,
}

impl Midway<'_> {
    fn output(&self, path: &Path) -> Option<OutputRef> {
        self.outputs.read().expect("no holder panics").get(path.as_os_str()).cloned()
    }

    /// # Errors
    /// `WouldBlock` for a placeholder.
    fn regular(&self, path: &Path) -> io::Result<()> {
        self.output(path).map_or(Ok(()), |_| Err(io::ErrorKind::WouldBlock.into()))
    }

    /// Takes the outputs of a call for placeholders.
    fn put(&self, plan: &Plan) {
        let outputs = plan.outputs.iter().map(|output| (output.path.clone().into(), output.output.clone()));
        self.outputs.write().expect("no holder panics").extend(outputs);
    }
}

impl FileView for Midway<'_> {
    fn find(&self, path: &Path) -> Found {
        self.output(path).map_or_else(|| self.view.find(path), Found::Placeholder)
    }

    fn directory(&self, path: &Path) -> Option<Directory> {
        self.view.directory(path)
    }

    fn link_target(&self, path: &Path) -> Option<PathBuf> {
        self.view.link_target(path)
    }

    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        self.regular(path).and_then(|()| self.view.read(path))
    }

    fn blob(&self, path: &Path) -> io::Result<(BlobId, bool)> {
        self.regular(path).and_then(|()| self.view.blob(path))
    }

    fn blob_stamped(&self, path: &Path, stamp: u64) -> io::Result<(BlobId, bool)> {
        self.view.blob_stamped(path, stamp)
    }

    fn blob_of_bytes(&self, bytes: &[u8]) -> io::Result<BlobId> {
        self.view.blob_of_bytes(bytes)
    }

    fn stamp(&self, path: &Path) -> Option<u64> {
        self.regular(path).ok().and_then(|()| self.view.stamp(path))
    }
}

fn pass(models: &Models, view: &View, calls: &[Invocation]) -> Pass {
    let mut pass = Pass::default();
    let midway = Midway { view, outputs: RwLock::default() };
    let began = Instant::now();
    for call in calls {
        view.refresh();
        let argv0 = call.args.first().map_or("", String::as_str);
        match models.model_for(&call.program, argv0).map(|model| model.model(call, &midway)) {
            Some(Modelled::Thunks(plan)) => {
                midway.put(&plan);
                for (thunk, _) in &plan.thunks {
                    // A call is looked up by it: computing it is part of the price.
                    std::hint::black_box(thunk.id());
                    pass.thunks += 1;
                }
            }
            Some(Modelled::RunHere(_) | Modelled::Force(_)) | None => pass.here += 1,
        }
    }
    pass.took = began.elapsed();
    pass
}

/// The tool calls of a log.
fn calls(context: &Context, log: &Path) -> Result<Vec<Invocation>, Error> {
    let file = std::fs::File::open(log).map_err(Error::io("read", log))?;
    let env = context.env.all().iter();
    let env: std::collections::BTreeMap<String, String> =
        env.filter_map(|(k, v)| Some((k.to_str()?.to_owned(), v.to_str()?.to_owned()))).collect();
    let mut calls = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(Error::io("read", log))?;
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if event["event"] != "called" {
            continue;
        }
        let args: Vec<String> = serde_json::from_value(event["args"].clone()).unwrap_or_default();
        let (Some(name), Some(dir)) = (args.first(), event["dir"].as_str()) else { continue };
        let program = cc::find(context, name.as_ref())?;
        calls.push(Invocation {
            program,
            dir: dir.into(),
            env: env.clone(),
            stderr_is_terminal: false,
            args,
        });
    }
    if calls.is_empty() {
        return Err(Error::Unknown {
            what: format!("`{}` has no tool call of a build", log.display()),
            hint: "`ggr --json=LOG make` writes such a log".to_owned(),
        });
    }
    Ok(calls)
}
