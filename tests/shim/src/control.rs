//! What the environment orders, and the counters that the orders speak of.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// Kinds of calls, as they stand in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Open = 1,
    Read = 2,
    Write = 3,
    Sync = 4,
    Truncate = 5,
    Rename = 6,
    Unlink = 7,
    Mkdir = 8,
    Rmdir = 9,
    Connect = 10,
    Send = 11,
    Receive = 12,
    /// A sync that was noted before is done.
    Synced = 13,
}

const KINDS: [(&str, Kind); 8] = [
    ("open", Kind::Open),
    ("read", Kind::Read),
    ("write", Kind::Write),
    ("sync", Kind::Sync),
    ("truncate", Kind::Truncate),
    ("rename", Kind::Rename),
    ("unlink", Kind::Unlink),
    ("mkdir", Kind::Mkdir),
];

impl Kind {
    fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    const fn is_of_files(self) -> bool {
        !matches!(self, Self::Connect | Self::Send | Self::Receive)
    }

    const fn is_of_writers(self) -> bool {
        matches!(self, Self::Write | Self::Sync | Self::Truncate | Self::Rename)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Short {
    No,
    One,
    Half,
    ButOne,
}

/// What becomes of a sync.
pub enum Sync {
    Make,
    Skip,
    Slow,
    Hold(CString),
}

struct Fail {
    kind: Option<Kind>,
    at: u64,
    lasting: bool,
    errno: i32,
}

/// All orders.
pub struct Orders {
    pub state: Option<Vec<u8>>,
    pub cwd: Vec<u8>,
    pub log: Option<CString>,
    pub boot: Option<CString>,
    pub short: Short,
    pub sync: Sync,
    kill_before: u64,
    kill_after: u64,
    fail: Option<Fail>,
    clock: Vec<(u64, i64)>,
}

static ORDERS: OnceLock<Orders> = OnceLock::new();
static STEP: Mutex<()> = Mutex::new(());
static CALLS: AtomicU64 = AtomicU64::new(0);
static OF_KIND: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
static OF_FILES: AtomicU64 = AtomicU64::new(0);
static OFFSET: AtomicI64 = AtomicI64::new(0);

/// Held while a call and its line in the log are one step.
pub fn step() -> MutexGuard<'static, ()> {
    STEP.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn orders() -> &'static Orders {
    ORDERS.get_or_init(read)
}

fn read() -> Orders {
    let text = |name: &str| std::env::var(name).ok();
    let path = |name: &str| {
        let value = std::env::var_os(name)?;
        CString::new(value.into_vec()).ok()
    };
    let (mut kill_before, mut kill_after) = (0, 0);
    if let Some(order) = text("SHIM_KILL") {
        let (when, at) = order.split_once(':').unwrap_or(("", ""));
        let at = at.parse().unwrap_or(0);
        match when {
            "before" => kill_before = at,
            "after" => kill_after = at,
            _ => {}
        }
    }
    let fail = text("SHIM_FAIL").and_then(|order| {
        let mut words = order.split(':');
        let (kind, at) = (words.next()?, words.next()?.parse().ok()?);
        let (how, errno) = (words.next()?, words.next()?.parse().ok()?);
        Some(Fail { kind: Kind::named(kind), at, lasting: how == "lasting", errno })
    });
    let clock = text("SHIM_CLOCK").unwrap_or_default();
    let clock = clock.split(',').filter_map(|one| {
        let (at, by) = one.split_once(':')?;
        Some((at.parse().ok()?, by.parse().ok()?))
    });
    Orders {
        state: std::env::var_os("SHIM_STATE").map(OsStringExt::into_vec),
        cwd: std::env::var_os("SHIM_CWD").map(OsStringExt::into_vec).unwrap_or_default(),
        log: path("SHIM_LOG"),
        boot: path("SHIM_BOOT"),
        short: match text("SHIM_SHORT").as_deref() {
            Some("one") => Short::One,
            Some("half") => Short::Half,
            Some("but-one") => Short::ButOne,
            _ => Short::No,
        },
        sync: match text("SHIM_SYNC").as_deref() {
            Some("skip") => Sync::Skip,
            Some("slow") => Sync::Slow,
            Some(order) => order
                .strip_prefix("hold:")
                .and_then(|fifo| CString::new(fifo).ok())
                .map_or(Sync::Make, Sync::Hold),
            None => Sync::Make,
        },
        kill_before,
        kill_after,
        fail,
        clock: clock.collect(),
    }
}

/// Numbers a call, and kills the process where that is ordered. Gives the number, and an error
/// that the call has to fail with.
pub fn number(kind: Kind) -> (u64, Option<i32>) {
    let orders = orders();
    let number = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    let of_kind = OF_KIND[kind as usize].fetch_add(1, Ordering::SeqCst) + 1;
    if number == orders.kill_before {
        die();
    }
    for (at, by) in &orders.clock {
        if number == *at {
            OFFSET.store(*by, Ordering::SeqCst);
        }
    }
    let fail = orders.fail.as_ref().and_then(|fail| {
        let count = match fail.kind {
            Some(wanted) => (wanted == kind).then_some(of_kind)?,
            None => kind.is_of_files().then(|| OF_FILES.fetch_add(1, Ordering::SeqCst) + 1)?,
        };
        (count == fail.at || fail.lasting && count > fail.at).then_some(fail.errno)
    });
    if fail.is_some_and(|errno| errno != INTERRUPTED) && kind.is_of_writers() {
        close_gate();
    }
    (number, fail)
}

/// `EINTR`: not a failure, the call is made again.
const INTERRUPTED: i32 = 4;
/// Longer than any thread needs to come to its end, if it ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread in which a write failed, until it ends. What others send meanwhile waits: they cannot
/// know yet, and how soon that thread gets a processor must not decide a test.
static GATE: Mutex<Option<ThreadId>> = Mutex::new(None);
static OPENED: Condvar = Condvar::new();

struct OpensGate;

impl Drop for OpensGate {
    fn drop(&mut self) {
        *gate() = None;
        OPENED.notify_all();
    }
}

thread_local! {
    static ENDS: OpensGate = const { OpensGate };
}

fn gate() -> MutexGuard<'static, Option<ThreadId>> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn close_gate() {
    // The first thread lives until the end, and is the one that sends.
    let is_first = unsafe { gettid() == getpid() };
    if !is_first && ENDS.try_with(|_| ()).is_ok() {
        *gate() = Some(std::thread::current().id());
    }
}

/// Waits before something is sent until a thread whose write failed has ended; not for long, as one
/// that goes on has to be found out.
pub fn pass_gate() {
    let held = gate();
    if held.is_some_and(|thread| thread != std::thread::current().id()) {
        let waited = OPENED.wait_timeout_while(held, PATIENCE, |held| held.is_some());
        *waited.unwrap_or_else(PoisonError::into_inner).0 = None;
    }
}

/// Whether anything was sent yet.
pub fn was_sent() -> bool {
    OF_KIND[Kind::Send as usize].load(Ordering::SeqCst) > 0
}

/// Says that a call is done; kills the process where that is ordered.
pub fn done(number: u64) {
    if number == orders().kill_after {
        die();
    }
}

/// Seconds to add to the wall clock.
pub fn clock_offset() -> i64 {
    OFFSET.load(Ordering::Relaxed)
}

unsafe extern "C" {
    fn kill(pid: i32, signal: i32) -> i32;
    fn getpid() -> i32;
    fn gettid() -> i32;
    fn __errno_location() -> *mut i32;
}

fn die() -> ! {
    loop {
        // The signal is taken before the call returns.
        unsafe { kill(getpid(), 9) };
    }
}

pub fn set_errno(errno: i32) {
    unsafe { *__errno_location() = errno };
}

pub fn errno() -> i32 {
    unsafe { *__errno_location() }
}
