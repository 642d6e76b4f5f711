//! AWS Signature Version 4, by hand: the documented four steps over HMAC-SHA-256.
//!
//! The rules are those of "Create a signed AWS API request" in AWS's IAM user guide. Pure: the time is
//! the caller's. What is signed: `host`, `content-type`, every `x-amz-*` header, the path, the query and
//! the body's hash. Other headers are left out, so that what a proxy adds or changes breaks nothing.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::hmac::hex;
use super::{required, secret_value, sensitive};
use crate::config::{Connection, SigV4};
use crate::model::{Failure, Lost, Secret};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// All but the unreserved characters of RFC 3986.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same within a path.
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// Signs requests with one access key.
pub(super) struct Signer {
    access_key: Secret,
    secret_key: Secret,
    session_token: Option<HeaderValue>,
    region: String,
    service: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sigv4 Signer({}/{})", self.region, self.service)
    }
}

impl Signer {
    pub(super) fn new(auth: &SigV4, connection: &Connection) -> Result<Self, Failure> {
        if let Some(failure) = connection.unset_failure() {
            return Err(failure);
        }
        let get = |secret: &Option<Secret>| required(secret.as_ref(), connection).cloned();
        let (access_key, secret_key) = (get(&auth.access_key)?, get(&auth.secret_key)?);
        let (region, service) = (get(&auth.region)?, get(&auth.service)?);
        // An empty one would be signed and refused.
        let session_token = match auth.session_token.as_ref().filter(|token| !token.expose().is_empty()) {
            Some(token) => Some(secret_value(token.expose(), connection)?),
            None => None,
        };
        for text in [&access_key, &region, &service] {
            secret_value(text.expose(), connection)?;
        }
        let (region, service) = (region.expose().to_owned(), service.expose().to_owned());
        Ok(Self { access_key, secret_key, session_token, region, service })
    }

    pub(super) fn sign(
        &self,
        method: &Method,
        url: &url::Url,
        body: &[u8],
        now: Timestamp,
        headers: &mut HeaderMap,
    ) -> Result<(), Lost> {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let hash = hex(&Sha256::digest(body));
        headers.insert(DATE, sensitive(&time)?);
        if let Some(token) = &self.session_token {
            headers.insert(TOKEN, token.clone());
        }
        if self.service == "s3" {
            // The only service that asks for it (and takes it unsigned elsewhere).
            headers.insert(CONTENT_HASH, sensitive(&hash)?);
        }
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let signed = headers.iter().filter(|(name, _)| is_signed(name));
        let mut signed: Vec<(String, String)> = signed.map(pair).collect();
        signed.push(("host".into(), host));
        let canonical = Canonical {
            method: method.as_str(),
            path: url.path(),
            query: url.query().unwrap_or_default(),
            headers: signed,
            body_hash: &hash,
            is_s3: self.service == "s3",
        };
        let scope =
            format!("{}/{}/{}/aws4_request", time.get(..8).unwrap_or_default(), self.region, self.service);
        let (names, signature) = canonical.signature(self.secret_key.expose(), &time, &scope);
        let key = self.access_key.expose();
        let value =
            format!("{ALGORITHM} Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}");
        headers.insert(header::AUTHORIZATION, sensitive(&value)?);
        Ok(())
    }
}

fn is_signed(name: &HeaderName) -> bool {
    name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz-")
}

fn pair((name, value): (&HeaderName, &HeaderValue)) -> (String, String) {
    (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// A request in the parts that are signed.
#[derive(Debug)]
pub struct Canonical<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it is sent.
    pub path: &'a str,
    /// The query as it is sent, without `?`.
    pub query: &'a str,
    /// The headers that are signed, names in lower case.
    pub headers: Vec<(String, String)>,
    /// SHA-256 of the body, in lower hex.
    pub body_hash: &'a str,
    /// S3 alone takes the path as it is: encoded once, and with its dots and double slashes.
    pub is_s3: bool,
}

impl Canonical<'_> {
    /// The names of the signed headers, and the signature.
    #[must_use]
    pub fn signature(&self, secret: &str, time: &str, scope: &str) -> (String, String) {
        let (request, names) = self.text();
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
        let key = scope
            .split('/')
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part.as_bytes()));
        (names, hex(&mac(&key, to_sign.as_bytes())))
    }

    /// The canonical request, and the names of its headers.
    fn text(&self) -> (String, String) {
        let mut headers: Vec<(&str, String)> = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            match headers.iter_mut().find(|(known, _)| known == name) {
                Some((_, all)) => *all = format!("{all},{value}"),
                None => headers.push((name, value)),
            }
        }
        headers.sort();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().flat_map(|(name, value)| [name, ":", value, "\n"]).collect();
        let (path, query) = (self.canonical_path(), canonical_query(self.query));
        let text = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{}", self.method, self.body_hash);
        (text, names)
    }

    /// The path, encoded once more: what is sent as `%20` is signed as `%2520`. Not so for S3.
    fn canonical_path(&self) -> String {
        if self.is_s3 {
            let decoded = percent_decode_str(self.path).decode_utf8_lossy();
            return utf8_percent_encode(&decoded, PATH).to_string();
        }
        let mut segments: Vec<&str> = Vec::new();
        for segment in self.path.split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                other => segments.push(other),
            }
        }
        let ends_open = self.path.ends_with(['/', '.']) && !segments.is_empty();
        let slash = if ends_open && !segments.last().is_some_and(|last| self.path.ends_with(last)) {
            "/"
        } else {
            ""
        };
        utf8_percent_encode(&format!("/{}{slash}", segments.join("/")), PATH).to_string()
    }
}

/// Parameters in the order of their names, then values, each encoded strictly.
fn canonical_query(query: &str) -> String {
    let strict = |text: &str| {
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&decoded, STRICT).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (strict(&plus(name)), strict(&plus(value))))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// A `+` in a query that was encoded as a form is a blank.
fn plus(text: &str) -> String {
    text.replace('+', "%20")
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length; were it not so, an empty key would make a signature that is refused.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        },
    )
}

/// Whether a request was signed by this secret: for the sandbox. Region and service are taken as the
/// request names them.
#[must_use]
pub fn accepts(
    headers: &HeaderMap,
    (method, path, query): (&str, &str, &str),
    body: &[u8],
    fits: (&dyn Fn(&str) -> bool, &str),
) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let parts = || {
        let fields = text(&header::AUTHORIZATION)?.strip_prefix(ALGORITHM)?;
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let (key, scope) = field("Credential")?.split_once('/')?;
        Some((key, scope, field("SignedHeaders")?, field("Signature")?))
    };
    let (Some((key, scope, names, signature)), Some(time)) = (parts(), text(&DATE)) else { return false };
    let is_named = |name: &&HeaderName| names.split(';').any(|named| named == name.as_str());
    let covers = |name: &str| names.split(';').any(|named| named == name);
    // The API would refuse these unsigned.
    let all_covered =
        covers("host") && headers.keys().filter(|name| is_signed(name)).all(|name| covers(name.as_str()));
    let canonical = Canonical {
        method,
        path,
        query,
        headers: headers.iter().filter(|(name, _)| is_named(name)).map(pair).collect(),
        body_hash: &hex(&Sha256::digest(body)),
        is_s3: scope.split('/').nth(2) == Some("s3"),
    };
    let dated = scope.split('/').next() == time.get(..8);
    fits.0(key)
        && dated
        && all_covered
        && canonical.signature(fits.1, time, scope) == (names.to_owned(), signature.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn signed(
        method: &str,
        path: &str,
        query: &str,
        further: &[(&str, &str)],
        body: &[u8],
    ) -> (String, String) {
        let fixed = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        let headers = fixed.iter().chain(further).map(|(name, value)| ((*name).into(), (*value).into()));
        let body_hash = &hex(&Sha256::digest(body));
        let canonical =
            Canonical { method, path, query, headers: headers.collect(), body_hash, is_s3: false };
        canonical.signature(SECRET, "20150830T123600Z", "20150830/us-east-1/service/aws4_request")
    }

    /// Names, requests and signatures of AWS's published Signature Version 4 test suite.
    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let path = format!("/{unreserved}");
        let query = format!("{unreserved}={unreserved}");
        for (name, path, query, want) in [
            ("get-vanilla", "/", "", VANILLA),
            ("get-relative", "/example/..", "", VANILLA),
            ("get-relative-relative", "/example1/example2/../..", "", VANILLA),
            ("get-slash", "//", "", VANILLA),
            ("get-slash-dot-slash", "/./", "", VANILLA),
            (
                "get-slashes",
                "//example//",
                "",
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            ),
            (
                "get-slash-pointless-dot",
                "/./example",
                "",
                "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
            ),
            ("get-utf8", "/ሴ", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
            (
                "get-space",
                "/example space/",
                "",
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            ),
            ("get-unreserved", &path, "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
            (
                "get-vanilla-empty-query-key",
                "/",
                "Param1=value1",
                "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            ),
            (
                "get-vanilla-query-order-key-case",
                "/",
                "Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-vanilla-query-unreserved",
                "/",
                &query,
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "get-vanilla-utf8-query",
                "/",
                "ሴ=bar",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
        ] {
            let (names, signature) = signed("GET", path, query, &[], b"");
            assert_eq!((names.as_str(), signature.as_str()), ("host;x-amz-date", want), "{name}");
        }
        assert_eq!(
            signed("POST", "/", "", &[], b"").1,
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            "post-vanilla"
        );
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(
            signed("POST", "/", "", &form, b"Param1=value1"),
            (
                "content-type;host;x-amz-date".into(),
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a".into()
            ),
            "post-x-www-form-urlencoded"
        );
        let twice = ["value2", "value2", "value1"].map(|value| ("my-header1", value));
        assert_eq!(
            signed("GET", "/", "", &twice, b"").1,
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            "get-header-key-duplicate"
        );
        let trimmed = [("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
        assert_eq!(
            signed("GET", "/", "", &trimmed, b"").1,
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            "get-header-value-trim"
        );
    }

    #[test]
    fn what_is_sent_encoded_is_signed_encoded_twice_but_not_for_s3() {
        let canonical = |path, is_s3| Canonical {
            method: "GET",
            path,
            query: "",
            headers: Vec::new(),
            body_hash: EMPTY,
            is_s3,
        };
        assert_eq!(canonical("/a%20b/c%2Bd", false).canonical_path(), "/a%2520b/c%252Bd");
        assert_eq!(canonical("/a%20b/c+d//e/", true).canonical_path(), "/a%20b/c%2Bd//e/");
        assert_eq!(canonical_query("b=2&a=%7E&a=+&c"), "a=%20&a=~&b=2&c=");
    }

    #[test]
    fn a_signed_request_is_accepted_until_a_part_of_it_is_changed() {
        let signer = Signer {
            access_key: Secret::new("AKIDEXAMPLE".into()),
            secret_key: Secret::new(SECRET.into()),
            session_token: Some(HeaderValue::from_static("session")),
            region: "us-east-1".into(),
            service: "s3".into(),
        };
        let url = url::Url::parse("http://127.0.0.1:8000/a%20b?x=1").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("x-other", HeaderValue::from_static("unsigned"));
        signer
            .sign(&Method::PUT, &url, b"{}", "2015-08-30T12:36:00Z".parse().unwrap(), &mut headers)
            .unwrap();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:8000"));
        let key = |key: &str| key == "AKIDEXAMPLE";
        let takes = |headers: &HeaderMap, method, path, body: &[u8], secret| {
            accepts(headers, (method, path, "x=1"), body, (&key, secret))
        };
        assert!(takes(&headers, "PUT", "/a%20b", b"{}", SECRET));
        assert!(!takes(&headers, "POST", "/a%20b", b"{}", SECRET));
        assert!(!takes(&headers, "PUT", "/a", b"{}", SECRET));
        assert!(!takes(&headers, "PUT", "/a%20b", b"{ }", SECRET));
        assert!(!takes(&headers, "PUT", "/a%20b", b"{}", "other"));
        let names = headers["authorization"].to_str().unwrap();
        assert!(
            names.contains("content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token"),
            "{names}"
        );
        headers.insert("x-amz-target", HeaderValue::from_static("added"));
        assert!(!takes(&headers, "PUT", "/a%20b", b"{}", SECRET));
    }
}
