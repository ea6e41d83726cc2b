//! Reads the address of a daemon, as DOCKER_HOST and contexts write it.
//!
//! It looks at nothing but the text, and at which certificate files exist.

use std::path::{Path, PathBuf};

/// Docker's socket when nothing names another.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The port of plain HTTP.
const PLAIN_PORT: u16 = 2375;
/// The port of TLS.
const TLS_PORT: u16 = 2376;

/// The TLS material of an endpoint. Files are read when connecting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// PEM certificates that sign the daemon's; the system's own when absent.
    pub ca: Option<PathBuf>,
    /// The client's certificate, PEM.
    pub cert: Option<PathBuf>,
    /// The client's key, PEM.
    pub key: Option<PathBuf>,
    /// Whether the daemon's certificate is not checked.
    pub skip_verify: bool,
}

impl TlsFiles {
    /// `ca.pem`, `cert.pem` and `key.pem` in a directory, those that exist.
    pub(crate) fn within(dir: &Path, skip_verify: bool) -> Self {
        let existing = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
        Self { ca: existing("ca.pem"), cert: existing("cert.pem"), key: existing("key.pem"), skip_verify }
    }
}

/// How the daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
    },
    /// TCP, with or without TLS.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Path before the API's own, without a trailing slash; mostly empty.
        prefix: String,
        /// Certificates when TLS is spoken.
        tls: Option<TlsFiles>,
    },
    /// `docker system dial-stdio` on another host.
    Ssh {
        /// Login name.
        user: Option<String>,
        /// Host as ssh is told it.
        host: String,
        /// Port.
        port: Option<u16>,
        /// The remote daemon's socket, when named.
        socket: Option<String>,
    },
}

/// A host as a URL has it: IPv6 in brackets.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Reads an address; the error says what is wrong with it.
pub(crate) fn parse_address(host: &str, tls: Option<TlsFiles>) -> Result<Address, &'static str> {
    let (scheme, rest) = match host.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if host.starts_with('/') => return Err("a socket's path is written unix:///path"),
        None => ("tcp", host),
    };
    match scheme {
        "unix" if rest.is_empty() => Ok(Address::Unix { path: PathBuf::from(DEFAULT_SOCKET) }),
        "unix" => Ok(Address::Unix { path: PathBuf::from(rest) }),
        "tcp" => {
            let port = if tls.is_some() { TLS_PORT } else { PLAIN_PORT };
            tcp(rest, port, tls)
        }
        "http" => tcp(rest, 80, None),
        "https" => tcp(rest, 443, Some(tls.unwrap_or_default())),
        "ssh" => ssh(rest),
        "npipe" => Err("named pipes exist on Windows only; use tcp:// or ssh://"),
        "fd" => Err("fd:// is for dockerd itself; use unix:///var/run/docker.sock"),
        _ => Err("it begins with none of unix://, tcp://, http://, https://, ssh://"),
    }
}

fn tcp(rest: &str, default_port: u16, tls: Option<TlsFiles>) -> Result<Address, &'static str> {
    let (authority, prefix) = match rest.find('/') {
        Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
        None => (rest, ""),
    };
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)) {
        return Err("its path has characters that a path cannot have");
    }
    // Docker has no password; one that was written is dropped, as the docker command does.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = host_and_port(authority)?;
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    Ok(Address::Tcp { host, port: port.unwrap_or(default_port), prefix: prefix.to_owned(), tls })
}

fn ssh(rest: &str) -> Result<Address, &'static str> {
    let (authority, socket) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(&rest[at..]).filter(|path| *path != "/")),
        None => (rest, None),
    };
    let (user, authority) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("it has a password, which ssh does not take: use a key");
    }
    let (host, port) = host_and_port(authority)?;
    // Host and user become arguments of ssh, where a leading dash would be an option.
    if host.is_empty() || host.starts_with('-') || user.is_some_and(|user| user.is_empty() || user.starts_with('-')) {
        return Err("it does not name a host that ssh can be given");
    }
    // The remote shell reads the path.
    if socket.is_some_and(|path| !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))) {
        return Err("its socket path has characters other than letters, digits, `/`, `.`, `_` and `-`");
    }
    Ok(Address::Ssh { user: user.map(str::to_owned), host, port, socket: socket.map(str::to_owned) })
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    const BAD_PORT: &str = "its port is not a number from 1 to 65535";
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("it has `[` without `]`")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("what stands in brackets is not an IPv6 address");
        }
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err("there is something between `]` and the port"),
        }
    } else {
        match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address is written in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
        return Err("its host has characters that a host name cannot have");
    }
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(BAD_PORT)?),
    };
    Ok((host.to_owned(), port))
}

/// The address with the password of `scheme://user:password@host` replaced.
pub(crate) fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else {
        return address.to_owned();
    };
    let user = rest[..at].split(':').next().unwrap_or_default();
    let separator = if scheme.is_empty() { "" } else { "://" };
    let hidden = if rest[..at].contains(':') { ":***" } else { "" };
    format!("{scheme}{separator}{user}{hidden}{}", &rest[at..])
}
