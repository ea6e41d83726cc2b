//! `WWW-Authenticate`: what a registry wants before it answers (RFC 9110, section 11.6.1; distribution's token
//! specification).

use std::collections::BTreeMap;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token, which is to be had at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// A name and a password.
    Basic,
}

/// Reads one header. Of several challenges a token goes first. `None`: nothing that is known.
pub(super) fn challenge(header: &str) -> Option<Challenge> {
    let mut wants_basic = false;
    for (scheme, mut parameters) in challenges(header) {
        if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = parameters.remove("realm")
        {
            let (service, scope) = (parameters.remove("service"), parameters.remove("scope"));
            return Some(Challenge::Bearer { realm, service, scope });
        }
        wants_basic |= scheme.eq_ignore_ascii_case("basic");
    }
    wants_basic.then_some(Challenge::Basic)
}

/// Each scheme with its parameters: `Scheme a="b", c=d, Scheme2 e=f`.
fn challenges(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for part in parts(header) {
        let (before, value) = part.split_once('=').map_or((part, None), |(before, value)| (before, Some(value)));
        let mut words = before.split_whitespace();
        let (first, second) = (words.next(), words.next());
        // `Bearer realm` begins a challenge, `service` goes on with it.
        let (scheme, name) = match (first, second, value) {
            (Some(scheme), Some(name), Some(_)) => (Some(scheme), Some(name)),
            (Some(scheme), None, None) => (Some(scheme), None),
            (Some(name), None, Some(_)) => (None, Some(name)),
            _ => continue,
        };
        if let Some(scheme) = scheme {
            found.push((scheme.to_owned(), BTreeMap::new()));
        }
        if let (Some(name), Some(value), Some((_, parameters))) = (name, value, found.last_mut()) {
            let value = value.trim().trim_matches('"').replace("\\\"", "\"");
            parameters.entry(name.to_ascii_lowercase()).or_insert(value);
        }
    }
    found
}

/// What stands between commas that are in no quotes.
fn parts(header: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, char) in header.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(header[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(header[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn what_registries_send_is_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let scope = Some("repository:a/b:pull,push");
        assert_eq!(challenge(hub), bearer("https://auth.docker.io/token", Some("registry.docker.io"), scope));
        assert_eq!(challenge(r#"Basic realm="a, b""#), Some(Challenge::Basic));
        assert_eq!(challenge("Basic"), Some(Challenge::Basic));
        let both = r#"Basic realm="x", BEARER Realm="http://t/", service=s"#;
        assert_eq!(challenge(both), bearer("http://t/", Some("s"), None));
    }

    #[test]
    fn what_is_none_is_none() {
        for text in ["", ",", "=", "Bearer", "Bearer service=x", "Negotiate", r#""realm"=x"#] {
            assert_eq!(challenge(text), None, "{text}");
        }
    }
}
