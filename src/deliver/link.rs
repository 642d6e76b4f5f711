//! The `Link` header (RFC 8288): where the next page is.

use http::HeaderMap;

/// The target of the first link with the relation `next`.
pub(super) fn next(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(http::header::LINK).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(links)
        .find(|(_, relations)| relations.iter().any(|one| one == "next"))
        .map(|(target, _)| target)
}

/// Targets with their relations, in lower case. A field that cannot be read ends the list.
fn links(mut rest: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((target, tail)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
            return found;
        };
        let (params, tail) = params(tail);
        // The first `rel` counts (RFC 8288, section 3.3).
        let relations = params.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("rel"));
        let relations = relations.map(|(_, value)| value.to_ascii_lowercase()).unwrap_or_default();
        found.push((
            target.trim().to_owned(),
            relations.split_ascii_whitespace().map(str::to_owned).collect(),
        ));
        rest = tail;
    }
}

/// `; name=value; name="quoted"` up to the comma behind it.
fn params(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        let Some(tail) = rest.strip_prefix(';') else { return (found, rest) };
        let tail = tail.trim_start_matches([' ', '\t']);
        let end = tail.find(['=', ';', ',']).unwrap_or(tail.len());
        let (name, tail) = tail.split_at(end);
        let Some(value) = tail.strip_prefix('=') else {
            found.push((name.trim().to_owned(), String::new()));
            rest = tail;
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, tail) = if let Some(quoted) = value.strip_prefix('"') {
            unquoted(quoted)
        } else {
            let end = value.find([';', ',']).unwrap_or(value.len());
            let (value, tail) = value.split_at(end);
            (value.trim().to_owned(), tail)
        };
        found.push((name.trim().to_owned(), value));
        rest = tail;
    }
}

fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_other_links() {
        for (text, expected) in [
            ("<https://a/x?page=2>; rel=\"next\"", Some("https://a/x?page=2")),
            ("</x?page=2>; rel=next", Some("/x?page=2")),
            ("<a>; rel=prev, <b>; rel=\"last next\", <c>; rel=next", Some("b")),
            ("<a>; title=\"x, <evil>; rel=next\"; rel=prev, <b>; REL=\"NEXT\"", Some("b")),
            ("<a>; title=\"quote \\\" rel=next\"; rel=last", None),
            ("<a,b;c>; rel=next", Some("a,b;c")),
            ("<a>; rel=prev; rel=next", None),
            ("<a>;rel=nextish", None),
            ("<a", None),
            ("a; rel=next", None),
            ("", None),
        ] {
            let headers = [(http::header::LINK, text.parse().unwrap())].into_iter().collect();
            assert_eq!(next(&headers).as_deref(), expected, "{text}");
        }
        assert_eq!(next(&HeaderMap::new()), None);
        let mut two = HeaderMap::new();
        two.append(http::header::LINK, "<a>; rel=prev".parse().unwrap());
        two.append(http::header::LINK, "<b>; rel=next".parse().unwrap());
        assert_eq!(next(&two).as_deref(), Some("b"));
    }
}
