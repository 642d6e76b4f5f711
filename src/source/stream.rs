//! The bytes of one file as they are meant: counted, decompressed, decoded to UTF-8.
//!
//! Apart from `window`, which knows positions and not how bytes come about.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::locate::{InputFile, cannot_open};
use crate::config::Encoding;
use crate::model::Failure;

/// How a file is compressed, told by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// Columns beyond this are not told.
pub(super) const FARTHEST: u64 = 4096;

/// A file from its start.
pub(super) fn from_start(
    file: &InputFile,
    encoding: Option<Encoding>,
    counter: Arc<AtomicU64>,
) -> Result<Box<dyn Read + Send>, Failure> {
    counter.store(0, Ordering::Relaxed);
    let disk = Counted { inner: open_file(file)?, counter };
    let unpacked: Box<dyn Read + Send> = match file.packing {
        Packing::Plain => Box::new(disk),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(disk))),
        Packing::Zstd => Box::new(
            zstd::stream::read::Decoder::new(disk)
                .map_err(|cause| Failure::io("read", &file.path, &cause))?,
        ),
    };
    Ok(match decoder(encoding) {
        Some(decoder) => decode(unpacked, decoder),
        None => unpacked,
    })
}

/// A plain UTF-8 file from a byte on, and where the line of that byte starts, when that is near.
pub(super) fn from_byte(
    file: &InputFile,
    byte: u64,
    counter: Arc<AtomicU64>,
) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let mut disk = open_file(file)?;
    let line_start = line_start_before(&mut disk, byte)
        .and_then(|found| disk.seek(SeekFrom::Start(byte)).map(|_| found))
        .map_err(|cause| Failure::io("read", &file.path, &cause))?;
    counter.store(byte, Ordering::Relaxed);
    Ok((Box::new(Counted { inner: disk, counter }), line_start))
}

/// Whether a file is read as it is, without a decoder.
pub(super) const fn is_utf8(encoding: Option<Encoding>) -> bool {
    matches!(encoding, None | Some(Encoding::Utf8))
}

fn decoder(encoding: Option<Encoding>) -> Option<&'static encoding_rs::Encoding> {
    match encoding {
        None | Some(Encoding::Utf8) => None,
        Some(Encoding::Utf16 | Encoding::Utf16Le) => Some(encoding_rs::UTF_16LE),
        Some(Encoding::Utf16Be) => Some(encoding_rs::UTF_16BE),
        Some(Encoding::Latin1) => Some(encoding_rs::WINDOWS_1252),
    }
}

/// Decodes to UTF-8. A byte order mark is proof and wins over what was declared.
fn decode(from: Box<dyn Read + Send>, encoding: &'static encoding_rs::Encoding) -> Box<dyn Read + Send> {
    Box::new(
        encoding_rs_io::DecodeReaderBytesBuilder::new()
            .encoding(Some(encoding))
            .bom_override(true)
            .strip_bom(true)
            .build(from),
    )
}

fn open_file(file: &InputFile) -> Result<File, Failure> {
    File::open(&file.path).map_err(|cause| cannot_open(&file.name, &cause))
}

/// Where the line of a byte starts, when that is near.
fn line_start_before(disk: &mut File, byte: u64) -> std::io::Result<Option<u64>> {
    let from = byte.saturating_sub(FARTHEST);
    disk.seek(SeekFrom::Start(from))?;
    let mut before = Vec::new();
    disk.by_ref().take(byte - from).read_to_end(&mut before)?;
    Ok(match memchr::memrchr(b'\n', &before) {
        Some(at) => Some(from + at as u64 + 1),
        None if from > 0 => None,
        None if before.starts_with(&[0xEF, 0xBB, 0xBF]) => Some(3),
        None => Some(0),
    })
}

/// Counts what is read from the disk, for progress.
struct Counted<R> {
    inner: R,
    counter: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(room)?;
        self.counter.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
