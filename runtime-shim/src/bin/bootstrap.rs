//! The function's program on AWS Lambda (`provided.al2023`): what the service starts as `/var/task/bootstrap`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use ggr_backends::lambda::Objects;
use ggr_backends::store::FsStore;
use ggr_ir::ObjectStore;
use ggr_ir::protocol::lambda::{MARK, StoreAddress};
use ggr_shim::lambda::{Environment, serve};

/// The share of `/tmp` that kept objects may fill; the rest is for a thunk's own files.
const KEPT: f64 = 0.6;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version") {
        print!("{MARK}");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // To the function's log.
            eprintln!("ggr: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API")
        .map_err(|_| "AWS_LAMBDA_RUNTIME_API is not set: this program runs on AWS Lambda")?;
    let dir = std::env::var_os("GGR_LAMBDA_DIR").map_or_else(|| PathBuf::from("/tmp/ggr"), PathBuf::from);
    let budget = budget(dir.parent().unwrap_or(Path::new("/tmp")))?;
    let mut environment = Environment::start(&dir, budget, Box::new(open_store))?;
    Ok(serve(&api, &mut environment)?)
}

fn budget(dir: &Path) -> std::io::Result<u64> {
    let space = rustix::fs::statvfs(dir)?;
    Ok((space.f_blocks.saturating_mul(space.f_frsize) as f64 * KEPT) as u64)
}

fn open_store(address: &StoreAddress) -> Result<Arc<dyn ObjectStore>, String> {
    match address {
        StoreAddress::Directory(path) => Ok(Arc::new(FsStore::new(Path::new(path)))),
        StoreAddress::None => Err("there is no store".to_owned()),
        StoreAddress::S3 { .. } => Ok(Arc::new(Objects::open(address).map_err(|e| e.to_string())?)),
    }
}
