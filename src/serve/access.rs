//! Who is answered: by the name that the request was sent to, and by the token that it shows.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use ring::digest::{SHA256, digest};
use secrecy::ExposeSecret;

use super::Settings;

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// No host, or more than one, or none that can be read.
    BadHost,
    /// A name that is not squall's.
    OtherHost,
    /// No token, or another.
    NoToken,
}

/// Whom it answers.
#[derive(Debug)]
pub(super) struct Access {
    /// SHA-256 of the token: what is compared tells nothing of it, not even its length.
    token: Option<Vec<u8>>,
    /// In lower case, without a point at the end.
    hosts: Vec<String>,
    listen: IpAddr,
    /// Whether every address is answered to: where other machines may look, it has addresses that it does not know.
    any_address: bool,
}

impl Access {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            token: settings.token.as_ref().map(|token| hashed(token.expose_secret().as_bytes())),
            hosts: settings.hosts.iter().map(|host| plain(host)).collect(),
            listen: settings.listen.ip(),
            any_address: settings.token.is_some() || settings.insecure,
        }
    }

    /// Whether the request was sent to a name or address of squall's. A page on another site that rebinds its own name
    /// to this address sends its own name.
    pub(super) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (uri.authority(), hosts.next(), hosts.next()) {
            (_, _, Some(_)) | (None, None, None) => return Err(Denied::BadHost),
            (Some(authority), _, None) => authority.clone(),
            (None, Some(host), None) => {
                let host = host.to_str().map_err(|_| Denied::BadHost)?;
                host.parse::<Authority>().map_err(|_| Denied::BadHost)?
            }
        };
        if host.as_str().contains('@') {
            return Err(Denied::BadHost);
        }
        let name = plain(host.host());
        let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let is_own = match address {
            Some(address) => self.any_address || address.is_loopback() || address == self.listen,
            None => name == "localhost",
        };
        if is_own || self.hosts.contains(&name) { Ok(()) } else { Err(Denied::OtherHost) }
    }

    /// Whether the request shows the token, where one is asked for.
    pub(super) fn check_token(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(expected) = &self.token else { return Ok(()) };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| shown_token(value.as_bytes()));
        match shown {
            Some(shown) if are_equal(&hashed(&shown), expected) => Ok(()),
            _ => Err(Denied::NoToken),
        }
    }
}

fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn hashed(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// Looks at every byte, wherever the first difference is.
fn are_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// The token of `Bearer TOKEN`, or the password of `Basic base64(NAME:PASSWORD)`.
fn shown_token(value: &[u8]) -> Option<Vec<u8>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, shown) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(shown.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = from_base64(shown)?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut have) = (0_u32, 0_u32);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        have += 6;
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_and_bearer_show_the_same_token() {
        let shown =
            |value: &str| shown_token(value.as_bytes()).map(|token| String::from_utf8_lossy(&token).into_owned());
        assert_eq!(shown("Bearer s3cret").as_deref(), Some("s3cret"));
        assert_eq!(shown("bearer  s3cret ").as_deref(), Some("s3cret"));
        assert_eq!(shown("Basic YW55Ym9keTpzM2NyZXQ=").as_deref(), Some("s3cret"));
        assert_eq!(shown("Basic OmE6Yg==").as_deref(), Some("a:b"));
        assert_eq!(shown("Basic !!!"), None);
        assert_eq!(shown("Basic YQ=="), None);
        assert_eq!(shown("Digest x"), None);
        assert_eq!(shown(""), None);
    }

    #[test]
    fn base64_of_every_byte() {
        assert_eq!(from_base64(b"AAEC/v8"), Some(vec![0, 1, 2, 254, 255]));
        assert_eq!(from_base64(b""), Some(vec![]));
    }
}
