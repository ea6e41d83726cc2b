//! Follows a file that grows and may be rotated.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// The longest line that is kept, in bytes; a longer one is dropped.
const LINE_LIMIT_BYTES: usize = 64 << 10;
/// How much is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads the lines that are written to a file from now on. A file of that name that is new, or shorter than it was,
/// is read from its start.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    position: u64,
    /// A line that is not whole yet.
    held: Vec<u8>,
    is_too_long: bool,
}

impl LogFile {
    /// Opens the file; `tail_bytes` of what is in it are read too.
    pub(super) async fn open(path: &Path, tail_bytes: u64) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        let data = file.metadata().await?;
        let position = data.len().saturating_sub(tail_bytes);
        file.seek(SeekFrom::Start(position)).await?;
        // A tail begins within a line.
        let is_too_long = position > 0 && tail_bytes > 0;
        let (path, inode) = (path.to_owned(), data.ino());
        Ok(Self { path, file: Some(file), inode, position, held: Vec::new(), is_too_long })
    }

    /// Reads what is there now; hands each whole line to `sink`. Whether there was anything.
    pub(super) async fn read(&mut self, sink: &mut (dyn FnMut(&str) + Send)) -> io::Result<bool> {
        let is_any = self.read_open(sink).await?;
        // What was written before a rotation has been read.
        let is_new = self.reopen_if_rotated().await?;
        Ok(is_any | (is_new && self.read_open(sink).await?))
    }

    async fn read_open(&mut self, sink: &mut (dyn FnMut(&str) + Send)) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut is_any = false;
        loop {
            let read = file.read(&mut chunk).await?;
            if read == 0 {
                return Ok(is_any);
            }
            is_any = true;
            self.position += read as u64;
            for part in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
                if self.held.len() + part.len() > LINE_LIMIT_BYTES {
                    self.is_too_long = true;
                }
                if !self.is_too_long {
                    self.held.extend_from_slice(part);
                }
                if part.ends_with(b"\n") {
                    if !self.is_too_long {
                        sink(&String::from_utf8_lossy(&self.held));
                    }
                    self.held.clear();
                    self.is_too_long = false;
                }
            }
        }
    }

    /// Waits until it is worth reading again.
    pub(super) async fn wait(&self) {
        tokio::time::sleep(EVERY).await;
    }

    /// Opens the file again if it is another one, or was truncated; whether it did.
    async fn reopen_if_rotated(&mut self) -> io::Result<bool> {
        let data = match tokio::fs::metadata(&self.path).await {
            Ok(data) => data,
            // Between the old and the new one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if data.ino() == self.inode && data.len() >= self.position {
            return Ok(false);
        }
        self.file = Some(File::open(&self.path).await?);
        self.inode = data.ino();
        self.position = 0;
        self.held.clear();
        self.is_too_long = false;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn lines(log: &mut LogFile) -> Vec<String> {
        let mut lines = Vec::new();
        runtime().block_on(log.read(&mut |line| lines.push(line.trim_end().to_owned()))).expect("reads");
        lines
    }

    #[test]
    fn a_rotated_file_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, "old\n").expect("writes");
        let mut log = runtime().block_on(LogFile::open(&path, 0)).expect("opens");
        assert!(lines(&mut log).is_empty());
        std::fs::write(&path, "old\na\nhal").expect("writes");
        assert_eq!(lines(&mut log), ["a"]);
        std::fs::write(&path, "old\na\nhalf\n").expect("writes");
        assert_eq!(lines(&mut log), ["half"]);
        std::fs::rename(&path, dir.path().join("log.1")).expect("renames");
        assert!(lines(&mut log).is_empty());
        std::fs::write(&path, "new\n").expect("writes");
        assert_eq!(lines(&mut log), ["new"]);
        std::fs::write(&path, "").expect("truncates");
        std::fs::write(&path, "x\n").expect("writes");
        assert_eq!(lines(&mut log), ["x"], "truncated in place");
    }

    #[test]
    fn a_tail_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, "first line\nsecond\nthird\n").expect("writes");
        let mut log = runtime().block_on(LogFile::open(&path, 15)).expect("opens");
        assert_eq!(lines(&mut log), ["second", "third"]);
    }

    #[test]
    fn a_line_without_end_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, format!("{}\nafter\n", "x".repeat(3 * LINE_LIMIT_BYTES))).expect("writes");
        let mut log = runtime().block_on(LogFile::open(&path, u64::MAX)).expect("opens");
        assert_eq!(lines(&mut log), ["after"]);
        assert!(log.held.capacity() <= 2 * LINE_LIMIT_BYTES);
    }
}
