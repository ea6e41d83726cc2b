//! What cannot be read costs a sentence that names it and says what to do, and nothing of what could be read.

#[path = "support/scenario.rs"]
mod scenario;

use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use scenario::{squall, swarm3, swarm3_file};
use serde_json::Value;
use tempfile::TempDir;

const EVENTS: &str = "node1.events.ndjson.gz";
/// The length of the long line.
const LONG_BYTES: usize = 100_000_000;
const LONG_PEAK_KIB: u64 = 64 << 10;

struct Outcome {
    status: Option<i32>,
    report: Value,
    stderr: String,
}

fn replay(inputs: &[&Path]) -> Outcome {
    let output = squall().args(["replay", "--format", "json"]).args(inputs).output().expect("squall runs");
    Outcome {
        status: output.status.code(),
        report: serde_json::from_slice(&output.stdout).expect("what was readable is reported"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Replays something bad by itself and next to good events: the one sentence is the same, and the events count.
#[track_caller]
fn check(bad: &Path, wanted: &[&str]) -> Outcome {
    let alone = replay(&[bad]);
    assert_one_sentence(&alone.stderr, bad, wanted);
    assert_eq!(alone.status, Some(2), "{}", alone.stderr);
    let good = swarm3().join(EVENTS);
    for inputs in [[bad, &good], [&*good, bad]] {
        let both = replay(&inputs);
        assert_eq!(both.stderr, alone.stderr);
        assert_eq!(both.status, Some(2));
        assert!(storms(&both.report) >= storms(&replay(&[&good]).report), "nothing readable is lost");
        assert!(storms(&both.report) > 0);
    }
    alone
}

#[track_caller]
fn assert_one_sentence(stderr: &str, thing: &Path, wanted: &[&str]) {
    assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
    assert!(stderr.starts_with("squall: "), "{stderr}");
    assert!(stderr.contains(&*thing.to_string_lossy()), "it names {}: {stderr}", thing.display());
    for word in wanted {
        assert!(stderr.contains(word), "it says {word:?}: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// What to do about it is said in an imperative: one of these.
#[track_caller]
fn assert_next_step(stderr: &str) {
    const STEPS: [&str; 9] = ["name ", "check ", "put ", "unpack ", "record ", "run ", "read it ", "give ", "make "];
    assert!(STEPS.iter().any(|step| stderr.contains(step)), "it says what to do: {stderr}");
}

fn storms(report: &Value) -> usize {
    report["storms"].as_array().expect("a list").len()
}

#[test]
fn a_missing_file() {
    let directory = TempDir::new().expect("a directory");
    let outcome = check(&directory.path().join("nowhere.ndjson"), &["No such file or directory"]);
    assert_next_step(&outcome.stderr);
}

#[test]
fn a_link_to_nothing() {
    let directory = TempDir::new().expect("a directory");
    let link = directory.path().join("link");
    symlink("/nowhere/at/all", &link).expect("a link");
    check(&link, &["No such file or directory"]);
}

#[test]
fn an_empty_directory() {
    let directory = TempDir::new().expect("a directory");
    let outcome = check(directory.path(), &["no recording", "docker events"]);
    assert_next_step(&outcome.stderr);
}

#[test]
fn a_directory_without_recordings() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("README.txt"), "hello\nthere\n").expect("written");
    fs::write(directory.path().join(".hidden"), "{}\n").expect("written");
    fs::create_dir(directory.path().join("deeper")).expect("made");
    let outcome = check(directory.path(), &["docker events"]);
    assert_next_step(&outcome.stderr);
}

#[test]
fn a_binary_file() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("squall.bin");
    fs::copy(env!("CARGO_BIN_EXE_squall"), &path).expect("copied");
    let outcome = check(&path, &["binary file"]);
    assert_next_step(&outcome.stderr);
}

#[test]
fn a_binary_file_that_is_packed() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("squall.gz");
    let mut packed = flate2::write::GzEncoder::new(File::create(&path).expect("made"), flate2::Compression::fast());
    let bytes: Vec<u8> = fs::read(env!("CARGO_BIN_EXE_squall")).expect("read").into_iter().take(200_000).collect();
    packed.write_all(&bytes).expect("written");
    packed.finish().expect("written");
    let outcome = check(&path, &[]);
    assert_next_step(&outcome.stderr);
}

#[test]
fn archives() {
    let directory = TempDir::new().expect("a directory");
    let mut tar = vec![0_u8; 1024];
    tar[..10].copy_from_slice(b"tasks.json");
    tar[257..263].copy_from_slice(b"ustar\0");
    let cases: [(&str, &[u8], &str); 5] = [
        ("swarm.tar.xz", b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01", "an xz archive"),
        ("swarm.tar.zst", b"\x28\xb5\x2f\xfd\x04\x00", "a zstd archive"),
        ("swarm.tar.bz2", b"BZh91AY&SY", "a bzip2 archive"),
        ("swarm.zip", b"PK\x03\x04\x14\0\0\0", "a zip archive"),
        ("swarm.tar", &tar, "a tar archive"),
    ];
    for (name, bytes, kind) in cases {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("written");
        let outcome = check(&path, &[kind, "unpack it"]);
        assert_next_step(&outcome.stderr);
    }
    let journal = directory.path().join("system.journal");
    fs::write(&journal, b"LPKSHHRH\0\0\0\0\0\0\0\0").expect("written");
    check(&journal, &["a binary journal", "journalctl -o json"]);
}

#[test]
fn a_gzip_that_is_cut_off_gives_what_came_before_the_cut() {
    let directory = TempDir::new().expect("a directory");
    let whole = fs::read(swarm3().join("tasks.ndjson.gz")).expect("read");
    let path = directory.path().join("tasks.ndjson.gz");
    fs::write(&path, &whole[..whole.len() * 2 / 3]).expect("written");
    let outcome = check(&path, &["cannot read", "to its end", "what came before it counts"]);
    assert_eq!(storms(&outcome.report), 11);
    let attempts = |report: &Value| -> u64 {
        report["storms"].as_array().expect("a list").iter().filter_map(|storm| storm["attempts"].as_u64()).sum()
    };
    let share =
        attempts(&outcome.report) as f64 / attempts(&replay(&[&swarm3().join("tasks.ndjson.gz")]).report) as f64;
    assert!((0.5..0.8).contains(&share), "{share} of the attempts were in two thirds of the file");
    assert_eq!(outcome.report["origins"][0]["id"], "swarm");
}

#[test]
fn a_gzip_with_a_wrong_checksum_gives_all_it_holds() {
    let directory = TempDir::new().expect("a directory");
    let mut bytes = fs::read(swarm3().join("tasks.ndjson.gz")).expect("read");
    let crc = bytes.len() - 8;
    bytes[crc] ^= 1;
    let path = directory.path().join("tasks.ndjson.gz");
    fs::write(&path, bytes).expect("written");
    let outcome = check(&path, &["cannot read"]);
    assert_eq!(storms(&outcome.report), 11);
}

#[test]
fn events_that_were_printed_without_a_format() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("events.txt");
    let line = "2026-11-20T20:21:26.123456789Z container die 5f3c2a (exitCode=1, image=shop/web:1, name=web)\n";
    fs::write(&path, line.repeat(20)).expect("written");
    let outcome = check(&path, &["--format '{{json .}}'"]);
    assert_eq!(outcome.report["skipped"]["reasons"]["events-without-json-format"], 20);
}

#[test]
fn a_container_that_says_it_was_restarted_more_often_than_can_be_makes_no_nonsense_of_the_counts() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("node1.containers.ndjson");
    let line = format!(
        r#"{{"Id":"c1","Name":"/web","RestartCount":{},"State":{{"Restarting":true,"ExitCode":1,"StartedAt":"2026-11-20T20:01:00Z"}},"Config":{{"Image":"shop/web:1","Labels":{{}}}}}}"#,
        u64::MAX
    );
    fs::write(&path, line).expect("written");
    let outcome = replay(&[&path]);
    let storm = &outcome.report["storms"][0];
    let count = |name: &str| storm[name].as_u64().expect("a count");
    assert!(count("attempts") >= count("failed") && count("failed") > 1000, "{storm}");
}

#[test]
fn a_file_that_may_not_be_read() {
    let directory = TempDir::new().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("set");
    let path = directory.path().join("tasks.ndjson");
    fs::write(&path, swarm3_file("tasks.ndjson.gz")).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("set");
    // Root may read everything: then a copy of the program runs as nobody, from where nobody may run it.
    let program = directory.path().join("squall");
    fs::copy(env!("CARGO_BIN_EXE_squall"), &program).expect("copied");
    let good = directory.path().join("node1.ndjson");
    fs::write(&good, swarm3_file(EVENTS)).expect("written");
    fs::set_permissions(&good, Permissions::from_mode(0o644)).expect("set");
    let mut command = Command::new(&program);
    command.args(["replay", "-f", "json"]).args([&path, &good]).env_remove("SQUALL_CONFIG").current_dir("/");
    if fs::metadata(&path).expect("there").uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let output = command.output().expect("squall runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_one_sentence(&stderr, &path, &["cannot read", "Permission denied"]);
    assert_eq!(output.status.code(), Some(2));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(storms(&report) > 0, "the other file was read");
    assert_next_step(&stderr);
}

#[test]
fn a_line_of_100_megabytes_costs_itself_only_and_no_memory() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("node1.events.ndjson");
    let events = swarm3_file(EVENTS);
    let (before, after) = events.split_at(events[..events.len() / 2].rfind('\n').expect("lines") + 1);
    let mut file = BufWriter::new(File::create(&path).expect("made"));
    file.write_all(before.as_bytes()).expect("written");
    file.write_all(br#"{"Type":"container","Action":"die","Actor":{"ID":""#).expect("written");
    let block = vec![b'x'; 1_000_000];
    for _ in 0..LONG_BYTES / block.len() {
        file.write_all(&block).expect("written");
    }
    file.write_all(b"\"}}\n").expect("written");
    file.write_all(after.as_bytes()).expect("written");
    file.into_inner().expect("written").sync_all().expect("written");

    let expected = replay(&[&swarm3().join(EVENTS)]).report;
    let outcome = check(&path, &["a line is longer than 4 MiB"]);
    assert_eq!(outcome.report["storms"], expected["storms"]);
    assert_eq!(outcome.report["skipped"]["reasons"]["line-too-long"], 1);
    let peak = peak_kib(&path);
    assert!(peak < LONG_PEAK_KIB, "{peak} KiB at the most");
}

#[test]
fn an_array_with_an_object_of_100_megabytes_costs_that_only_and_no_memory() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("tasks.json");
    let tasks = swarm3_file("tasks.ndjson.gz");
    let mut file = BufWriter::new(File::create(&path).expect("made"));
    file.write_all(b"[{\"x\":\"").expect("written");
    let block = vec![b'{'; 1_000_000];
    for _ in 0..LONG_BYTES / block.len() {
        file.write_all(&block).expect("written");
    }
    file.write_all(b"\"},").expect("written");
    file.write_all(tasks.trim_end().replace('\n', ",").as_bytes()).expect("written");
    file.write_all(b"]\n").expect("written");
    file.flush().expect("written");
    let outcome = check(&path, &["longer than 4 MiB"]);
    assert_eq!(storms(&outcome.report), 11);
    let peak = peak_kib(&path);
    assert!(peak < LONG_PEAK_KIB, "{peak} KiB at the most");
}

/// The most memory that squall held while it read a file from its standard input, which is still open then.
fn peak_kib(path: &Path) -> u64 {
    let mut child = spawn(&["replay", "-f", "json", "-"]);
    let mut stdin = child.stdin.take().expect("piped");
    std::io::copy(&mut File::open(path).expect("there"), &mut stdin).expect("squall reads it");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(!output.stdout.is_empty());
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says the peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn spawn(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_squall"))
        .args(arguments)
        .env_remove("SQUALL_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("squall runs")
}

#[test]
fn a_reader_that_has_gone_is_no_fault() {
    for format in ["json", "table", "nagios"] {
        let mut child = spawn(&["replay", "-f", format, "-"]);
        // Gone before there is anything to read.
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(swarm3_file("tasks.ndjson.gz").as_bytes()).expect("squall reads it");
        drop(stdin);
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        assert_eq!(stderr, "", "{format}");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(if format == "nagios" { 2 } else { 1 }), "{format}");
    }
}

#[test]
fn a_full_disk_is_said() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { panic!("this is no Linux") };
    let output = Command::new(env!("CARGO_BIN_EXE_squall"))
        .args(["replay", "-f", "json"])
        .arg(swarm3())
        .env_remove("SQUALL_CONFIG")
        .stdout(full)
        .output()
        .expect("squall runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
}

#[test]
fn wrong_flags_and_no_arguments() {
    for (arguments, wanted) in [
        (&["replay", "--wrong"][..], "--wrong"),
        (&["replay"], "<FILE>"),
        (&["replay", "-f", "xml", "x"], "xml"),
        (&["frobnicate"], "frobnicate"),
        (&["--config"], "--config"),
        (&[], "Usage: squall [OPTIONS] <COMMAND>"),
    ] {
        let output = squall().args(arguments).output().expect("squall runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "standard output is for data");
        assert!(stderr.contains(wanted) && stderr.contains("--help"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn settings_that_cannot_be_read() {
    let directory = TempDir::new().expect("a directory");
    let wrong: PathBuf = directory.path().join("squall.toml");
    fs::write(&wrong, "nonsense = true\n").expect("written");
    for path in [wrong, directory.path().join("nowhere.toml")] {
        let output = squall().arg("--config").arg(&path).arg("replay").arg(swarm3()).output().expect("squall runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr.starts_with("squall: ") && stderr.contains(&*path.to_string_lossy()), "{stderr}");
    }
}

#[test]
fn every_bad_input_has_its_own_sentence() {
    let directory = TempDir::new().expect("a directory");
    let (missing, empty) = (directory.path().join("missing"), directory.path().join("empty"));
    fs::create_dir(&empty).expect("made");
    let outcome = replay(&[&missing, &swarm3(), &empty]);
    assert_eq!(outcome.status, Some(2));
    assert_eq!(storms(&outcome.report), 11);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("missing") && lines[1].contains("empty"), "{lines:?}");
}

#[test]
fn an_empty_input_is_calm_and_says_that_it_saw_nothing() {
    let output = squall().args(["replay", "-f", "json", "-"]).write_stdin("").output().expect("squall runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["span"], Value::Null);
    assert_eq!((output.status.code(), storms(&report)), (Some(0), 0));
}
