//! The log: one record for each call, appended with a single write.
//!
//! Little-endian: length of the rest (u32), kind (u8), flags (u8; 1 made a new file, 2 cut it to
//! nothing, 4 failed by order), process (u32), number (u64), result (i64), offset (i64), length
//! of the path (u32), path, data.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::control::{Kind, orders};
use crate::real;

pub const MADE: u8 = 1;
pub const CUT: u8 = 2;
pub const FAILED: u8 = 4;

pub struct Entry<'a> {
    pub kind: Kind,
    pub flags: u8,
    pub number: u64,
    pub result: i64,
    pub offset: i64,
    pub path: &'a [u8],
    pub data: &'a [u8],
}

static FD: AtomicI32 = AtomicI32::new(-1);

unsafe extern "C" {
    fn getpid() -> i32;
}

pub fn note(entry: &Entry<'_>) {
    let Some(path) = &orders().log else { return };
    let mut fd = FD.load(Ordering::SeqCst);
    if fd < 0 {
        // O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC
        fd = unsafe { real::open(path.as_ptr(), 0o1 | 0o100 | 0o2000 | 0o2_000_000, 0o600) };
        FD.store(fd, Ordering::SeqCst);
    }
    let rest = 1 + 1 + 4 + 8 + 8 + 8 + 4 + entry.path.len() + entry.data.len();
    let mut line = Vec::with_capacity(4 + rest);
    line.extend_from_slice(&u32::try_from(rest).unwrap_or(0).to_le_bytes());
    line.push(entry.kind as u8);
    line.push(entry.flags);
    line.extend_from_slice(&unsafe { getpid() }.to_le_bytes());
    line.extend_from_slice(&entry.number.to_le_bytes());
    line.extend_from_slice(&entry.result.to_le_bytes());
    line.extend_from_slice(&entry.offset.to_le_bytes());
    line.extend_from_slice(&u32::try_from(entry.path.len()).unwrap_or(0).to_le_bytes());
    line.extend_from_slice(entry.path);
    line.extend_from_slice(entry.data);
    unsafe { real::write(fd, line.as_ptr().cast(), line.len()) };
}
