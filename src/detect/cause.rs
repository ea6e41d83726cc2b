//! The engine's words to a cause: an ordered list of patterns, the first match wins.
//!
//! The order matters: `no such file or directory` is said of a mount, a volume and an entrypoint, `not found` of an
//! image, a plugin, a network and a secret. The words are those of moby, SwarmKit, containerd and distribution.

use crate::model::Cause;

/// Texts that all have to occur, in this order.
type Pattern = &'static [&'static str];

const PATTERNS: &[(Cause, &[Pattern])] = &[
    (Cause::RegistryQuota, &[&["reached your ", "pull rate limit"]]),
    (Cause::RegistryAuth, &[&["too many failed login attempts"]]),
    (Cause::RegistryQuota, &[&["data limit exceeded"], &["traffic quota is not enough"]]),
    (Cause::RegistryAbuse, &[&["hap429"]]),
    (
        Cause::RegistryLimit,
        &[
            &["toomanyrequests"],
            &["429 too many requests"],
            &["http 429 response body"],
            &["too many requests to source registry"],
        ],
    ),
    (
        Cause::RegistryAuth,
        &[
            &["no basic auth credentials"],
            &["authorization token has expired"],
            &["unauthorized"],
            &["authentication required"],
            &["failed to authorize"],
            &["http 403 response body"],
            &["403 forbidden"],
            &["pull access denied"],
            &["requested access to the resource is denied"],
        ],
    ),
    (
        Cause::ImageMissing,
        &[
            &["manifest unknown"],
            &["manifest for ", " not found"],
            &["name unknown"],
            &["failed to resolve reference ", ": not found"],
            &["artifact ", " not found"],
        ],
    ),
    (
        Cause::Platform,
        &[
            &["no matching manifest for"],
            &["no match for platform"],
            &["does not match the specified platform"],
            &["exec format error"],
        ],
    ),
    (Cause::DiskFull, &[&["no space left on device"]]),
    (Cause::RegistryUnreachable, &[&["no such host"], &["server misbehaving"]]),
    (
        Cause::RegistryUnreachable,
        &[
            &["dial tcp", "connection refused"],
            &["dial tcp", "no route to host"],
            &["dial tcp", "network is unreachable"],
            &["http", "connection refused"],
            &["http", "connection reset by peer"],
            &["tls handshake timeout"],
            &["http", "i/o timeout"],
            &["dial tcp", "i/o timeout"],
            &["client.timeout exceeded"],
            &["request canceled while waiting for connection"],
            &["x509:"],
            &["server gave http response to https client"],
        ],
    ),
    (
        Cause::RegistryError,
        &[
            &["received unexpected http status: 5"],
            &["unexpected status", " 500 "],
            &["unexpected status", " 502 "],
            &["unexpected status", " 503 "],
            &["unexpected status", " 504 "],
            &["http 500 response body"],
            &["http 502 response body"],
            &["http 503 response body"],
            &["http 504 response body"],
        ],
    ),
    (Cause::PullFailed, &[&["no such image: "]]),
    (
        Cause::Mount,
        &[
            &["bind source path does not exist"],
            &["invalid mount config for type"],
            &["invalid volume specification"],
            &["trying to mount a directory onto a file"],
        ],
    ),
    (
        Cause::Volume,
        &[
            &["error looking up volume plugin"],
            &["plugin \"", "\" not found"],
            &["volumedriver."],
            &["failed to mount local volume"],
            &["error while mounting volume"],
            &["error creating volume"],
            &["create ", ": invalid option"],
        ],
    ),
    (
        Cause::Network,
        &[
            &["missing network attachments"],
            &["could not attach to network"],
            &["network ", " not found"],
            &["could not find the corresponding predefined swarm network"],
            &["network sandbox ", " not found"],
        ],
    ),
    (
        Cause::Port,
        &[
            &["port is already allocated"],
            &["address already in use"],
            &["failed to bind host port"],
            &["error starting userland proxy"],
            &["is already in use by service ", " port"],
        ],
    ),
    (Cause::Unschedulable, &[&["no suitable node"]]),
    (
        Cause::SecretConfig,
        &[
            &["secret ", " not found"],
            &["config ", " not found"],
            &["unable to get secret from"],
            &["unable to get config from"],
            &["not authorized to access secret"],
            &["not authorized to access config"],
        ],
    ),
    (
        Cause::Entrypoint,
        &[
            &["executable file not found"],
            &["exec: ", ": no such file or directory"],
            &["exec", "permission denied"],
            &["exec ", ": is a directory"],
        ],
    ),
    (
        Cause::Runtime,
        &[&["cgroup"], &["shim ", " exited"], &["runtime ", " not found"], &["oci runtime create failed"]],
    ),
    (Cause::HealthCheck, &[&["unhealthy container"]]),
    (Cause::Oom, &[&["outofmemoryerror"], &["container killed due to memory usage"]]),
    (Cause::AppExit, &[&["non-zero exit ("]]),
    (Cause::NodeDown, &[&["belonged to a node that has been deleted"]]),
    (Cause::Runtime, &[&["starting container failed"]]),
];

/// Errors that are a change somebody ordered, or the end of what ran well: evictions, what an update broke off, and
/// containers that went away beneath their task. dockerd says the last of every task that ran when it is restarted.
const INTENTS: &[Pattern] = &[
    &["no longer meets constraints"],
    &["task rejected by constraint enforcer"],
    &["volume which is being drained"],
    &["context canceled"],
    &["no such container"],
    &["container destroyed"],
];

/// The longest text that is looked at, in bytes: an error of the engine's is some hundred.
const TEXT_LIMIT_BYTES: usize = 4096;

/// The cause that the engine's words tell.
pub(super) fn classify(text: &str) -> Cause {
    let text = lower(text);
    // What is said of a start is said after the pull: a volume or log driver that cannot be reached is no registry.
    let is_start = text.starts_with("starting container failed") || text.contains("initialize logging driver");
    PATTERNS
        .iter()
        .filter(|(cause, _)| !(is_start && is_registry(*cause)))
        .find(|(_, patterns)| patterns.iter().any(|pattern| occurs(&text, pattern)))
        .map_or(Cause::Unknown, |(cause, _)| *cause)
}

/// The cause that the words of a failed pull tell: there a bare `denied` is the registry's.
pub(super) fn classify_pull(text: &str) -> Cause {
    match classify(text) {
        Cause::Unknown if lower(text).contains("denied") => Cause::RegistryAuth,
        cause => cause,
    }
}

const fn is_registry(cause: Cause) -> bool {
    cause.is_pull() && !matches!(cause, Cause::Platform | Cause::DiskFull)
}

/// Whether the engine's words tell of an order rather than of a failure.
pub(super) fn is_intent(text: &str) -> bool {
    let text = lower(text);
    INTENTS.iter().any(|pattern| occurs(&text, pattern))
}

fn lower(text: &str) -> String {
    let mut end = text.len().min(TEXT_LIMIT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_ascii_lowercase()
}

fn occurs(text: &str, pattern: Pattern) -> bool {
    let mut rest = text;
    pattern.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_tell_the_cause() {
        for (cause, text) in [
            (
                Cause::RegistryQuota,
                "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
            ),
            (Cause::RegistryQuota, "error from registry: You have reached your pull rate limit"),
            (Cause::RegistryQuota, "toomanyrequests: Data limit exceeded"),
            (Cause::RegistryAuth, "toomanyrequests: too many failed login attempts for username or IP address"),
            (
                Cause::RegistryAbuse,
                r#"error parsing HTTP 429 response body: invalid character 'T' looking for beginning of value: "Too Many Requests (HAP429).""#,
            ),
            (Cause::RegistryAbuse, "toomanyrequests: Too Many Requests (HAP429)."),
            (Cause::RegistryLimit, "toomanyrequests: retry-after: 985.86µs, allowed: 44000/minute"),
            (
                Cause::RegistryLimit,
                r#"unknown: failed to resolve reference "R:1": unexpected status from HEAD request to http://r/v2/a/manifests/1: 429 Too Many Requests"#,
            ),
            (Cause::RegistryAuth, r#"Head "http://10.77.0.1:5000/v2/s-noauth/manifests/1": no basic auth credentials"#),
            (
                Cause::RegistryAuth,
                r#"failed to resolve reference "R:1": pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials"#,
            ),
            (Cause::RegistryAuth, "denied: Your authorization token has expired. Reauthenticate and try again."),
            (
                Cause::ImageMissing,
                "manifest for 10.77.0.1:5000/s-missing:1 not found: manifest unknown: manifest unknown",
            ),
            (Cause::ImageMissing, r#"failed to resolve reference "R:1": R:1: not found"#),
            (Cause::Platform, "no matching manifest for linux/arm64/v8 in the manifest list entries"),
            (Cause::Platform, "starting container failed: exec /app: exec format error"),
            (Cause::DiskFull, "failed to register layer: write /usr/x: no space left on device"),
            (Cause::RegistryUnreachable, "dial tcp: lookup registry.example on 127.0.0.53:53: no such host"),
            (
                Cause::RegistryUnreachable,
                r#"Get "http://10.0.0.5:5000/v2/": dial tcp 10.0.0.5:5000: connect: connection refused"#,
            ),
            (Cause::RegistryUnreachable, r#"Get "https://r/v2/": net/http: TLS handshake timeout"#),
            (Cause::RegistryUnreachable, "x509: certificate signed by unknown authority"),
            (Cause::RegistryError, "received unexpected HTTP status: 503 Service Temporarily Unavailable"),
            (
                Cause::RegistryError,
                r#"failed to resolve reference "R:1": unexpected status from HEAD request to http://r/v2/a/manifests/1: 503 Service Temporarily Unavailable"#,
            ),
            (Cause::PullFailed, "No such image: traefik:v3@sha256:12"),
            (Cause::Mount, r#"invalid mount config for type "bind": bind source path does not exist: /nope"#),
            (
                Cause::Mount,
                "error mounting \"/a\": not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)?",
            ),
            (
                Cause::Volume,
                "starting container failed: error while mounting volume '/x': failed to mount local volume: mount :/x: no such file or directory",
            ),
            (Cause::Network, "network foo not found"),
            (Cause::Network, "node is missing network attachments, ip addresses may be exhausted"),
            (
                Cause::Port,
                "driver failed programming external connectivity on endpoint e: Bind for 0.0.0.0:80 failed: port is already allocated",
            ),
            (Cause::Unschedulable, "no suitable node (scheduling constraints not satisfied on 3 nodes)"),
            (Cause::SecretConfig, "unable to get secret from secret store: secret ID not found"),
            (
                Cause::Entrypoint,
                r#"starting container failed: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/no": stat /no: no such file or directory: unknown"#,
            ),
            (Cause::Entrypoint, r#"OCI runtime create failed: exec: "x": executable file not found in $PATH"#),
            (Cause::Runtime, "OCI runtime create failed: unable to apply cgroup configuration: x"),
            (Cause::Runtime, "starting container failed: cannot start a stopped process: unknown"),
            (Cause::HealthCheck, "task: non-zero exit (137): dockerexec: unhealthy container"),
            (Cause::AppExit, "task: non-zero exit (1)"),
            (
                Cause::Runtime,
                "starting container failed: failed to initialize logging driver: dial tcp 10.0.0.9:12201: connect: connection refused",
            ),
            (
                Cause::Volume,
                "starting container failed: error while mounting volume '/x': lookup nfs.local on 10.0.0.2:53: no such host",
            ),
            (Cause::Unknown, "something new"),
        ] {
            assert_eq!(classify(text), cause, "{text}");
        }
    }

    #[test]
    fn a_bare_denial_of_a_pull_is_the_registrys() {
        assert_eq!(classify_pull("denied: denied"), Cause::RegistryAuth);
        assert_eq!(classify("denied: denied"), Cause::Unknown);
    }

    #[test]
    fn an_eviction_is_an_order() {
        assert!(is_intent("assigned node no longer meets constraints"));
        assert!(is_intent("No such container: w8.8.8lm4lomsnj21hszjkmhxvgu8i"), "dockerd was restarted");
        assert!(!is_intent("task: non-zero exit (1)"));
    }

    #[test]
    fn a_text_without_end_is_cut() {
        assert_eq!(classify(&format!("task: non-zero exit (1){}", "é".repeat(100_000))), Cause::AppExit);
    }
}
