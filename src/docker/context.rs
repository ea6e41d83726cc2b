//! Reads docker contexts: which is current, and the address and certificates of one.
//!
//! A context's directory is named by the SHA-256 of its name; the name stands in its meta.json too, which is compared
//! instead. It does not write contexts, nor read those of other orchestrators.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::address::TlsFiles;
use super::surroundings::{EndpointError, Surroundings};

/// Longest configuration file that is read.
const FILE_BYTES: u64 = 4 << 20;
/// Most contexts that are looked at.
const CONTEXTS: usize = 10_000;

/// One context's endpoint.
pub(crate) struct Context {
    pub(crate) host: String,
    pub(crate) tls: Option<TlsFiles>,
}

/// The name of the current context, if config.json names one.
pub(crate) fn current(surroundings: &Surroundings<'_>) -> Result<Option<String>, EndpointError> {
    let Some(dir) = surroundings.config_dir() else {
        return Ok(None);
    };
    let Some(config) = read_json(&dir.join("config.json"))? else {
        return Ok(None);
    };
    Ok(config["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned))
}

/// The context of this name.
pub(crate) fn find(name: &str, chosen_by: &str, surroundings: &Surroundings<'_>) -> Result<Context, EndpointError> {
    let store = surroundings.config_dir().unwrap_or_else(|| PathBuf::from(".docker")).join("contexts");
    let missing = || EndpointError::NoContext {
        name: name.to_owned(),
        chosen_by: chosen_by.to_owned(),
        store: store.join("meta"),
    };
    let entries = match std::fs::read_dir(store.join("meta")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(unreadable(&store.join("meta"), &error)),
    };
    // One unreadable context must not hide the one that is asked for.
    let mut unread = None;
    for entry in entries.take(CONTEXTS).flatten() {
        let path = entry.path().join("meta.json");
        let meta = match read_json(&path) {
            Ok(Some(meta)) => meta,
            Ok(None) => continue,
            Err(error) => {
                unread = Some(error);
                continue;
            }
        };
        if meta["Name"].as_str() != Some(name) {
            continue;
        }
        let endpoint = &meta["Endpoints"]["docker"];
        let host = endpoint["Host"].as_str().unwrap_or_default().to_owned();
        if host.is_empty() {
            return Err(EndpointError::Config { path, why: format!("context `{name}` has no docker host") });
        }
        let skip_verify = endpoint["SkipTLSVerify"].as_bool().unwrap_or(false);
        let files = TlsFiles::within(&store.join("tls").join(entry.file_name()).join("docker"), skip_verify);
        let wants_tls = skip_verify || files.ca.is_some() || files.cert.is_some() || files.key.is_some();
        return Ok(Context { host, tls: wants_tls.then_some(files) });
    }
    Err(unread.unwrap_or_else(missing))
}

/// A JSON file, or None when it does not exist.
fn read_json(path: &Path) -> Result<Option<Value>, EndpointError> {
    let read = std::fs::metadata(path).and_then(|meta| {
        if meta.len() > FILE_BYTES {
            return Err(io::Error::other("it is longer than 4 MiB"));
        }
        std::fs::read(path)
    });
    match read {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| EndpointError::Config { path: path.to_owned(), why: format!("not JSON: {error}") }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> EndpointError {
    EndpointError::Config { path: path.to_owned(), why: error.to_string() }
}
