//! dockerd's API as plainly as it goes: for what the docker command is too slow for.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use squall::docker::EventFilter;

use super::lab::Lab;

/// A daemon's socket.
#[derive(Clone, Debug)]
pub(crate) struct Api(PathBuf);

impl Api {
    pub(crate) fn of(lab: &Lab) -> Self {
        Self(Path::new(lab.var("DOCKER_HOST").strip_prefix("unix://").unwrap()).to_owned())
    }

    /// The status and the rest of an answer, head and all.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = self.send(method, path, body)?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let status = text.get(9..12).and_then(|digits| digits.parse().ok());
        Ok((status.ok_or_else(|| io::Error::other(format!("no status: {text}")))?, text))
    }

    fn send(&self, method: &str, path: &str, body: &str) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.0)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        Ok(stream)
    }

    /// Counts the events that squall asks for, from now on, until the daemon ends.
    pub(crate) fn count_events(&self) -> Arc<AtomicU64> {
        let filter = EventFilter::storms();
        let filters = serde_json::json!({ "type": filter.types, "event": filter.actions }).to_string();
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = self.send("GET", &format!("/events?filters={encoded}"), "").unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        std::thread::spawn(move || {
            let (mut piece, mut last) = (vec![0; 64 << 10], 0);
            while let Ok(length @ 1..) = stream.read(&mut piece) {
                let mut events = 0;
                for byte in &piece[..length] {
                    // Each event ends its line.
                    events += u64::from(last == b'}' && *byte == b'\n');
                    last = *byte;
                }
                counted.fetch_add(events, Ordering::Relaxed);
            }
        });
        count
    }
}
