//! The functions of libc that are taken over. Each asks [`around`] to number, fail, kill and note.

use std::ffi::{c_char, c_int, c_void};

use crate::control::{
    Kind, Short, Sync, clock_offset, done, errno, number, orders, pass_gate, set_errno, step, was_sent,
};
use crate::files::{What, closed, is, watched, what};
use crate::log::{CUT, Entry, FAILED, MADE, note};
use crate::real::{self, Message, Part, Time};

/// What is noted of a call besides its result.
struct About<'a> {
    kind: Kind,
    flags: u8,
    offset: i64,
    path: &'a [u8],
}

/// Numbers a call, makes it or fails it, and notes it; `data` gives what belongs to it by its result.
fn around<'d>(about: &About<'_>, call: impl FnOnce() -> i64, data: impl FnOnce(i64) -> &'d [u8]) -> i64 {
    let held = step();
    let (number, fail) = number(about.kind);
    let (result, error) = match fail {
        Some(errno) => (-1, errno),
        None => {
            let result = call();
            (result, errno())
        }
    };
    let flags = about.flags | if fail.is_some() { FAILED } else { 0 };
    let data = if result < 0 { &[] } else { data(result) };
    note(&Entry { kind: about.kind, flags, number, result, offset: about.offset, path: about.path, data });
    done(number);
    drop(held);
    set_errno(error);
    result
}

fn nothing(_: i64) -> &'static [u8] {
    &[]
}

#[expect(clippy::cast_possible_truncation, reason = "a result of libc, as it came")]
const fn int(result: i64) -> c_int {
    result as c_int
}

#[expect(clippy::cast_possible_truncation, reason = "a result of libc, as it came")]
const fn size(result: i64) -> isize {
    result as isize
}

unsafe fn bytes<'b>(from: *const c_void, length: usize) -> &'b [u8] {
    if from.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(from.cast(), length) } }
}

const CREATE: c_int = 0o100;
const TRUNCATE: c_int = 0o1000;
#[cfg(target_arch = "x86_64")]
const DIRECTORY: c_int = 0o200_000;
#[cfg(not(target_arch = "x86_64"))]
const DIRECTORY: c_int = 0o40_000;
const CURRENT_FOLDER: c_int = -100;
const BOOT: &[u8] = b"/proc/sys/kernel/random/boot_id";

unsafe fn opened(at: c_int, path: *const c_char, flags: c_int, mode: u32) -> c_int {
    if let Some(boot) = &orders().boot
        && !path.is_null()
        && unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes() == BOOT
    {
        return unsafe { real::openat(CURRENT_FOLDER, boot.as_ptr(), flags, mode) };
    }
    let below = if at == CURRENT_FOLDER && flags & DIRECTORY == 0 { watched(path) } else { None };
    let Some(below) = below else {
        let fd = unsafe { real::openat(at, path, flags, mode) };
        closed(fd);
        return fd;
    };
    let made = flags & CREATE != 0 && unsafe { real::access(path, 0) } != 0;
    let mut noted = 0;
    if made {
        noted |= MADE;
    }
    if flags & TRUNCATE != 0 {
        noted |= CUT;
    }
    let about = About { kind: Kind::Open, flags: noted, offset: 0, path: &below };
    let fd = int(around(&about, || i64::from(unsafe { real::openat(at, path, flags, mode) }), nothing));
    if fd >= 0 {
        is(fd, What::State(below));
    }
    fd
}

/// How much of a write is taken.
fn shortened(length: usize) -> usize {
    match orders().short {
        Short::No => length,
        Short::One => length.min(1),
        Short::Half => length.div_ceil(2),
        Short::ButOne => (length - usize::from(length > 1)).max(usize::from(length > 0)),
    }
}

unsafe fn written(fd: c_int, path: &[u8], from: *const c_void, length: usize, at: Option<i64>) -> isize {
    let length = shortened(length);
    // Nobody else moves the position: a file of the state has one writer.
    let offset = at.unwrap_or_else(|| unsafe { real::lseek64(fd, 0, 1) });
    let about = About { kind: Kind::Write, flags: 0, offset, path };
    let call = || match at {
        Some(at) => unsafe { real::pwrite64(fd, from, length, at) as i64 },
        None => unsafe { real::write(fd, from, length) as i64 },
    };
    size(around(&about, call, |taken| unsafe { bytes(from, usize::try_from(taken).unwrap_or(0)) }))
}

unsafe fn sent(call: impl FnOnce() -> isize, parts: &[Part]) -> isize {
    pass_gate();
    let mut data = Vec::new();
    for part in parts {
        data.extend_from_slice(unsafe { bytes(part.base, part.length) });
    }
    let about = About { kind: Kind::Send, flags: 0, offset: 0, path: &[] };
    size(around(
        &about,
        || call() as i64,
        |taken| &data[..usize::try_from(taken).unwrap_or(0).min(data.len())],
    ))
}

fn received(call: impl FnOnce() -> isize) -> isize {
    let about = About { kind: Kind::Receive, flags: 0, offset: 0, path: &[] };
    size(around(&about, || call() as i64, nothing))
}

/// What a slow disk takes for a sync: some commits.
const SLOW: std::time::Duration = std::time::Duration::from_millis(3);

unsafe fn synced(fd: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let What::State(path) = what(fd) else { return call() };
    let entry = |kind, flags, number, result| Entry {
        kind,
        flags,
        number,
        result,
        offset: 0,
        path: &path,
        data: &[],
    };
    let held = step();
    let (number, fail) = number(Kind::Sync);
    note(&entry(
        Kind::Sync,
        if fail.is_some() { FAILED } else { 0 },
        number,
        if fail.is_some() { -1 } else { 0 },
    ));
    drop(held);
    // Others go on meanwhile: what they write is not covered by this sync, and one may fail as late as it ends.
    if matches!(orders().sync, Sync::Slow) {
        std::thread::sleep(SLOW);
    }
    if let Some(errno) = fail {
        done(number);
        set_errno(errno);
        return -1;
    }
    let result = match &orders().sync {
        Sync::Make => call(),
        Sync::Skip | Sync::Slow => 0,
        Sync::Hold(fifo) => {
            if was_sent() {
                // Opened once somebody writes to it. What is read is of no interest.
                let fifo = unsafe { real::open(fifo.as_ptr(), 0, 0) };
                unsafe { real::close(fifo) };
            }
            0
        }
    };
    let error = errno();
    let held = step();
    if result == 0 {
        note(&entry(Kind::Synced, 0, number, 0));
    }
    done(number);
    drop(held);
    set_errno(error);
    result
}

unsafe fn named(
    kind: Kind,
    path: *const c_char,
    other: *const c_char,
    call: impl FnOnce() -> c_int,
) -> c_int {
    let Some(below) = watched(path) else { return call() };
    let to = watched(other);
    let to = to.as_deref().unwrap_or_default();
    let about = About { kind, flags: 0, offset: 0, path: &below };
    int(around(&about, || i64::from(call()), |_| to))
}

macro_rules! take_over {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result $body
    )*};
}

take_over! {
    fn open(path: *const c_char, flags: c_int, mode: u32) -> c_int {
        unsafe { opened(CURRENT_FOLDER, path, flags, mode) }
    }
    fn open64(path: *const c_char, flags: c_int, mode: u32) -> c_int {
        unsafe { opened(CURRENT_FOLDER, path, flags, mode) }
    }
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: u32) -> c_int {
        unsafe { opened(at, path, flags, mode) }
    }
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: u32) -> c_int {
        unsafe { opened(at, path, flags, mode) }
    }
    fn close(fd: c_int) -> c_int {
        closed(fd);
        unsafe { real::close(fd) }
    }
    fn read(fd: c_int, to: *mut c_void, length: usize) -> isize {
        let call = || unsafe { real::read(fd, to, length) };
        match what(fd) {
            What::Other => call(),
            What::Socket => received(call),
            What::State(path) => {
                let about = About { kind: Kind::Read, flags: 0, offset: -1, path: &path };
                size(around(&about, || call() as i64, nothing))
            }
        }
    }
    fn pread(fd: c_int, to: *mut c_void, length: usize, at: i64) -> isize {
        unsafe { pread64(fd, to, length, at) }
    }
    fn pread64(fd: c_int, to: *mut c_void, length: usize, at: i64) -> isize {
        let call = || unsafe { real::pread64(fd, to, length, at) };
        let What::State(path) = what(fd) else { return call() };
        let about = About { kind: Kind::Read, flags: 0, offset: at, path: &path };
        size(around(&about, || call() as i64, nothing))
    }
    fn write(fd: c_int, from: *const c_void, length: usize) -> isize {
        match what(fd) {
            What::Other => unsafe { real::write(fd, from, length) },
            What::Socket => {
                let parts = [Part { base: from, length }];
                unsafe { sent(|| real::write(fd, from, length), &parts) }
            }
            What::State(path) => unsafe { written(fd, &path, from, length, None) },
        }
    }
    fn pwrite(fd: c_int, from: *const c_void, length: usize, at: i64) -> isize {
        unsafe { pwrite64(fd, from, length, at) }
    }
    fn pwrite64(fd: c_int, from: *const c_void, length: usize, at: i64) -> isize {
        let What::State(path) = what(fd) else { return unsafe { real::pwrite64(fd, from, length, at) } };
        unsafe { written(fd, &path, from, length, Some(at)) }
    }
    fn writev(fd: c_int, parts: *const Part, count: c_int) -> isize {
        let all = unsafe { std::slice::from_raw_parts(parts, usize::try_from(count).unwrap_or(0)) };
        match what(fd) {
            What::Other => unsafe { real::writev(fd, parts, count) },
            What::Socket => unsafe { sent(|| real::writev(fd, parts, count), all) },
            // A short write of the first part is a right answer to a vectored one.
            What::State(path) => match all.iter().find(|part| part.length > 0) {
                Some(first) => unsafe { written(fd, &path, first.base, first.length, None) },
                None => 0,
            },
        }
    }
    fn fsync(fd: c_int) -> c_int {
        unsafe { synced(fd, || real::fsync(fd)) }
    }
    fn fdatasync(fd: c_int) -> c_int {
        unsafe { synced(fd, || real::fdatasync(fd)) }
    }
    fn ftruncate(fd: c_int, length: i64) -> c_int {
        unsafe { ftruncate64(fd, length) }
    }
    fn ftruncate64(fd: c_int, length: i64) -> c_int {
        let call = || unsafe { real::ftruncate64(fd, length) };
        let What::State(path) = what(fd) else { return call() };
        let about = About { kind: Kind::Truncate, flags: 0, offset: length, path: &path };
        int(around(&about, || i64::from(call()), nothing))
    }
    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        unsafe { named(Kind::Rename, from, to, || real::rename(from, to)) }
    }
    fn unlink(path: *const c_char) -> c_int {
        unsafe { named(Kind::Unlink, path, std::ptr::null(), || real::unlink(path)) }
    }
    fn mkdir(path: *const c_char, mode: u32) -> c_int {
        unsafe { named(Kind::Mkdir, path, std::ptr::null(), || real::mkdir(path, mode)) }
    }
    fn rmdir(path: *const c_char) -> c_int {
        unsafe { named(Kind::Rmdir, path, std::ptr::null(), || real::rmdir(path)) }
    }
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        let fd = unsafe { real::socket(domain, kind, protocol) };
        // AF_INET and AF_INET6; a pair for signals is of no interest.
        if fd >= 0 && (domain == 2 || domain == 10) {
            is(fd, What::Socket);
        }
        fd
    }
    fn connect(fd: c_int, address: *const c_void, length: u32) -> c_int {
        let call = || unsafe { real::connect(fd, address, length) };
        let What::Socket = what(fd) else { return call() };
        let about = About { kind: Kind::Connect, flags: 0, offset: 0, path: &[] };
        int(around(&about, || i64::from(call()), nothing))
    }
    fn send(fd: c_int, from: *const c_void, length: usize, flags: c_int) -> isize {
        let What::Socket = what(fd) else { return unsafe { real::send(fd, from, length, flags) } };
        unsafe { sent(|| real::send(fd, from, length, flags), &[Part { base: from, length }]) }
    }
    fn sendto(fd: c_int, from: *const c_void, length: usize, flags: c_int, address: *const c_void, address_size: u32) -> isize {
        let call = || unsafe { real::sendto(fd, from, length, flags, address, address_size) };
        let What::Socket = what(fd) else { return call() };
        unsafe { sent(call, &[Part { base: from, length }]) }
    }
    fn sendmsg(fd: c_int, message: *const Message, flags: c_int) -> isize {
        let call = || unsafe { real::sendmsg(fd, message, flags) };
        let What::Socket = what(fd) else { return call() };
        let parts = unsafe { std::slice::from_raw_parts((*message).parts, (*message).count) };
        unsafe { sent(call, parts) }
    }
    fn recv(fd: c_int, to: *mut c_void, length: usize, flags: c_int) -> isize {
        let call = || unsafe { real::recv(fd, to, length, flags) };
        if let What::Socket = what(fd) { received(call) } else { call() }
    }
    fn recvfrom(fd: c_int, to: *mut c_void, length: usize, flags: c_int, address: *mut c_void, address_size: *mut u32) -> isize {
        let call = || unsafe { real::recvfrom(fd, to, length, flags, address, address_size) };
        if let What::Socket = what(fd) { received(call) } else { call() }
    }
    fn clock_gettime(clock: c_int, out: *mut Time) -> c_int {
        let result = unsafe { real::clock_gettime(clock, out) };
        // CLOCK_REALTIME and CLOCK_REALTIME_COARSE
        if result == 0 && (clock == 0 || clock == 5) {
            unsafe { (*out).seconds += clock_offset() };
        }
        result
    }
    fn gettimeofday(out: *mut Time, zone: *mut c_void) -> c_int {
        let result = unsafe { real::gettimeofday(out, zone) };
        if result == 0 && !out.is_null() {
            unsafe { (*out).seconds += clock_offset() };
        }
        result
    }
    fn time(out: *mut i64) -> i64 {
        let now = unsafe { real::time(std::ptr::null_mut()) } + clock_offset();
        if !out.is_null() {
            unsafe { *out = now };
        }
        now
    }
}
