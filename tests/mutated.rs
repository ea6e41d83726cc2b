//! Lines of the recordings with something wrong in each, by the hundred thousand, through `squall replay`: it reads them
//! to their end, judges what can be read, and holds no more memory than it may.
//!
//! `SQUALL_MUTATED_LINES=1000000 cargo test --test mutated -- --nocapture` takes a million, and `SQUALL_MUTATED_SEED`
//! another seed.
#![expect(clippy::print_stdout, reason = "figures and the seed")]

#[path = "support/damage.rs"]
mod damage;
#[path = "support/scenario.rs"]
mod scenario;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use damage::{Random, damage};
use scenario::{SWARM3_FILES, swarm3_file};
use serde_json::Value;

/// How many lines in each run of all tests: a few seconds.
const LINES: u64 = 100_000;
const SEED: u64 = 0x5ca1_ab1e;
/// What squall may hold, in KiB: a million lines take 22 MiB, as damaged ids are new ones; the rest is room for the
/// allocator.
const PEAK_MAX_KIB: u64 = 64 << 10;
/// The same as a limit that the kernel holds, to the very end of the process: in address space, of which there is more.
const ADDRESSES_MAX_KIB: u64 = 256 << 10;

/// A number of the environment.
fn setting(name: &str, default: u64) -> u64 {
    let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"));
    std::env::var(name).map_or(default, number)
}

fn lines() -> Vec<String> {
    let files = SWARM3_FILES.iter().filter(|name| !name.ends_with(".json")).map(|name| swarm3_file(name));
    let mut lines: Vec<String> = files.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    for name in ["services.json", "nodes.json"] {
        let list: Vec<Value> = serde_json::Deserializer::from_str(&swarm3_file(name))
            .into_iter()
            .map(|value| value.expect("the recording is JSON"))
            .collect();
        lines.extend(list.iter().flat_map(|value| match value {
            Value::Array(objects) => objects.iter().map(Value::to_string).collect(),
            object => vec![object.to_string()],
        }));
    }
    lines
}

/// squall, with its memory limited by the shell that becomes it.
fn spawn() -> Child {
    let script = format!("ulimit -v {ADDRESSES_MAX_KIB}; exec \"$0\" replay --format json -");
    Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_squall")])
        .env_remove("SQUALL_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("squall runs")
}

fn peak_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("status"));
    let status = status.expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says the peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn mutated_lines_of_the_recordings_break_nothing_and_cost_bounded_memory() {
    let (count, seed) = (setting("SQUALL_MUTATED_LINES", LINES), setting("SQUALL_MUTATED_SEED", SEED).max(1));
    println!("{count} lines of seed {seed}");
    let (lines, mut random) = (lines(), Random(seed));
    assert!(lines.len() > 1000, "the recordings are there");
    let mut child = spawn();
    let mut input = BufWriter::new(child.stdin.take().expect("piped"));
    for _ in 0..count {
        let line = &lines[random.index(lines.len())];
        input.write_all(&damage(line.as_bytes(), &mut random)).expect("squall reads on");
        input.write_all(b"\n").expect("squall reads on");
    }
    // What is half an array or object at the end is not waited for.
    input.write_all(b"]}\n").and_then(|()| input.flush()).expect("squall reads on");
    let peak = peak_kib(&child);
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0..=2)), "seed {seed}: {:?} {stderr}", output.status);
    assert!(!stderr.contains("panicked"), "seed {seed}: {stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let skipped = report["skipped"]["lines"].as_u64().expect("a count");
    let read = report["origins"][0]["observations"].as_u64().expect("a count");
    let storms = report["storms"].as_array().expect("a list").len();
    println!("{read} observations, {skipped} skipped, {storms} storms, {} MiB at the peak", peak >> 10);
    // Lines that are all bad, or hardly one, would prove nothing.
    assert!(read > count / 5 && skipped > count / 5, "{read} and {skipped} of {count}");
    assert!(storms > 0, "what can be read is judged");
    assert!(peak < PEAK_MAX_KIB, "seed {seed}: {peak} KiB");
}
