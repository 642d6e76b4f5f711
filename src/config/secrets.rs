//! Finds secrets that were written into files, where everybody who reads the project sees them.
//!
//! A guess by form, so it is careful: an error only for what is surely a credential, a warning
//! for an opaque value under a telling key. Invariant: no finding shows the value; even the line
//! that a message draws has stars in its place.

use std::sync::Arc;

use super::read::{Kind, Node};
use crate::model::{Diagnostic, Place, Problems, SourceText};

/// The same place in a copy of the file where it is hidden behind stars.
pub(super) fn hidden(place: &Place) -> Place {
    let text = &place.source.text;
    let (before, rest) = text.split_at(place.span.start);
    let (secret, after) = rest.split_at(place.span.end - place.span.start);
    let stars: String = secret.bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }).collect();
    let text = format!("{before}{stars}{after}");
    Place { source: Arc::new(SourceText { path: place.source.path.clone(), text }), span: place.span.clone() }
}

/// Looks at every text of a file.
pub(super) fn scan(node: &Node, problems: &mut Problems) {
    walk(node, "", problems);
}

fn walk(node: &Node, key: &str, problems: &mut Problems) {
    match &node.kind {
        Kind::Map(entries) => entries.iter().for_each(|(key, node)| walk(node, &key.value, problems)),
        Kind::List(items) => items.iter().for_each(|item| walk(item, key, problems)),
        Kind::Text(text) => {
            let finding = if is_credential(text) {
                Diagnostic::error("secret-in-file", "a secret is written into this file")
            } else if is_telling(key) && is_opaque(text) {
                Diagnostic::warning("secret-in-file", format!("the value of `{key}` looks like a secret"))
            } else {
                return;
            };
            problems.push(finding.place(&hidden(&node.place)).help(
                "put it into an environment variable, and `{ env: NAME }` into the connection in runner.yaml",
            ));
        }
        _ => {}
    }
}

/// Forms that are nothing else but credentials.
fn is_credential(text: &str) -> bool {
    const PREFIXES: [&str; 9] =
        ["sk_live_", "rk_live_", "ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA"];
    let text = text.trim();
    for scheme in ["Bearer ", "bearer ", "Basic ", "Token "] {
        if let Some(value) = text.strip_prefix(scheme) {
            return is_opaque(value.trim());
        }
    }
    let long = text.len() >= 20 && !text.contains(char::is_whitespace);
    let jwt = text.starts_with("eyJ") && text.matches('.').count() == 2;
    let key = text.starts_with("-----BEGIN ") && text.contains("PRIVATE KEY");
    key || (long && !text.contains("{{") && (jwt || PREFIXES.iter().any(|prefix| text.starts_with(prefix))))
}

/// Keys whose values are usually secret.
fn is_telling(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    ["token", "secret", "password", "api_key", "apikey", "authorization"]
        .iter()
        .any(|word| key.contains(word))
}

/// Long, without spaces and expressions, of letters and digits: nothing that a person reads.
fn is_opaque(text: &str) -> bool {
    text.len() >= 20
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_.~-".contains(&b))
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_secrets_are_found_and_not_shown() {
        for (text, want) in [
            ("headers: { Authorization: Bearer abcdef0123456789abcdef }", "error 1:27"),
            ("api_token: 8f14e45fceea167a5a36dedd4bea2543", "warning 1:12"),
            ("note: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "error 1:7"),
            ("headers: { Authorization: 'Bearer {{ vars.token }}' }", ""),
            ("auth: { bearer: api_token }", ""),
            ("api_token: { env: FRESHCHAT_API_TOKEN_LONG_1 }", ""),
            ("key: '{{ record.reference_id }}'", ""),
            ("docs: https://developers.freshchat.com/api/v2/users/1", ""),
        ] {
            let source = Arc::new(SourceText { path: "a.yaml".into(), text: text.into() });
            let mut problems = Problems::new();
            let node = super::super::read::parse(&source, &mut problems).unwrap();
            scan(&node, &mut problems);
            let say = |found: &Diagnostic| {
                let place = found.place.as_ref().unwrap();
                let drawn = &place.source.text;
                assert!(!drawn.contains("0123456789") && !drawn.contains("8f14") && !drawn.contains("eyJ"));
                let (line, column) = place.line_column();
                format!("{} {line}:{column}", format!("{:?}", found.severity).to_lowercase())
            };
            assert_eq!(problems.all().iter().map(say).collect::<Vec<_>>().join(" "), want, "{text}");
        }
    }
}
