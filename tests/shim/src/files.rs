//! Which descriptor is what: a file of the watched folder, a socket, or nothing of interest.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::orders;

#[derive(Clone)]
pub enum What {
    /// A file of the watched folder, by its path.
    State(Arc<[u8]>),
    Socket,
    Other,
}

static KNOWN: Mutex<Option<HashMap<c_int, What>>> = Mutex::new(None);

fn known() -> MutexGuard<'static, Option<HashMap<c_int, What>>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a descriptor is; one that was never opened here is of no interest.
pub fn what(fd: c_int) -> What {
    known().as_ref().and_then(|known| known.get(&fd).cloned()).unwrap_or(What::Other)
}

pub fn is(fd: c_int, what: What) {
    known().get_or_insert_default().insert(fd, what);
}

pub fn closed(fd: c_int) {
    if let Some(known) = known().as_mut() {
        known.remove(&fd);
    }
}

/// The path below the watched folder, if it is there (the folder itself included).
pub fn watched(path: *const c_char) -> Option<Arc<[u8]>> {
    let state = orders().state.as_ref()?;
    if path.is_null() {
        return None;
    }
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let whole = if path.is_absolute() {
        path.to_owned()
    } else {
        Path::new(std::ffi::OsStr::from_bytes(&orders().cwd)).join(path)
    };
    // `.` is dropped; the program under test uses no `..` in its state.
    let whole: PathBuf = whole.components().filter(|part| *part != Component::CurDir).collect();
    let below = whole.strip_prefix(Path::new(std::ffi::OsStr::from_bytes(state))).ok()?;
    Some(below.as_os_str().as_bytes().into())
}
