//! Opens what `replay` is given: files, directories, standard input; gzip by its first bytes.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};

use crate::ingest::Source;

/// An input that is open, and what could not be opened.
pub(super) struct Inputs {
    pub(super) sources: Vec<Source<Box<dyn Read>>>,
    pub(super) faults: Vec<InputError>,
    /// What was named on the command line, and how many of the sources it holds.
    pub(super) named: Vec<(PathBuf, usize)>,
}

/// Why an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("cannot read {path}: {source}; {advice}")]
    Open { path: String, source: io::Error, advice: &'static str },
    #[error("{path} is no recording but {what}: {advice}")]
    Binary { path: String, what: &'static str, advice: &'static str },
    #[error("{path} holds no recording: put docker events (as JSON), task listings or dockerd's log there")]
    EmptyDirectory { path: String },
}

/// How long reading takes before a progress bar is shown.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

pub(super) fn open(paths: &[PathBuf]) -> Inputs {
    let mut inputs = Inputs { sources: Vec::new(), faults: Vec::new(), named: Vec::new() };
    let progress = Rc::new(RefCell::new(Progress::new()));
    for path in paths {
        let before = inputs.sources.len();
        if path.as_os_str() == "-" {
            let input = Counted { input: Box::new(io::stdin()), progress: Rc::clone(&progress) };
            inputs.sources.push(Source {
                name: "standard input".to_owned(),
                origin: "stdin".to_owned(),
                input: Box::new(input),
            });
        } else if path.is_dir() {
            open_directory(path, &mut inputs, &progress);
        } else {
            match open_file(path, &progress) {
                Ok(source) => inputs.sources.push(source),
                Err(error) => inputs.faults.push(error),
            }
        }
        inputs.named.push((path.clone(), inputs.sources.len() - before));
    }
    inputs
}

fn cannot_open(path: String, source: io::Error) -> InputError {
    let advice = match source.kind() {
        io::ErrorKind::NotFound => "name a file, a directory, or - for standard input",
        io::ErrorKind::PermissionDenied => "run squall as a user who may read it",
        _ => "look at it, or leave it out",
    };
    InputError::Open { path, source, advice }
}

/// The files of a directory, by name: without those that begin with a dot, and without directories.
fn open_directory(path: &Path, inputs: &mut Inputs, progress: &Rc<RefCell<Progress>>) {
    let shown = path.display().to_string();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(source) => return inputs.faults.push(cannot_open(shown, source)),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.is_file() && !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect();
    files.sort_unstable();
    if files.is_empty() {
        inputs.faults.push(InputError::EmptyDirectory { path: shown });
    }
    for file in files {
        match open_file(&file, progress) {
            Ok(source) => inputs.sources.push(source),
            Err(error) => inputs.faults.push(error),
        }
    }
}

fn open_file(path: &Path, progress: &Rc<RefCell<Progress>>) -> Result<Source<Box<dyn Read>>, InputError> {
    let shown = path.display().to_string();
    let fault = |source| cannot_open(shown.clone(), source);
    let file = File::open(path).map_err(fault)?;
    progress.borrow_mut().total_bytes += file.metadata().map(|data| data.len()).unwrap_or(0);
    let counted = Counted { input: Box::new(file), progress: Rc::clone(progress) };
    let mut buffered = BufReader::new(counted);
    let start = buffered.fill_buf().map_err(fault)?;
    let is_gzip = start.starts_with(&[0x1f, 0x8b]);
    if let Some((what, advice)) = binary_kind(start).filter(|_| !is_gzip) {
        return Err(InputError::Binary { path: shown, what, advice });
    }
    let input: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(buffered)) } else { Box::new(buffered) };
    Ok(Source { name: shown, origin: origin_of(path), input })
}

/// The origin of a file: the first part of its name. Task, service and node listings are the whole Swarm's.
fn origin_of(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let first = name.split('.').next().unwrap_or_default();
    match first {
        "tasks" | "services" | "nodes" => "swarm".to_owned(),
        first => first.to_owned(),
    }
}

/// What a file is that begins like this and is no text, and what to do about it.
fn binary_kind(start: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "unpack it, and name the directory";
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some(("an xz archive", UNPACK)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("a zstd archive", UNPACK)),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(("a bzip2 archive", UNPACK)),
        [b'P', b'K', 3, 4, ..] => Some(("a zip archive", UNPACK)),
        _ if start.get(257..262) == Some(b"ustar") => Some(("a tar archive", UNPACK)),
        [b'L', b'P', b'K', b'S', b'H', b'H', b'R', b'H', ..] => {
            Some(("a binary journal", "print it with journalctl -o json --file, and name that"))
        }
        _ if start[..start.len().min(8192)].contains(&0) => {
            Some(("a binary file", "name files of docker events (as JSON), task listings or dockerd's log"))
        }
        _ => None,
    }
}

/// Shows how far reading has come, on a terminal, once it takes long.
struct Progress {
    started: Instant,
    total_bytes: u64,
    read_bytes: u64,
    bar: Option<ProgressBar>,
    is_wanted: bool,
}

impl Progress {
    fn new() -> Self {
        let is_wanted = io::stderr().is_terminal();
        Self { started: Instant::now(), total_bytes: 0, read_bytes: 0, bar: None, is_wanted }
    }

    fn add(&mut self, bytes: usize) {
        self.read_bytes += bytes as u64;
        if !self.is_wanted || self.total_bytes == 0 {
            return;
        }
        if self.bar.is_none() && self.started.elapsed() > PROGRESS_AFTER {
            let bar = ProgressBar::new(self.total_bytes);
            let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            self.bar = Some(style.map_or(bar.clone(), |style| bar.with_style(style)));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.read_bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

struct Counted {
    input: Box<dyn Read>,
    progress: Rc<RefCell<Progress>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.progress.borrow_mut().add(read);
        Ok(read)
    }
}
