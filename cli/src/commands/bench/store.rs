//! `ggr bench store`: what a shared store takes, and asks for.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ggr_backends::store::FsStore;
use ggr_backends::store::shared::{Access, SharedCounts, SharedOptions, SharedStore};
use ggr_ir::repo::unique_name;
use ggr_ir::{BlobId, ObjectStore};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::config::{ByteSize, StorePlace};
use crate::error::Error;
use crate::report::seconds;

/// Fill a shared store (`--store s3://BUCKET/PREFIX`, under a new prefix), ask another machine's questions, and fetch all of it
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many blobs
    #[arg(default_value_t = 20_000)]
    blobs: u32,
    /// How large each is, in bytes
    #[arg(long, default_value_t = 2_000)]
    size: usize,
}

/// One row.
struct Row {
    step: &'static str,
    took: Duration,
    counts: SharedCounts,
}

/// Measures.
pub(crate) fn run(context: &Context, args: &Args) -> Result<ExitCode, Error> {
    let Some(StorePlace::Bucket(address)) = &context.config.store.value else {
        return Err(Error::Usage {
            message: "`ggr bench store` needs a bucket".into(),
            hint: "name one with `--store s3://BUCKET/PREFIX`; the objects stay there, below `bench-…`"
                .into(),
        });
    };
    let address = format!("{address}/bench-{}", unique_name());
    let scratch = context.repository_or_new()?.tmp_dir().join(unique_name());
    let rows = measure(context, args, &address, &scratch);
    // What stays is swept with the next session.
    let _ = std::fs::remove_dir_all(&scratch);
    show(context, args, &rows?)?;
    Ok(ExitCode::SUCCESS)
}

/// A machine of its own: a store in this directory, and the bucket.
fn machine(context: &Context, address: &str, dir: &Path) -> Result<Arc<SharedStore>, Error> {
    let config = &context.config;
    let failed = |source| Error::SharedStore { address: address.to_owned(), source };
    SharedStore::open(SharedOptions {
        address: ggr_backends::store::shared::Address::parse(address)
            .expect("it was one, with a longer prefix"),
        endpoint: config.endpoint_url.value.clone(),
        access: Access::ReadWrite,
        rate: config.store_bandwidth.value.0,
        memo: dir.join("memo"),
        local: Arc::new(FsStore::new(dir)),
        notice: Box::new(|text| eprintln!("ggr: {text}")),
    })
    .map_err(failed)
}

fn measure(context: &Context, args: &Args, address: &str, scratch: &Path) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let source = FsStore::new(&scratch.join("source"));
    let ids: Vec<BlobId> =
        (0..args.blobs).map(|n| source.put_bytes(&blob(n, args.size))).collect::<Result<_, _>>()?;
    let files: Vec<_> = ids.iter().map(|id| (*id, source.path(*id))).collect();
    let writer = machine(context, address, &scratch.join("writer"))?;
    let mut timed = |step, store: &SharedStore, since: Instant| {
        rows.push(Row { step, took: since.elapsed(), counts: store.counts() });
    };
    let since = Instant::now();
    ObjectStore::put(&*writer, &files).into_iter().collect::<Result<Vec<()>, _>>()?;
    timed("upload", &writer, since);
    let again = machine(context, address, &scratch.join("writer"))?;
    let since = Instant::now();
    ObjectStore::put(&*again, &files).into_iter().collect::<Result<Vec<()>, _>>()?;
    timed("upload the same again", &again, since);
    let since = Instant::now();
    let reader = machine(context, address, &scratch.join("reader"))?;
    let missing = reader.missing(&ids)?.len();
    timed("presence, on a new machine", &reader, since);
    if missing > 0 {
        return Err(Error::Bug(format!("{missing} blobs that were uploaded are not there")));
    }
    let since = Instant::now();
    let known = machine(context, address, &scratch.join("reader"))?;
    known.missing(&ids)?;
    timed("presence, the next time", &known, since);
    let since = Instant::now();
    known.bring_all(&ids).into_iter().collect::<Result<Vec<()>, _>>()?;
    timed("fetch", &known, since);
    Ok(rows)
}

/// Text that compresses about as objects do.
fn blob(number: u32, size: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(2_654_435_761) | 1;
    let mut bytes = number.to_le_bytes().to_vec();
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b"\0\0\0\0.rela.text\0");
    }
    bytes.truncate(size.max(4));
    bytes
}

fn show(context: &Context, args: &Args, rows: &[Row]) -> Result<(), Error> {
    if context.json.is_some() {
        let row = |row: &Row| {
            json!({
                "step": row.step, "seconds": row.took.as_secs_f64(), "requests": row.counts.requests,
                "up": row.counts.up, "down": row.counts.down,
            })
        };
        return context.print_json(&Value::Array(rows.iter().map(row).collect()));
    }
    let mut text = format!("{} blobs of {}\n", args.blobs, ByteSize(args.size as u64));
    for Row { step, took, counts } in rows {
        let (up, down) = (ByteSize(counts.up).to_string(), ByteSize(counts.down).to_string());
        text.push_str(&format!(
            "{step:<28} {:>8}  {:>6} requests  {up:>10} up  {down:>10} down\n",
            seconds(*took),
            counts.requests
        ));
    }
    context.print(&text)
}
