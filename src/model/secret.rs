//! A value that must not be seen, and the mask that hides it wherever it turns up.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

/// A secret setting. Prints as `***`, is wiped from memory when dropped, cannot be serialized.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes over a secret.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(SecretString::from(value))
    }

    /// The value itself; only `deliver::auth` and [`Mask`] ask for it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}
impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A secret of fewer bytes would mask half of every text and hides nothing.
const SHORTEST: usize = 4;
/// So many characters of a secret at the end of a text are taken for one that was cut off there.
const CUT: usize = 8;

/// Replaces every secret in text, in whatever form a far side or a layer of ours may write it:
/// plain, in other case, percent-encoded, with the escapes of JSON or HTML, in hexadecimal, and in
/// base64, also as a part of something longer. A text that ends within a secret hides that part.
#[derive(Clone, Default)]
pub struct Mask {
    needles: Vec<SecretString>,
    /// What a form can begin with: everything else is passed over.
    begins: Arc<Begins>,
    /// What became known after the mask was made.
    learned: Vec<Learned>,
}

/// Secrets that become known while requests are sent, such as a token that was fetched: whoever has a
/// mask with it hides them from then on. Clones share what one of them learns.
#[derive(Clone, Default)]
pub struct Learned(Arc<RwLock<VecDeque<Arc<Mask>>>>);

/// Keeps a learned secret hidden for as long as something may repeat it.
#[derive(Clone)]
pub struct Hidden(#[expect(dead_code, reason = "held, so that it is not forgotten")] Arc<Mask>);

/// So many learned secrets are remembered, the newest, and older ones while they are held.
const MOST_LEARNED: usize = 64;

impl Learned {
    /// What this process has learned: a reply of one connection may repeat the token of another.
    #[must_use]
    pub fn of_process() -> Self {
        static ALL: OnceLock<Learned> = OnceLock::new();
        ALL.get_or_init(Self::default).clone()
    }

    /// Hides this one too, from now on.
    pub fn learn(&self, secret: &Secret) -> Hidden {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // A token server may give the same token again and again.
        let same = known.iter().position(|mask| mask.is_of(secret));
        let mask = same.and_then(|at| known.remove(at)).unwrap_or_else(|| Arc::new(Mask::new([secret])));
        known.push_back(Arc::clone(&mask));
        if known.len() > MOST_LEARNED {
            let oldest = known.iter().position(|mask| Arc::strong_count(mask) == 1);
            oldest.and_then(|at| known.remove(at));
        }
        Hidden(mask)
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl std::fmt::Debug for Learned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Learned")
    }
}

impl Mask {
    /// A mask for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut mask = Self::default();
        for secret in secrets {
            let value = secret.expose();
            if value.len() < SHORTEST {
                continue;
            }
            let whole = [value.to_owned(), STANDARD.encode(value), URL_SAFE_NO_PAD.encode(value), hex(value)];
            let parts = (0..3).flat_map(|shift| within_base64(value, shift));
            for form in whole.into_iter().chain(parts) {
                if !mask.needles.iter().any(|needle| needle.expose_secret() == form) {
                    mask.needles.push(SecretString::from(form));
                }
            }
        }
        mask.begins = Arc::new(Begins::of(mask.needles.iter().map(ExposeSecret::expose_secret)));
        mask
    }

    /// The same mask, which hides what is learned later too.
    #[must_use]
    pub fn and_learned(mut self, learned: &Learned) -> Self {
        if !self.learned.iter().any(|known| Arc::ptr_eq(&known.0, &learned.0)) {
            self.learned.push(learned.clone());
        }
        self
    }

    /// Whether it was made for this secret.
    fn is_of(&self, secret: &Secret) -> bool {
        self.needles.first().is_some_and(|needle| needle.expose_secret() == secret.expose())
    }

    /// The text with every secret replaced by `***`.
    #[must_use]
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found = self.found(text);
        for learned in &self.learned {
            let learned = learned.0.read().unwrap_or_else(PoisonError::into_inner);
            found.extend(learned.iter().flat_map(|mask| mask.found(text)));
        }
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        // One secret may hold another, or begin like it: no tail of either is left standing.
        found.sort_unstable_by_key(|range| range.start);
        let mut out = String::new();
        let mut done = 0;
        for range in found {
            if range.start > done || done == 0 {
                out.push_str(text.get(done..range.start).unwrap_or_default());
                out.push_str("***");
            }
            done = done.max(range.end);
        }
        out.push_str(text.get(done..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// Where secrets stand, in order and apart from each other.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if self.needles.is_empty() {
            return found;
        }
        for (at, pair) in text.as_bytes().windows(2).enumerate() {
            let &[first, second] = pair else { continue };
            if !self.begins.with(first, second) {
                continue;
            }
            let Some(rest) = text.get(at..) else { continue };
            let length = self.needles.iter().filter_map(|needle| matched(needle.expose_secret(), rest)).max();
            let Some(end) = length.map(|length| at + length) else { continue };
            match found.last_mut() {
                // Forms overlap; no tail of one is left standing.
                Some(last) if at <= last.end => last.end = last.end.max(end),
                _ => found.push(at..end),
            }
        }
        found
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} forms)", self.needles.len())
    }
}

/// The first two bytes of every spelling of some needles. Replies are looked through for each record, and
/// nearly nothing in them begins like a secret.
#[derive(Clone)]
struct Begins {
    first: [bool; 256],
    /// A bit for each pair.
    pairs: [u64; 1024],
}

impl Default for Begins {
    fn default() -> Self {
        Self { first: [false; 256], pairs: [0; 1024] }
    }
}

impl Begins {
    /// The escapes that any byte may be written with.
    const ESCAPES: [u8; 3] = [b'%', b'\\', b'&'];

    fn of<'n>(needles: impl Iterator<Item = &'n str>) -> Self {
        let mut begins = Self::default();
        for needle in needles {
            // A needle has at least as many bytes as the shortest secret.
            let &[first, second, ..] = needle.as_bytes() else { continue };
            for first in spellings(first) {
                spellings(second).for_each(|second| begins.add(first, second));
            }
            for escape in Self::ESCAPES {
                (0..=u8::MAX).for_each(|any| begins.add(escape, any));
            }
        }
        begins
    }

    fn place(first: u8, second: u8) -> (usize, u64) {
        let pair = usize::from(first) << 8 | usize::from(second);
        (pair / 64, 1 << (pair % 64))
    }

    fn add(&mut self, first: u8, second: u8) {
        let (word, bit) = Self::place(first, second);
        if let Some(word) = self.pairs.get_mut(word) {
            *word |= bit;
        }
        if let Some(begins) = self.first.get_mut(usize::from(first)) {
            *begins = true;
        }
    }

    fn with(&self, first: u8, second: u8) -> bool {
        if !self.first.get(usize::from(first)).is_some_and(|begins| *begins) {
            return false;
        }
        let (word, bit) = Self::place(first, second);
        self.pairs.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// What may stand for a byte of a needle: itself in either case, `+` for a blank, or an escape.
fn spellings(byte: u8) -> impl Iterator<Item = u8> {
    let blank = (byte == b' ').then_some(b'+');
    let itself = [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
    itself.into_iter().chain(blank).chain(Begins::ESCAPES)
}

/// What of a secret's base64 is the same whatever stands around it, when so many bytes of a group
/// of three come before it. Too short a part would be found in what is no secret.
fn within_base64(value: &str, shift: usize) -> Vec<String> {
    let bytes: Vec<u8> = std::iter::repeat_n(0, shift).chain(value.bytes()).collect();
    let (from, to) = ((shift * 8).div_ceil(6), bytes.len() * 8 / 6);
    let forms = [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)];
    let parts = forms.iter().filter_map(|form| form.get(from..to)).filter(|part| part.len() >= CUT);
    parts.map(str::to_owned).collect()
}

fn hex(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len() * 2), |mut hex, byte| {
        // Writing into memory does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// How much of the text is the needle in some spelling.
fn matched(needle: &str, text: &str) -> Option<usize> {
    if text.starts_with(needle) {
        return Some(needle.len());
    }
    let mut rest = text;
    let mut before = '\0';
    for (count, wanted) in needle.chars().enumerate() {
        // Any number of backslashes is one, however often they were escaped.
        if wanted == '\\' && before == '\\' {
            continue;
        }
        before = wanted;
        match spelled(wanted, rest) {
            Some(length) => rest = rest.get(length..)?,
            // It was cut here, or in the middle of an escape.
            None if count >= CUT
                && (rest.is_empty() || rest.len() < 6 && rest.starts_with(['%', '\\', '&'])) =>
            {
                return Some(text.len());
            }
            None => return None,
        }
    }
    Some(text.len() - rest.len())
}

/// The length of one character at the start of a text, as itself or encoded.
fn spelled(wanted: char, text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    let encoded = match first {
        '%' => percent(wanted, text),
        '\\' => escaped(wanted, text),
        '&' => entity(wanted, text),
        _ => None,
    };
    let same = first.eq_ignore_ascii_case(&wanted) || (wanted == ' ' && first == '+');
    encoded.or_else(|| same.then(|| first.len_utf8()))
}

/// `%2F`, also when the `%` was encoded once more.
fn percent(wanted: char, text: &str) -> Option<usize> {
    let mut buffer = [0; 4];
    let mut at = 0;
    for byte in wanted.encode_utf8(&mut buffer).bytes() {
        let rest = text.get(at..)?.strip_prefix('%')?;
        let twice = if rest.starts_with("25") && !(byte == b'%' && at == 0) { 2 } else { 0 };
        let digits = rest.get(twice..twice + 2)?;
        if !u8::from_str_radix(digits, 16).ok()?.eq_ignore_ascii_case(&byte) {
            return None;
        }
        at += 3 + twice;
    }
    Some(at)
}

/// `\"`, `\/`, `\u0022`, `\x22`, behind as many backslashes as layers of escapes wrote.
fn escaped(wanted: char, text: &str) -> Option<usize> {
    let behind = text.trim_start_matches('\\');
    let slashes = text.len() - behind.len();
    if wanted == '\\' {
        return Some(slashes);
    }
    let code = |mark: char, digits: usize| {
        let number = behind.strip_prefix(mark)?.get(..digits)?;
        let found = char::from_u32(u32::from_str_radix(number, 16).ok()?)?;
        found.eq_ignore_ascii_case(&wanted).then_some(slashes + 1 + digits)
    };
    let itself = || behind.starts_with(wanted).then(|| slashes + wanted.len_utf8());
    code('u', 4).or_else(|| code('x', 2)).or_else(itself)
}

/// `&quot;`, `&#34;`, `&#x22;`.
fn entity(wanted: char, text: &str) -> Option<usize> {
    let (name, _) = text.get(1..)?.split_once(';').filter(|(name, _)| name.len() <= 7)?;
    let found = match name {
        "quot" => '"',
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    found.eq_ignore_ascii_case(&wanted).then_some(name.len() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "to\"ken+1/x\\y z&é";

    fn masked(text: &str) -> String {
        Mask::new([&Secret::new(TOKEN.into())]).apply(text).into_owned()
    }

    #[test]
    fn every_form_of_a_secret_is_masked() {
        // S23
        let json = serde_json::to_string(TOKEN).unwrap();
        let percent =
            percent_encoding::utf8_percent_encode(TOKEN, percent_encoding::NON_ALPHANUMERIC).to_string();
        for form in [
            TOKEN.to_owned(),
            TOKEN.to_uppercase().replace('É', "é"),
            format!("{json:?}"),
            json.replace('/', "\\/").replace("\\\"", "\\u0022").replace('é', "\\u00E9"),
            percent.clone(),
            percent.to_lowercase(),
            percent.replace("%20", "+").replace('%', "%25"),
            TOKEN.replace('&', "&amp;").replace('"', "&#34;").replace('é', "&#xe9;"),
            STANDARD.encode(TOKEN),
            URL_SAFE_NO_PAD.encode(TOKEN),
            STANDARD.encode(TOKEN).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"),
            hex(TOKEN),
            hex(TOKEN).to_uppercase(),
        ] {
            let inner = form.trim_matches(['"', '\\']);
            assert_eq!(masked(&format!("a {inner} b")), "a *** b", "{form}");
            assert_eq!(masked(inner), "***", "{form}");
        }
        assert_eq!(format!("{:?}", Secret::new(TOKEN.into())), "***");
    }

    #[test]
    fn a_part_of_longer_base64_is_masked_at_every_alignment() {
        // S23
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "!", "!!", "!!!"] {
                let whole = STANDARD.encode(format!("{before}{TOKEN}{after}"));
                let shown = masked(&format!("<{whole}>"));
                let left = shown.replace("***", "");
                // What is left tells of the neighbours and of at most the bits that share a letter.
                assert!(shown.contains("***"), "{before} {after}: {shown}");
                assert!(left.len() <= 2 + before.len() * 8 / 6 + 1 + after.len() * 8 / 6 + 4, "{shown}");
            }
        }
    }

    #[test]
    fn a_secret_that_is_cut_at_the_end_of_a_text_is_masked() {
        // S23
        assert_eq!(masked("said to\"ken+1/"), "said ***");
        assert_eq!(masked("said to%22ken%2B1%2"), "said ***");
        assert_eq!(masked("said to\"ken"), "said to\"ken");
        assert_eq!(masked("to\"ken+1 and more"), "to\"ken+1 and more");
    }

    #[test]
    fn a_secret_that_is_learned_later_is_masked_from_then_on() {
        // S23
        let learned = Learned::default();
        let mask = Mask::new([&Secret::new("client-secret".into())]).and_learned(&learned);
        let copy = mask.clone();
        assert_eq!(copy.apply("a token-1-client-secret"), "a token-1-***");
        learned.clone().learn(&Secret::new("token-1-client-secret".into()));
        assert_eq!(copy.apply("a token-1-client-secret, client-secret"), "a ***, ***");
        for number in 0..MOST_LEARNED {
            learned.learn(&Secret::new(format!("newer-token-{number}")));
        }
        assert_eq!(mask.apply("newer-token-0 newer-token-63"), "*** ***");
    }

    #[test]
    fn a_learned_secret_is_hidden_while_something_may_repeat_it() {
        // S23
        let learned = Learned::default();
        let mask = Mask::default().and_learned(&learned);
        let hidden = learned.learn(&Secret::new("old-token".into()));
        learned.learn(&Secret::new("left-token".into()));
        for number in 0..2 * MOST_LEARNED {
            learned.learn(&Secret::new(format!("newer-token-{number}")));
        }
        assert_eq!(mask.apply("old-token left-token"), "*** left-token");
        for _ in 0..2 * MOST_LEARNED {
            learned.learn(&Secret::new("the-same-token".into()));
        }
        assert_eq!(mask.apply("newer-token-127"), "***", "the same again takes no room");
        drop(hidden);
        for number in 0..2 * MOST_LEARNED {
            learned.learn(&Secret::new(format!("newest-token-{number}")));
        }
        assert_eq!(mask.apply("old-token"), "old-token");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in ["", "a token", "100 % of \\ and & are \u{1f600}", "%", "\\", "&;", "to%22ke", "\\u00"] {
            assert_eq!(masked(text), text);
        }
        let short = Mask::new([&Secret::new("abc".into())]);
        assert_eq!(short.apply("abc"), "abc");
        let percent = Mask::new([&Secret::new("100%25a\\\\b".into())]);
        assert_eq!(percent.apply("100%25a\\\\b 100%2525a\\\\\\\\b"), "*** ***");
    }
}
