//! The places where a session's thunks run.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ggr_backends::backend::Backend;
use ggr_backends::jobserver::Jobserver;
use ggr_backends::lambda::{LambdaBackend, LambdaOptions, Objects, Price, Remote, connect};
use ggr_backends::local::{LocalBackend, LocalOptions};
use ggr_backends::microvm::MicrovmBackend;
use ggr_backends::remote::RemoteBackend;
use ggr_backends::store::FsStore;
use ggr_backends::twice::Twice;
use ggr_ir::ObjectStore;
use ggr_ir::protocol::lambda::StoreAddress;

use crate::commands::Context;
use crate::commands::worker::no_guests;
use crate::config::Isolation;
use crate::error::Error;
use crate::microvm;
use crate::report::{Event, Reporter};
use crate::service;

/// Lambda gives a function 1,000 environments each 10 seconds, so there is a function for each 1,000 thunks at once.
const ENVIRONMENTS: usize = 1000;

/// What a function is taken to have (README.md): one whole processor. Attempts are priced by it.
const MEMORY_MB: u32 = 1769;

/// Objects are named by their hashes alone, so all toolchains share them.
const NAMESPACE: &str = "lambda";

/// Lambda's longest.
const FUNCTION_LIMIT: Duration = Duration::from_secs(900);

/// The places, opened.
pub(crate) struct Opened {
    /// In the order in which they are filled.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    /// The pool of this machine, if it is one of them.
    pub(crate) local: Weak<LocalBackend>,
    /// The pool of microVMs, if it is one of them.
    pub(crate) guests: Option<Arc<MicrovmBackend>>,
    /// The pool of the make whose recipe we are.
    pub(crate) jobserver: Option<Jobserver>,
    /// Why no place runs anything, if that is so.
    pub(crate) nowhere: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// Opens each place that the configuration names.
pub(crate) async fn open(
    context: &Context,
    store: &Arc<FsStore>,
    reporter: &Reporter,
) -> Result<Opened, Error> {
    let places = &context.config.backend.value;
    let jobserver = jobserver(context);
    let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
    let (mut pool, mut guests) = (Weak::new(), None);
    if places.local {
        let local = local(context, store, jobserver.clone())?;
        pool = Arc::downgrade(&local);
        backends.push(local);
    }
    if places.microvm {
        let started = microvm::start(context, context.config.slots.value.get(), Arc::clone(store)).await;
        let started = Arc::new(started.map_err(|why| no_guests(&why))?);
        guests = Some(Arc::clone(&started));
        backends.push(started);
    }
    if places.lambda {
        backends.push(lambda(context, store).await?);
    }
    let services = services(context, store).await?;
    let remote = places.lambda || !services.is_empty();
    backends.extend(services);
    let rate = context.config.verify_rate.value;
    let backends = backends.into_iter().map(|backend| verified(backend, rate, reporter)).collect();
    let plain = context.config.isolation.value == Isolation::Plain;
    let plain = plain.then(|| "`--isolation plain`".to_owned());
    let asked = pool.clone();
    // The only place: if it runs nothing, there is nowhere to run.
    let alone = move || plain.clone().or_else(|| Weak::upgrade(&asked)?.runs_nothing());
    let nowhere: Box<dyn Fn() -> Option<String> + Send + Sync> =
        if remote { Box::new(|| None) } else { Box::new(alone) };
    Ok(Opened { backends, local: pool, guests, jobserver, nowhere })
}

/// Services, each a place of its own. One that cannot be reached is an error if there is no other place.
async fn services(context: &Context, store: &Arc<FsStore>) -> Result<Vec<Arc<dyn Backend>>, Error> {
    let places = &context.config.backend.value;
    let named = places.worker.then_some(&context.config.worker.value.0);
    if named.is_some_and(Vec::is_empty) {
        return Err(Error::Usage {
            message: "`--backend worker` names no service".into(),
            hint: "`--backend worker=ADDRESS`, the setting `worker` or GGR_WORKER says which".into(),
        });
    }
    let mut opened: Vec<Arc<dyn Backend>> = Vec::new();
    let mut failed = None;
    for address in named.into_iter().flatten().chain(&places.at.0) {
        match RemoteBackend::connect(service::options(context, address)?, Arc::clone(store)).await {
            Ok(backend) => opened.push(Arc::new(backend)),
            Err(why) => {
                context.note(&format!("a service is left out: {why}"));
                failed = Some(why);
            }
        }
    }
    match failed {
        Some(why) if opened.is_empty() && !(places.local || places.lambda) => {
            Err(Error::Host { doing: "reach a service".into(), source: std::io::Error::other(why) })
        }
        _ => Ok(opened),
    }
}

fn local(
    context: &Context,
    store: &FsStore,
    jobserver: Option<Jobserver>,
) -> Result<Arc<LocalBackend>, Error> {
    let isolation = match context.config.isolation.value {
        Isolation::Microvm => {
            return Err(Error::Usage {
                message: "`--isolation microvm` is for `ggr worker serve`".into(),
                hint: "a build's own guests are had with `--backend microvm`".into(),
            });
        }
        other => other.word(),
    };
    let local = LocalBackend::start(LocalOptions {
        command: ["/proc/self/exe", "worker", "--isolation", isolation].map(Into::into).to_vec(),
        slots: context.config.slots.value.get(),
        store: store.local_root().expect("this store is on this machine").to_owned(),
        jobserver,
        user: None,
        bounds: None,
    });
    let local = local.map_err(|source| Error::Host { doing: "start the local pool".into(), source })?;
    Ok(Arc::new(local))
}

async fn lambda(context: &Context, store: &Arc<FsStore>) -> Result<Arc<dyn Backend>, Error> {
    let config = &context.config;
    let slots = config.lambda_slots.value.get();
    let functions =
        (0..slots.div_ceil(ENVIRONMENTS)).map(|n| format!("{}-{n}", config.lambda_function.value));
    let remote = config.lambda_store.value.as_deref().map(remote).transpose()?;
    let connection = connect(config.lambda_endpoint.value.as_deref()).await;
    Ok(Arc::new(LambdaBackend::new(LambdaOptions {
        connection,
        functions: functions.collect(),
        slots,
        local: Arc::clone(store),
        remote,
        memory_mb: MEMORY_MB,
        function_limit: FUNCTION_LIMIT,
        price: Price::default(),
    })))
}

/// A bucket, or a directory that functions mount.
fn remote(text: &str) -> Result<Remote, Error> {
    if !text.starts_with("s3://") {
        let address = StoreAddress::Directory(text.to_owned());
        return Ok(Remote { store: Arc::new(FsStore::new(Path::new(text))), address });
    }
    let address =
        StoreAddress::S3 { place: text.to_owned(), namespace: NAMESPACE.to_owned(), endpoint: None };
    let objects = Objects::open(&address);
    let objects = objects.map_err(|source| Error::Host { doing: "start threads".into(), source })?;
    Ok(Remote { store: Arc::new(objects), address })
}

/// The pool of the make whose recipe we are.
fn jobserver(context: &Context) -> Option<Jobserver> {
    let makeflags = context.env.value("MAKEFLAGS")?.to_str()?;
    Jobserver::from_makeflags(makeflags).unwrap_or_else(|e| {
        context.note(&e.to_string());
        None
    })
}

/// One thunk in `rate` is run twice; none if it is 0.
fn verified(backend: Arc<dyn Backend>, rate: u32, reporter: &Reporter) -> Arc<dyn Backend> {
    let Some(rate) = NonZeroU32::new(rate) else { return backend };
    let reporter = reporter.clone();
    Arc::new(Twice::new(backend, rate, move |job, names| {
        let text = format!("`{}` is not deterministic: two runs differ in {}", job.label, names.join(", "));
        reporter.report(&Event::Note { text });
    }))
}
