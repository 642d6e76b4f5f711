//! The functions of libc themselves, found behind this library, and what they take.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Bytes of a vectored call.
#[repr(C)]
pub struct Part {
    pub base: *const c_void,
    pub length: usize,
}

/// What `sendmsg` takes.
#[repr(C)]
pub struct Message {
    name: *const c_void,
    name_length: u32,
    pub parts: *const Part,
    pub count: usize,
}

#[repr(C)]
pub struct Time {
    pub seconds: i64,
    fraction: c_long,
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `RTLD_NEXT`
const NEXT: *mut c_void = -1_isize as *mut c_void;

fn find(name: &CStr, at: &AtomicPtr<c_void>) -> *mut c_void {
    let mut found = at.load(Ordering::Relaxed);
    if found.is_null() {
        found = unsafe { dlsym(NEXT, name.as_ptr()) };
        at.store(found, Ordering::Relaxed);
    }
    found
}

macro_rules! real {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        #[inline]
        pub unsafe fn $name($($argument: $type),*) -> $result {
            static AT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
            let found = find(name, &AT);
            let function: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(found) };
            unsafe { function($($argument),*) }
        }
    )*};
}

real! {
    fn open(path: *const c_char, flags: c_int, mode: u32) -> c_int;
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: u32) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn read(fd: c_int, to: *mut c_void, length: usize) -> isize;
    fn pread64(fd: c_int, to: *mut c_void, length: usize, at: i64) -> isize;
    fn write(fd: c_int, from: *const c_void, length: usize) -> isize;
    fn pwrite64(fd: c_int, from: *const c_void, length: usize, at: i64) -> isize;
    fn writev(fd: c_int, parts: *const Part, count: c_int) -> isize;
    fn fsync(fd: c_int) -> c_int;
    fn fdatasync(fd: c_int) -> c_int;
    fn ftruncate64(fd: c_int, length: i64) -> c_int;
    fn lseek64(fd: c_int, at: i64, from: c_int) -> i64;
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn rename(from: *const c_char, to: *const c_char) -> c_int;
    fn unlink(path: *const c_char) -> c_int;
    fn mkdir(path: *const c_char, mode: u32) -> c_int;
    fn rmdir(path: *const c_char) -> c_int;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(fd: c_int, address: *const c_void, length: u32) -> c_int;
    fn send(fd: c_int, from: *const c_void, length: usize, flags: c_int) -> isize;
    fn sendto(fd: c_int, from: *const c_void, length: usize, flags: c_int, address: *const c_void, size: u32) -> isize;
    fn sendmsg(fd: c_int, message: *const Message, flags: c_int) -> isize;
    fn recv(fd: c_int, to: *mut c_void, length: usize, flags: c_int) -> isize;
    fn recvfrom(fd: c_int, to: *mut c_void, length: usize, flags: c_int, address: *mut c_void, size: *mut u32) -> isize;
    fn clock_gettime(clock: c_int, time: *mut Time) -> c_int;
    fn time(out: *mut i64) -> i64;
    fn gettimeofday(time: *mut Time, zone: *mut c_void) -> c_int;
}
