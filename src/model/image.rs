use std::fmt;

/// An image reference, taken apart as Docker does (`distribution/reference`, the familiar form).
///
/// A first part is a registry when it has a dot or a colon, is `localhost` or has an upper-case letter; else the
/// registry is Docker Hub, and a name of one part is in `library/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef<'a> {
    /// The registry's host and port; `docker.io` for Docker Hub by any of its names.
    pub registry: &'a str,
    /// The repository in that registry, without the `library/` that a familiar name leaves out.
    pub repository: &'a str,
    /// The tag, where one is written.
    pub tag: Option<&'a str>,
    /// The digest, `algorithm:hex`, where one is written.
    pub digest: Option<&'a str>,
}

/// Why a text is no [`ImageRef`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// There is nothing.
    #[error("an image reference is empty")]
    Empty,
    /// A character or a form that a reference cannot have.
    #[error("not an image reference")]
    Malformed,
    /// 64 hex digits: the id of a local image; Docker refuses it as a name.
    #[error("an image id, not a reference")]
    ImageId,
}

/// Docker Hub.
const HUB: &str = "docker.io";
/// The names that are Docker Hub too.
const HUB_NAMES: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
/// `distribution/reference`'s limit on a repository name.
const NAME_LIMIT_BYTES: usize = 255;
/// Its limit on a tag.
const TAG_LIMIT_BYTES: usize = 128;

impl<'a> ImageRef<'a> {
    /// Takes a reference apart.
    ///
    /// # Errors
    /// When it is empty, malformed, or the id of an image.
    pub fn parse(text: &'a str) -> Result<Self, ImageRefError> {
        if text.is_empty() {
            return Err(ImageRefError::Empty);
        }
        if text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(is_hex)) {
            return Err(ImageRefError::ImageId);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(check(digest, is_digest)?)),
            None => (text, None),
        };
        let (registry, path) = split_registry(rest)?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(check(tag, is_tag)?)),
            None => (path, None),
        };
        check(repository, is_repository)?;
        if registry.is_none() && tag.is_none() && repository.len() == 64 && repository.bytes().all(is_hex) {
            return Err(ImageRefError::ImageId);
        }
        let (registry, repository) = match registry {
            Some(host) if !HUB_NAMES.contains(&host) => (host, repository),
            _ => (HUB, repository.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(repository)),
        };
        Ok(Self { registry, repository, tag, digest })
    }

    /// Whether it has a digest: a present digest is not asked for again.
    pub const fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }
}

impl fmt::Display for ImageRef<'_> {
    /// The familiar form; with Docker Hub's name only where it would be read as something else without it, as
    /// `docker.io/localhost/a`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.repository.to_owned();
        if let Some(tag) = self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = self.digest {
            text = format!("{text}@{digest}");
        }
        if self.registry != HUB || ImageRef::parse(&text).as_ref() != Ok(self) {
            write!(f, "{}/", self.registry)?;
        }
        f.write_str(&text)
    }
}

fn split_registry(text: &str) -> Result<(Option<&str>, &str), ImageRefError> {
    let Some((first, rest)) = text.split_once('/') else { return Ok((None, text)) };
    let is_host =
        first.contains(['.', ':', '[']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase());
    if !is_host {
        return Ok((None, text));
    }
    check(first, is_host_and_port)?;
    Ok((Some(first), rest))
}

fn check(part: &str, holds: fn(&str) -> bool) -> Result<&str, ImageRefError> {
    if holds(part) { Ok(part) } else { Err(ImageRefError::Malformed) }
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => {
                if !host.contains(':') || !host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                    return false;
                }
                (None, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("x") }))
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let host_is_good = host.is_none_or(|host| {
        host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
    });
    host_is_good && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_repository(text: &str) -> bool {
    text.len() <= NAME_LIMIT_BYTES && text.split('/').all(is_component)
}

/// Lower-case letters and digits, with single `.`, one or two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    is_word(first)
        && is_word(last)
        && bytes.split(|&byte| is_word(byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&byte| byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    starts_well
        && text.len() <= TAG_LIMIT_BYTES
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'-'))
            && match algorithm {
                "sha256" => hex.len() == 64,
                "sha384" => hex.len() == 96,
                "sha512" => hex.len() == 128,
                _ => hex.len() >= 32,
            }
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:278bb8801d74e7456853073158d48b05d19319795a773d7b864c630c9a951a55";

    fn check(text: &str, expected: &str) {
        let found = match ImageRef::parse(text) {
            Ok(r) => format!(
                "{} {} {} {}",
                r.registry,
                r.repository,
                r.tag.unwrap_or("-"),
                if r.is_pinned() { "pinned" } else { "tag" }
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn takes_references_apart_as_docker_does() {
        check("nginx", "docker.io nginx - tag");
        check("nginx:1.27", "docker.io nginx 1.27 tag");
        check("library/nginx", "docker.io nginx - tag");
        check("docker.io/library/nginx:1", "docker.io nginx 1 tag");
        check("registry-1.docker.io/a/b", "docker.io a/b - tag");
        check("index.docker.io/a/b:v", "docker.io a/b v tag");
        check("library/a/b", "docker.io library/a/b - tag");
        check("a/b/c", "docker.io a/b/c - tag");
        check("localhost/a", "localhost a - tag");
        check("localhost:5000/a:1", "localhost:5000 a 1 tag");
        check("10.77.0.1:5000/s-exit:1", "10.77.0.1:5000 s-exit 1 tag");
        check("ghcr.io/a/b.c__d-e/f:x_Y.z-1", "ghcr.io a/b.c__d-e/f x_Y.z-1 tag");
        check("[::1]:5000/a:1", "[::1]:5000 a 1 tag");
        check("[2001:db8::1]/a", "[2001:db8::1] a - tag");
        check("Foo/bar", "Foo bar - tag");
        check(&format!("a@{DIGEST}"), "docker.io a - pinned");
        check(&format!("127.0.0.1:5000/a/b:1@{DIGEST}"), "127.0.0.1:5000 a/b 1 pinned");
    }

    #[test]
    fn refuses_what_docker_refuses() {
        check("", "an image reference is empty");
        check(&"a1".repeat(32), "an image id, not a reference");
        check(&format!("sha256:{}", "a1".repeat(32)), "an image id, not a reference");
        for text in [
            "Nginx",
            "a/B",
            ":1",
            "a:",
            "a@",
            "a@sha256:12",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a___b",
            "-a",
            "a b",
            "[::1/a",
            "[xyz]:5000/a",
            "host:port/a",
            "a:-1",
            "a.b.:5000/x",
            "[::1]x/a",
        ] {
            check(text, "not an image reference");
        }
        check(&format!("a:{}", "x".repeat(129)), "not an image reference");
        check(&"a".repeat(256), "not an image reference");
    }

    #[test]
    fn the_familiar_form_reads_back() {
        for text in ["nginx:1", "localhost:5000/a", "[::1]:5000/a/b:1", "ghcr.io/a/b"] {
            assert_eq!(ImageRef::parse(text).expect("a reference").to_string(), text);
        }
    }

    #[test]
    fn a_repository_of_docker_hub_that_looks_like_another_registry_is_written_with_its_own() {
        let hex = "a".repeat(64);
        for path in ["localhost/a", "a.b/c:1", &hex, &format!("sha256:{hex}")] {
            let text = format!("docker.io/{path}");
            let image = ImageRef::parse(&text).expect("a reference");
            assert_eq!((image.registry, image.to_string()), ("docker.io", text.clone()));
        }
    }
}
