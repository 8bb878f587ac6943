//! The places where a session's thunks run.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, Weak};

use ggr_backends::backend::Backend;
use ggr_backends::durations::Durations;
use ggr_backends::jobserver::Jobserver;
use ggr_backends::lambda::{LambdaBackend, LambdaOptions, Objects, Price, Remote, Spending, connect};
use ggr_backends::local::{LocalBackend, LocalOptions};
use ggr_backends::microvm::MicrovmBackend;
use ggr_backends::remote::{Peers, RemoteBackend};
use ggr_backends::standby::Standby;
use ggr_backends::store::FsStore;
use ggr_backends::twice::Twice;
use ggr_ir::ObjectStore;
use ggr_ir::protocol::lambda::StoreAddress;

use crate::commands::Context;
use crate::commands::worker::no_guests;
use crate::config::{ByteSize, Isolation, WorkerPlacement};
use crate::error::Error;
use crate::microvm;
use crate::report::{Event, Reporter};
use crate::service;

/// Lambda gives a function 1,000 environments each 10 seconds, so there is a function for each 1,000 thunks at once.
const ENVIRONMENTS: usize = 1000;

/// Objects are named by their hashes alone, so all toolchains share them.
const NAMESPACE: &str = "lambda";

/// How many functions so many thunks at once need.
pub(crate) fn functions(slots: usize) -> usize {
    slots.div_ceil(ENVIRONMENTS)
}

/// The places, opened.
pub(crate) struct Opened {
    /// In the order in which they are filled.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    /// The pool of this machine, if it is one of them.
    pub(crate) local: Weak<LocalBackend>,
    /// The pool of microVMs, if it is one of them.
    pub(crate) guests: Option<Arc<MicrovmBackend>>,
    /// Lambda, if it is one of them.
    pub(crate) functions: Option<Arc<LambdaBackend>>,
    /// How many thunks came to this machine because Lambda did not take them.
    pub(crate) standby: Option<Arc<AtomicUsize>>,
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
    durations: &Arc<Mutex<Durations>>,
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
    let mut functions = None;
    if places.lambda {
        functions = lambda_or_note(context, lambda(context, store, reporter, durations).await)?;
        backends.extend(functions.clone().map(|functions| functions as Arc<dyn Backend>));
    }
    let services = services(context, store).await?;
    let remote = functions.is_some() || !services.is_empty();
    backends.extend(services);
    let mut standby = None;
    if functions.is_some() && !places.local {
        // What Lambda cannot take, has given up, or is not to be paid for, is finished here.
        let local = local(context, store, jobserver.clone())?;
        pool = Arc::downgrade(&local);
        let local = Arc::new(Standby::new(local));
        standby = Some(local.taken());
        backends.push(local);
    }
    let rate = context.config.verify_rate.value;
    let backends = backends.into_iter().map(|backend| verified(backend, rate, reporter)).collect();
    let plain = context.config.isolation.value == Isolation::Plain;
    let plain = plain.then(|| "`--isolation plain`".to_owned());
    let asked = pool.clone();
    // The only place: if it runs nothing, there is nowhere to run.
    let alone = move || plain.clone().or_else(|| Weak::upgrade(&asked)?.runs_nothing());
    let nowhere: Box<dyn Fn() -> Option<String> + Send + Sync> =
        if remote { Box::new(|| None) } else { Box::new(alone) };
    Ok(Opened { backends, local: pool, guests, functions, standby, jobserver, nowhere })
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
    let peers = Arc::<Peers>::default();
    let pushes = context.config.worker_placement.value == WorkerPlacement::Push;
    for address in named.into_iter().flatten().chain(&places.at.0) {
        // Who is to be without pushing is without peers as well.
        let peers = if pushes { Arc::clone(&peers) } else { Arc::default() };
        let options = service::options(context, address)?;
        match RemoteBackend::connect_among(options, Arc::clone(store), peers).await {
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

/// Lambda if it can be used. Where there is another place, the build is made there, and the user is told why.
fn lambda_or_note(
    context: &Context,
    started: Result<Arc<LambdaBackend>, Error>,
) -> Result<Option<Arc<LambdaBackend>>, Error> {
    match started {
        Err(error) if context.config.backend.value.local => {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            context.note(&format!("nothing is sent to Lambda: {error}{hint}"));
            Ok(None)
        }
        started => started.map(Some),
    }
}

async fn lambda(
    context: &Context,
    store: &Arc<FsStore>,
    reporter: &Reporter,
    durations: &Arc<Mutex<Durations>>,
) -> Result<Arc<LambdaBackend>, Error> {
    let config = &context.config;
    let slots = config.lambda_slots.value.get();
    let functions = (0..functions(slots)).map(|n| format!("{}-{n}", config.lambda_function.value));
    let connection = connect(config.lambda_endpoint.value.as_deref()).await;
    connection.check().await?;
    let remote = match config.lambda_store.value.as_deref() {
        Some(place) => Some(tokio::task::block_in_place(|| remote(place))?),
        None => None,
    };
    let (reporter, durations) = (reporter.clone(), Arc::clone(durations));
    let backend = LambdaBackend::new(LambdaOptions {
        connection,
        functions: functions.collect(),
        slots,
        local: Arc::clone(store),
        remote,
        memory_mb: config.lambda_memory.value,
        function_limit: config.lambda_timeout.value,
        price: Price::default(),
        max_cost: config.max_cost.value,
        expected: Box::new(move |job| {
            durations.lock().expect("no holder panics").remembered(&job.label, job.kind)
        }),
        notice: Box::new(move |text| reporter.report(&Event::Note { text: text.to_owned() })),
    });
    backend.check().await?;
    Ok(Arc::new(backend))
}

/// A bucket, or a directory that functions mount.
fn remote(text: &str) -> Result<Remote, Error> {
    if !text.starts_with("s3://") {
        let address = StoreAddress::Directory(text.to_owned());
        let store = Arc::new(FsStore::new(Path::new(text)));
        return Ok(Remote { store, address, requests: Arc::default() });
    }
    let address =
        StoreAddress::S3 { place: text.to_owned(), namespace: NAMESPACE.to_owned(), endpoint: None };
    let objects = Objects::open(&address);
    let objects = objects.map_err(|source| Error::Host { doing: "start threads".into(), source })?;
    objects.check()?;
    Ok(Remote { requests: objects.requests(), store: Arc::new(objects), address })
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

/// What was spent on Lambda, in a line; nothing if nothing was sent.
pub(crate) fn spent(spending: Spending, here: usize) -> Option<String> {
    let Spending { invocations, in_vain, thunks, behind, store_requests, sent, received, dollars } = spending;
    (thunks + here as u64 > 0).then(|| {
        let here = if here > 0 { format!("; {here} thunks ran here in its stead") } else { String::new() };
        let vain = if in_vain > 0 { format!(" ({in_vain} in vain)") } else { String::new() };
        let behind = if behind > 0 { format!(", {behind} behind others") } else { String::new() };
        format!(
            "Lambda: about ${dollars:.4}: {thunks} thunks in {invocations} invocations{vain}{behind}, {store_requests} requests to the \
             bucket, {} sent, {} received{here}",
            ByteSize(sent),
            ByteSize(received)
        )
    })
}
