//! Finds where a JSON value ends without reading it: brackets, strings and escapes only.
//!
//! Splits a document of any length into elements, which `json` then reads strictly. Invariant:
//! what is between two elements is exactly what the grammar allows there; memory is bounded by the
//! record limit, at any nesting.

use super::window::{Oversize, Window};
use crate::model::Failure;

/// A value that was found; it starts where the window starts.
pub(super) enum Skimmed {
    /// It is in the window as a whole, this many bytes long.
    Whole(usize),
    /// It is over the limit, and was dropped while it was scanned.
    Oversize(Oversize),
    /// There is no value: something else stands in its place.
    NoValue,
    /// The file ends in it or before it.
    Ends,
    /// A bracket closes that another kind opened, this many bytes behind the start of the window.
    Mismatch(u64),
}

/// What to do with the bytes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Keep it in the window up to this many bytes.
    UpTo(usize),
    /// Leave it behind.
    Nothing,
}

/// Bytes outside strings that matter.
const MARKS: [bool; 256] = marks(b"\"[]{}");
/// Bytes that end a number, a word or what is neither.
const ENDS: [bool; 256] = marks(b",[]{}:\" \t\r\n");

const fn marks(of: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < of.len() {
        table[of[at] as usize] = true;
        at += 1;
    }
    table
}

fn find(table: &[bool; 256], bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| table.get(usize::from(*byte)) == Some(&true))
}

/// Which kinds of bracket are open. Beyond the levels it remembers only their number counts: such
/// a value is over every limit of depth, and only its end is looked for.
#[derive(Default)]
struct Open {
    depth: usize,
    lists: [u64; 16],
}

impl Open {
    fn slot(&mut self) -> Option<(&mut u64, u64)> {
        let bit = 1 << (self.depth % 64);
        self.lists.get_mut(self.depth / 64).map(|word| (word, bit))
    }

    fn open(&mut self, bracket: u8) {
        if let Some((word, bit)) = self.slot() {
            if bracket == b'[' { *word |= bit } else { *word &= !bit }
        }
        self.depth += 1;
    }

    /// False when the bracket does not fit the one that is open.
    fn close(&mut self, bracket: u8) -> bool {
        let Some(depth) = self.depth.checked_sub(1) else { return false };
        self.depth = depth;
        self.slot().is_none_or(|(word, bit)| (*word & bit != 0) == (bracket == b']'))
    }
}

/// Scans the value at the start of the window.
pub(super) fn skim(window: &mut Window, keep: Keep) -> Result<Skimmed, Failure> {
    let limit = match keep {
        Keep::UpTo(limit) => limit,
        Keep::Nothing => 0,
    };
    let mut open = Open::default();
    let mut oversize: Option<Oversize> = None;
    let mut at = 0;
    let mut inside = Inside::Nothing;
    loop {
        let bytes = window.bytes();
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(next) = rest.first().copied() else {
            if keep == Keep::Nothing || oversize.is_some() || at > limit {
                let n = at.min(bytes.len());
                if keep != Keep::Nothing {
                    oversize.get_or_insert_with(Oversize::new).take(bytes.get(..n).unwrap_or_default());
                }
                window.advance(n);
                // Behind an escape one byte is skipped that may not have been read yet.
                at -= n;
            }
            if window.fill()? {
                continue;
            }
            if inside == Inside::Word && open.depth == 0 {
                break;
            }
            return Ok(Skimmed::Ends);
        };
        match inside {
            Inside::String => match memchr::memchr2(b'"', b'\\', rest) {
                None => at += rest.len(),
                Some(found) if rest.get(found) == Some(&b'\\') => at += found + 2,
                Some(found) => {
                    at += found + 1;
                    inside = Inside::Value;
                    if open.depth == 0 {
                        break;
                    }
                }
            },
            Inside::Word => match find(&ENDS, rest) {
                None => at += rest.len(),
                Some(found) => {
                    at += found;
                    break;
                }
            },
            Inside::Nothing if !matches!(next, b'"' | b'[' | b'{') => {
                if find(&ENDS, &[next]).is_some() {
                    return Ok(Skimmed::NoValue);
                }
                inside = Inside::Word;
            }
            Inside::Nothing | Inside::Value => {
                inside = Inside::Value;
                let Some(found) = find(&MARKS, rest) else {
                    at += rest.len();
                    continue;
                };
                at += found + 1;
                match rest.get(found).copied() {
                    Some(b'"') => inside = Inside::String,
                    Some(bracket @ (b'[' | b'{')) => open.open(bracket),
                    Some(bracket) => {
                        if !open.close(bracket) {
                            return Ok(Skimmed::Mismatch(at as u64 - 1));
                        }
                        if open.depth == 0 {
                            break;
                        }
                    }
                    None => {}
                }
            }
        }
    }
    if keep == Keep::Nothing {
        window.advance(at);
        return Ok(Skimmed::Whole(0));
    }
    if oversize.is_none() && at <= limit {
        return Ok(Skimmed::Whole(at));
    }
    let mut oversize = oversize.unwrap_or_else(Oversize::new);
    oversize.take(window.bytes().get(..at).unwrap_or_default());
    window.advance(at);
    Ok(Skimmed::Oversize(oversize))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Before the value.
    Nothing,
    /// Between the brackets of a list or object.
    Value,
    String,
    /// In a number, a word, or what is neither.
    Word,
}
