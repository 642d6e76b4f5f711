//! The base URL of a connection, the URL of its token endpoint, and the only substitution that exists in connectors.
//!
//! Pure. `{{ connection.NAME }}` is replaced once and its value is never looked into again, so a
//! setting that holds braces stays what it is. Invariant: an accepted URL is http or https,
//! has no userinfo, query or fragment, and does not name a link-local or metadata address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::secrets::hidden;
use super::settings::Settings;
use crate::model::{Diagnostic, Placed, Problems};

/// A part of a text with `{{ connection.NAME }}` in it.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'t> {
    /// Literal text.
    Text(&'t str),
    /// The name of a setting, and where in the text it stands.
    Setting(&'t str, std::ops::Range<usize>),
}

/// Splits a text. `None` when it has an expression that is more than the name of a setting.
pub(super) fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        let Some(open) = rest.find("{{") else {
            found.push(Part::Text(rest));
            return (!rest.contains("{%") && !rest.contains("{#")).then_some(found);
        };
        let (literal, behind) = (rest.get(..open)?, rest.get(open + 2..)?);
        if literal.contains("{%") || literal.contains("{#") {
            return None;
        }
        let close = behind.find("}}")?;
        let inner = behind.get(..close)?;
        let name = inner.trim_matches('-').trim().strip_prefix("connection.")?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        found.push(Part::Text(literal));
        let start = at + open + 2 + inner.find(name)?;
        found.push(Part::Setting(name, start..start + name.len()));
        at += open + 2 + close + 2;
    }
}

/// Whether the values of settings end the host before the connector's own text does: with `a.example/`
/// for the subdomain, `https://{{ connection.sub }}.api.example` would lead to `a.example`.
pub(super) fn moves_host(template: &str, expanded: &str) -> bool {
    let Some((_, rest)) = template.split_once("://") else { return false };
    // What stands between the last setting of the host and the end of the host.
    let mut behind = None;
    for part in parts(rest).unwrap_or_default() {
        match part {
            Part::Setting(..) => behind = Some(""),
            Part::Text(text) => {
                let (host, ended) = text.split_once('/').map_or((text, false), |(host, _)| (host, true));
                behind = behind.map(|_| host);
                if ended {
                    break;
                }
            }
        }
    }
    let host = expanded.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    behind.is_some_and(|behind| !host.ends_with(behind))
}

/// What else about a connection decides whether its URL is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    /// None are sent.
    None,
    /// They are sent, over https or to loopback only.
    Sent,
    /// They are sent, and the connection allows plain http.
    SentAnyway,
}

/// What a URL is for, with the rules that its mistakes are named by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    what: &'static str,
    rule: &'static str,
    userinfo: &'static str,
    part: &'static str,
    moved: &'static str,
    no_query: &'static str,
    no_userinfo: &'static str,
}

/// The base of all requests of a connection.
pub(super) const BASE: Use = Use {
    what: "base URL",
    rule: "base-url",
    userinfo: "base-url-userinfo",
    part: "base-url-part",
    moved: "base-url-moved",
    no_query: "a base URL is scheme, host, port and path; put queries under `query:` of endpoints",
    no_userinfo: "use `auth: { basic: … }` with settings from the environment",
};

/// Where tokens are asked for.
pub(super) const TOKEN: Use = Use {
    what: "token URL",
    rule: "token-url",
    userinfo: "token-url-userinfo",
    part: "token-url-part",
    moved: "token-url-moved",
    no_query: "a token URL is scheme, host, port and path; put parameters under `params:` of `oauth2`",
    no_userinfo: "use `client_id` and `client_secret` with settings from the environment",
};

/// Fills settings into a URL and checks it. `${NAME}` stands for what is not set.
pub(super) fn filled(
    url: &Placed<String>,
    purpose: Use,
    settings: &Settings,
    sends: Credentials,
    problems: &mut Problems,
) -> Option<String> {
    let what = purpose.what;
    let out = settings.expand(url, problems)?;
    if out.secret {
        problems.push(
            Diagnostic::error(
                "secret-in-url",
                format!("the {what} holds a secret setting, and URLs are shown"),
            )
            .place(&url.place)
            .help("give the setting `secret: false`, or send it by `auth` or `headers`"),
        );
        return None;
    }
    if moves_host(&url.value, &out.text) {
        problems.push(
            Diagnostic::error(purpose.moved, format!("a setting's value changes the host of the {what}"))
                .place(&url.place)
                .help("a setting within the host may hold no `/` and no `\\`"),
        );
        return None;
    }
    check(&Placed::new(out.text, url.place.clone()), purpose, sends, problems)
}

/// Checks a URL and gives it in the form in which it is used.
fn check(url: &Placed<String>, purpose: Use, sends: Credentials, problems: &mut Problems) -> Option<String> {
    let what = purpose.what;
    let (text, place) = (url.value.as_str(), &url.place);
    let unset = text.contains("${");
    let parsed = match Url::parse(&without_unset(text)) {
        Ok(parsed) if parsed.has_host() => parsed,
        _ => {
            // The text may hold a password.
            let finding = Diagnostic::error(purpose.rule, format!("the {what} is not a complete URL"));
            problems.push(finding.place(&hidden(place)).help("write it as `https://host/path`"));
            return None;
        }
    };
    let host = parsed.host_str().unwrap_or_default().to_owned();
    let before = problems.errors();
    if !parsed.username().is_empty() || parsed.password().is_some() {
        problems.push(
            Diagnostic::error(
                purpose.userinfo,
                format!("the {what} of {host} holds a user name or password"),
            )
            .place(&hidden(place))
            .help(purpose.no_userinfo),
        );
        return None;
    }
    for (part, mark) in [("query", parsed.query().map(|_| '?')), ("fragment", parsed.fragment().map(|_| '#'))]
    {
        if let Some(mark) = mark {
            problems.push(
                Diagnostic::error(purpose.part, format!("the {what} of {host} has a {part} (`{mark}`)"))
                    .place(place)
                    .help(purpose.no_query),
            );
        }
    }
    match parsed.scheme() {
        "http" if sends == Credentials::Sent && !is_loopback(&parsed) && !unset_host(text) => {
            let shown = format!("http://{host}");
            problems.push(
                Diagnostic::error(
                    "plain-http",
                    format!("credentials would go to {shown} without encryption"),
                )
                .place(place)
                .help("use https, or set `allow_plain_http: true` in the connection"),
            );
        }
        "http" | "https" => {}
        other => {
            problems.push(
                Diagnostic::error(purpose.rule, format!("the {what} begins with {other}://"))
                    .place(place)
                    .help("only https and http are possible"),
            );
        }
    }
    if is_refused(&parsed) {
        problems.push(
            Diagnostic::error("address-refused", format!("{host} is a link-local or metadata address"))
                .place(place)
                .help("requests never go to such addresses; name the host of the API"),
        );
    }
    if problems.errors() > before {
        return None;
    }
    let clean = if unset { text.to_owned() } else { parsed.to_string() };
    Some(clean)
}

/// The text with a harmless word in place of each `${NAME}`.
fn without_unset(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        out.push_str(before);
        // A text that is one unset setting as a whole still has to be a URL.
        out.push_str(if before.is_empty() && out.is_empty() { "https://unset.invalid" } else { "unset" });
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// Whether the host is not known yet.
fn unset_host(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().contains("${")
}

/// Whether requests stay on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether the host is a literal link-local or metadata address, in whatever spelling: the URL
/// parser has turned decimal, hex and octal forms into the address by now.
pub(super) fn is_refused(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            ["metadata.google.internal", "metadata", "instance-data"].contains(&name.as_str())
        }
        Some(Host::Ipv4(address)) => is_refused_address(address.into()),
        Some(Host::Ipv6(address)) => is_refused_address(address.into()),
        None => false,
    }
}

/// Addresses beyond the link-local ones at which clouds tell a machine its own credentials.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Whether an address is link-local or of a metadata service, also as part of an IPv6 address that
/// some gateway turns back into it. What names resolve to is held against this too.
#[must_use]
pub fn is_refused_address(address: IpAddr) -> bool {
    let refused_v4 = |address: Ipv4Addr| address.is_link_local() || METADATA_V4.contains(&address);
    match address {
        IpAddr::V4(address) => refused_v4(address),
        IpAddr::V6(address) => {
            let segments = address.segments();
            let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
            let [_, a, b, _, _, _, g, h] = segments;
            let embedded = match segments {
                // IPv4-compatible, IPv4-mapped, IPv4-translated, NAT64, ISATAP
                [0, 0, 0, 0, 0, 0 | 0xffff, ..]
                | [0, 0, 0, 0, 0xffff, 0, ..]
                | [0x64, 0xff9b, ..]
                | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => v4(g, h),
                // 6to4, Teredo
                [0x2002, ..] => v4(a, b),
                [0x2001, 0, ..] => v4(!g, !h),
                _ => Ipv4Addr::UNSPECIFIED,
            };
            address.is_unicast_link_local() || METADATA_V6.contains(&address) || refused_v4(embedded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Place, SourceText};
    use std::fmt::Write as _;
    use std::sync::Arc;

    fn run(url: &str, sends: Credentials) -> Result<String, (String, String)> {
        let source = Arc::new(SourceText { path: "runner.yaml".into(), text: url.into() });
        let place = Place::new(source, 0..url.len());
        let mut problems = Problems::new();
        let checked = check(&Placed::new(url.to_owned(), place), BASE, sends, &mut problems);
        checked.map(|url| url.trim_end_matches('/').to_owned()).ok_or_else(|| {
            let found = problems.all();
            let drawn = found.iter().filter_map(|found| found.place.as_ref());
            let drawn: String = drawn.map(|place| place.source.text.as_str()).collect();
            (
                found
                    .iter()
                    .map(|found| format!("{}: {}", found.rule, found.message))
                    .collect::<Vec<_>>()
                    .join("; "),
                drawn,
            )
        })
    }

    #[test]
    fn good_urls_lose_their_last_slash_only() {
        for (url, want) in [
            ("https://api.example.com/v2/", "https://api.example.com/v2"),
            ("https://EXAMPLE.com:443", "https://example.com"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost/x", "http://localhost/x"),
            ("http://[::1]:80/", "http://[::1]"),
            ("https://${SUB}.freshchat.com/v2/", "https://${SUB}.freshchat.com/v2"),
            ("http://${HOST}/v2", "http://${HOST}/v2"),
            ("${URL}", "${URL}"),
        ] {
            assert_eq!(run(url, Credentials::Sent).as_deref(), Ok(want), "{url}");
        }
    }

    #[test]
    fn bad_urls_say_what_is_not_allowed() {
        let mut out = String::new();
        for url in [
            "http://10.0.0.1/x",
            "https://user:pass@host/",
            "https://host/?a=1",
            "https://host/#f",
            "ftp://host/",
            "host/path",
            "https://2852039166/",
            "https://0xa9fea9fe/",
            "https://0251.0376.0251.0376/",
            "https://[::ffff:169.254.169.254]/",
            "https://[::ffff:a9fe:a9fe]/",
            "https://[fe80::1]/",
            "https://169.254.169.254.",
            "https://metadata.google.internal/",
        ] {
            let (found, drawn) = run(url, Credentials::Sent).unwrap_err();
            assert!(!found.contains("pass@") && !drawn.contains("pass@"), "{found}");
            let _ = writeln!(out, "{url} -> {found}");
        }
        insta::assert_snapshot!(out, @r"
        http://10.0.0.1/x -> plain-http: credentials would go to http://10.0.0.1 without encryption
        https://user:pass@host/ -> base-url-userinfo: the base URL of host holds a user name or password
        https://host/?a=1 -> base-url-part: the base URL of host has a query (`?`)
        https://host/#f -> base-url-part: the base URL of host has a fragment (`#`)
        ftp://host/ -> base-url: the base URL begins with ftp://
        host/path -> base-url: the base URL is not a complete URL
        https://2852039166/ -> address-refused: 169.254.169.254 is a link-local or metadata address
        https://0xa9fea9fe/ -> address-refused: 169.254.169.254 is a link-local or metadata address
        https://0251.0376.0251.0376/ -> address-refused: 169.254.169.254 is a link-local or metadata address
        https://[::ffff:169.254.169.254]/ -> address-refused: [::ffff:a9fe:a9fe] is a link-local or metadata address
        https://[::ffff:a9fe:a9fe]/ -> address-refused: [::ffff:a9fe:a9fe] is a link-local or metadata address
        https://[fe80::1]/ -> address-refused: [fe80::1] is a link-local or metadata address
        https://169.254.169.254. -> address-refused: 169.254.169.254 is a link-local or metadata address
        https://metadata.google.internal/ -> address-refused: metadata.google.internal is a link-local or metadata address
        ");
        assert!(run("http://10.0.0.1/x", Credentials::SentAnyway).is_ok());
        assert!(run("http://10.0.0.1/x", Credentials::None).is_ok());
    }

    #[test]
    fn a_setting_within_the_host_does_not_end_it() {
        // S06
        let template = "https://{{ connection.sub }}.api.example/{{ connection.version }}";
        for sub in ["evil.example/", "evil.example\\", "evil.example#", "evil.example?", "/evil.example"] {
            assert!(moves_host(template, &format!("https://{sub}.api.example/v1")), "{sub}");
        }
        for (template, expanded) in [
            (template, "https://ours.api.example/v1"),
            (template, "https://ours.api.example/a/b"),
            (template, "https://${SUB}.api.example/v1"),
            ("{{ connection.base_url }}", "https://other.example/x"),
            ("https://{{ connection.host }}/v2", "https://other.example:8443/v2"),
            ("https://api.example/{{ connection.version }}", "https://api.example/v1/x"),
            ("https://api.example", "https://api.example"),
        ] {
            assert!(!moves_host(template, expanded), "{expanded}");
        }
    }

    #[test]
    fn addresses_of_metadata_services_are_known_in_every_form() {
        // S07
        for refused in [
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::169.254.169.254",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378:8000:63bf:5601:5601",
            "2001:db8::5efe:169.254.169.254",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            assert!(is_refused_address(refused.parse().unwrap()), "{refused}");
        }
        for fine in [
            "127.0.0.1",
            "10.0.0.1",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "fd00::254",
        ] {
            assert!(!is_refused_address(fine.parse().unwrap()), "{fine}");
        }
    }

    #[test]
    fn only_names_of_settings_are_substituted() {
        let got = parts("https://{{ connection.sub }}.x/{{connection.v}}").unwrap();
        let want = [
            Part::Text("https://"),
            Part::Setting("sub", 22..25),
            Part::Text(".x/"),
            Part::Setting("v", 44..45),
            Part::Text(""),
        ];
        assert_eq!(got, want);
        for bad in
            ["{{ connection.a | upper }}", "{{ vars.x }}", "{{ connection.a", "{% if x %}", "{{}}", "{# c #}"]
        {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
