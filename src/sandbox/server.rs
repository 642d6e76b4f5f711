//! Starts and stops the stand-in: a thread with a runtime of its own, so that it answers while
//! its caller is busy or not asynchronous at all.
//!
//! Invariant: it listens on a loopback address or not at all.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::model::{Class, Diagnostic, Failure};

use super::api::{Api, Prepared, is_token_call};
use super::journal::{Journal, Seen, Tally};
use super::proto::{Ends, Reader, Request, Unread};
use super::rules::{Rules, ScriptedReply};
use super::script::{Action, Effect, Running, Script};
use super::store::Store;
use super::wire::{self, Then};
use super::world::Plan;

/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 4096;

/// How the stand-in is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens: a loopback address, port 0 for any free one.
    pub listen: SocketAddr,
    /// The file that keeps its objects; without one they end with it.
    pub store: Option<PathBuf>,
    /// What it answers instead of the usual.
    pub script: Script,
    /// The file that its journal is appended to.
    pub journal: Option<PathBuf>,
    /// How many entries of the journal are kept in memory: the newest.
    pub remember: usize,
    /// A wait before every answer, after the effect.
    pub latency: Option<Duration>,
    /// Whether bodies are kept.
    pub bodies: Bodies,
    /// What an update of an object that is not there does.
    pub unknown: Unknown,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            store: None,
            script: Script::default(),
            journal: None,
            remember: 100_000,
            latency: None,
            bodies: Bodies::Keep,
            unknown: Unknown::ByRoutes,
        }
    }
}

/// Whether bodies are kept, in objects and in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bodies {
    /// They are.
    #[default]
    Keep,
    /// Objects are ids alone: for measuring.
    Drop,
}

/// What PUT and PATCH of an object that is not there do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// 404 where a route makes such objects by POST; where none does, the object is made.
    #[default]
    ByRoutes,
    /// The object is made.
    Create,
}

/// The embedded stand-in of an API.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox;

/// A running stand-in; it stops when this is dropped.
pub struct Handle {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    api: Api,
    started: Instant,
    latency: Option<Duration>,
    bodies: Bodies,
    world: Mutex<World>,
    requests: watch::Sender<u64>,
}

struct World {
    store: Store,
    journal: Journal,
    script: Running,
    /// The first local fault: from then on nothing is answered.
    broken: Option<String>,
}

impl Sandbox {
    /// Starts the stand-in. It answers as soon as this returns.
    pub fn start(rules: Rules, options: Options) -> Result<Handle, Failure> {
        let Options { listen, store, script, journal, remember, latency, bodies, unknown } = options;
        if !listen.ip().is_loopback() {
            let message = format!("the sandbox listens on loopback addresses only, not on {}", listen.ip());
            let help = format!("use 127.0.0.1:{}", listen.port());
            return Err(Failure::new(Class::Usage, Diagnostic::error("sandbox-listen", message).help(help)));
        }
        let secrets = rules.secrets.clone();
        let api = Api::new(rules, unknown);
        let store = Store::open(api.tables(), bodies, store.as_deref())?;
        let journal_path = journal.clone().unwrap_or_default();
        let journal = Journal::open(remember, journal.as_deref(), secrets)
            .map_err(|cause| Failure::io("keep the sandbox's journal in", &journal_path, &cause))?;
        let world = World { store, journal, script: Running::new(script), broken: None };
        let cannot = |cause: std::io::Error| {
            let message = format!("the sandbox cannot listen on {listen}: {}", cause.kind());
            let help = "name another port, or port 0 for any free one";
            Failure::new(Class::Io, Diagnostic::error("sandbox-listen", message).help(help))
        };
        let listener = TcpListener::bind(listen).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let addr = listener.local_addr().map_err(cannot)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let shared = Arc::new(Shared {
            api,
            started: Instant::now(),
            latency,
            bodies,
            world: Mutex::new(world),
            requests: watch::Sender::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("sandbox".to_owned()).spawn(serve).map_err(cannot)?;
        Ok(Handle { addr, shared, stop: Some(stop), thread: Some(thread) })
    }
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The newest entries of the journal, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Seen> {
        self.shared.world().journal.seen()
    }

    /// How many requests came in this start, and how many had an effect.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.world().journal.tally()
    }

    /// The number of requests noted so far, to wait on.
    #[must_use]
    pub fn requests(&self) -> watch::Receiver<u64> {
        self.shared.requests.subscribe()
    }

    /// Answers by another script from now on; its counts begin anew.
    pub fn set_script(&self, script: Script) {
        self.shared.world().script = Running::new(script);
    }

    /// The objects of the collection at a path such as `/v2/users`, in the order in which they
    /// came.
    #[must_use]
    pub fn objects(&self, collection: &str) -> Vec<Value> {
        let Some((table, parents)) = self.shared.api.collection(collection) else { return Vec::new() };
        let world = self.shared.world();
        world.store.list(table, &parents).filter_map(|object| serde_json::from_slice(&object).ok()).collect()
    }

    /// How many objects there are in all collections.
    #[must_use]
    pub fn object_count(&self) -> usize {
        self.shared.world().store.len()
    }

    /// The local fault, such as a full disk, because of which it does not answer any more.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.shared.world().broken.clone()
    }

    /// Waits until it ends by itself, which it never does: for a process that serves and nothing
    /// else, and is ended by a signal.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The world, also after a closure of the rules panicked: nothing is half changed then.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut number = 0;
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                number += 1;
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    serve(stream, number, &shared).await;
                    drop(permit);
                });
            }
            // Out of descriptors, or a client that left before it was met: others go on.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn serve(mut stream: TcpStream, connection: u64, shared: &Shared) {
    // Best effort: without it answers are only slower.
    let _ = stream.set_nodelay(true);
    let mut reader = Reader::default();
    loop {
        let request = match reader.next(&mut stream).await {
            Ok(request) => request,
            Err(Unread::Ended) => return,
            Err(Unread::Bad(status, message)) => {
                let reply = shared.api.refuse(status, "BAD_REQUEST", message);
                let _ = wire::send(&mut stream, &Method::GET, &reply, Ends::Close).await;
                return;
            }
        };
        match answer(&mut stream, &mut reader, request, connection, shared).await {
            Ok(Then::Next) => {}
            Ok(Then::Close) | Err(_) => return,
        }
    }
}

async fn answer(
    stream: &mut TcpStream,
    reader: &mut Reader,
    mut request: Request,
    connection: u64,
    shared: &Shared,
) -> std::io::Result<Then> {
    let reads_body = shared.world().script.reads_bodies();
    let prepared = shared.api.prepare(&request, reads_body);
    let decided = shared
        .world()
        .script
        .decide(&request.method, request.path(), Instant::now(), || prepared.json.as_ref());
    if let Some((Action::Late(wait), _)) = &decided {
        tokio::time::sleep(*wait).await;
    }
    let is_token_call = is_token_call(&request.target);
    let Some(reply) = settle(&mut request, &prepared, decided.as_ref(), connection, shared) else {
        return Ok(Then::Close);
    };
    if !is_token_call {
        shared.requests.send_modify(|count| *count += 1);
    }
    let pause = match &decided {
        Some((Action::Delay(wait), _)) => Some(*wait + shared.latency.unwrap_or_default()),
        _ => shared.latency,
    };
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
    let ends = if request.keep { Ends::KeepAlive } else { Ends::Close };
    match (&decided, reply) {
        (Some((action, _)), reply) => {
            wire::perform(stream, reader, &request.method, action, reply.as_ref(), ends).await
        }
        (None, Some(reply)) => wire::send(stream, &request.method, &reply, ends).await,
        (None, None) => Ok(Then::Close),
    }
}

/// Notes the request and gives it its effect, both under one lock. The outer `None` means that
/// neither could be written: no answer then. The inner one that no reply headers leave.
#[expect(clippy::option_option, reason = "no answer at all is not the same as one without a reply")]
fn settle(
    request: &mut Request,
    prepared: &Prepared,
    decided: Option<&(Action, Effect)>,
    connection: u64,
    shared: &Shared,
) -> Option<Option<ScriptedReply>> {
    let mut world = shared.world();
    if world.broken.is_some() {
        return None;
    }
    let plan = match decided {
        Some((_, Effect::Nothing)) => {
            Plan { reply: ScriptedReply::empty(200), changes: Vec::new(), object: None }
        }
        _ => shared.api.plan(request, prepared, &world.store),
    };
    let reply = match decided {
        Some((action, _)) => wire::shape(action, plan.reply, &shared.api),
        None => Some(plan.reply),
    };
    let seen = Seen {
        seq: 0,
        at_ms: u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        connection,
        method: request.method.clone(),
        path: std::mem::take(&mut request.target),
        route: shared.api.route_name(prepared),
        headers: std::mem::replace(&mut request.headers, HeaderMap::new()),
        body: match shared.bodies {
            Bodies::Keep => std::mem::take(&mut request.body),
            Bodies::Drop => Bytes::new(),
        },
        status: reply.as_ref().map(|reply| reply.status),
        action: decided.map(|(action, _)| action.name().to_owned()),
        accepted: !plan.changes.is_empty(),
        object: plan.object,
    };
    let written = world.journal.note(seen);
    let stored =
        written.and_then(|()| plan.changes.into_iter().try_for_each(|change| world.store.apply(change)));
    if let Err(cause) = stored {
        world.broken = Some(cause.to_string());
        return None;
    }
    Some(reply)
}
