//! The programs of `examples/` do what they say.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "what they print")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

const PATIENCE: Duration = Duration::from_secs(20);

/// Cargo builds the examples beside the program, with the tests.
fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_squall")).with_file_name("examples").join(name);
    assert!(path.exists(), "{} is not built", path.display());
    path
}

#[test]
fn the_detector_finds_the_incident_in_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tasks.ndjson");
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/incident/tasks.ndjson.gz");
    let mut tasks = GzDecoder::new(File::open(recorded).unwrap());
    std::io::copy(&mut tasks, &mut File::create(&path).unwrap()).unwrap();
    let input = Stdio::from(File::open(&path).unwrap());
    let output = Command::new(example("detector")).stdin(input).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    assert!(output.status.success());
    // Listings alone have no names of services.
    let storms = said.lines().filter(|line| line.contains(" storm: ")).count();
    let mounts = said.lines().filter(|line| line.contains(": mount: invalid mount config")).count();
    assert_eq!((storms, mounts), (34, 30), "storms, and those that miss their mount");
}

#[test]
fn the_receiver_prints_a_drill() {
    let dir = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = dir.path().join("squall.toml");
    fs::write(&config, format!("[[receiver]]\nname = \"mine\"\ntype = \"webhook\"\nurl = \"http://{address}/\"\n"))
        .unwrap();
    let mut receiver =
        Command::new(example("receiver")).arg(address.to_string()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(receiver.stdout.take().unwrap()).lines();
    let began = Instant::now();
    // Until it listens the drill does not arrive.
    let drilled = loop {
        let drill = Command::new(env!("CARGO_BIN_EXE_squall"))
            .args(["--config", config.to_str().unwrap(), "alert", "test", "mine"])
            .output()
            .unwrap();
        if drill.status.success() || began.elapsed() > PATIENCE {
            break drill;
        }
    };
    let line = if drilled.status.success() { said.next().map(Result::unwrap) } else { None };
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    println!("{line:?}");
    assert!(drilled.status.success(), "{}", String::from_utf8_lossy(&drilled.stderr));
    assert!(line.is_some_and(|line| line.contains("drill")), "the title of the drill");
}
