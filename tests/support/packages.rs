//! What packaging/build makes, which tests/run lets it do while the tests run.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long it may take: it gets the processor time that other tests leave.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The directory of the packages and of the static binary, once they are made.
pub(crate) fn packages() -> PathBuf {
    let packaging = std::env::var_os("SQUALL_PACKAGING").expect("SQUALL_PACKAGING is not set: use tests/run");
    let packaging = Path::new(&packaging);
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match fs::read_to_string(packaging.join("status")) {
            Ok(status) if status.ends_with('\n') => break status,
            _ => assert!(Instant::now() < until, "packaging/build has not ended in {PATIENCE:?}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    let log = fs::read_to_string(packaging.join("log")).unwrap();
    assert_eq!(status.trim(), "0", "packaging/build fails: {log}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages")
}
