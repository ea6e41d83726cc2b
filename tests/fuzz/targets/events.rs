//! Docker's events, a line each: read alone in the quick way and in the common way, and judged together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use squall::ingest::{Reading, read_line, read_object};
use squall_fuzz::judge;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        let first = read_line(line, 3);
        assert_eq!(first, read_line(line, 3), "reading keeps nothing");
        if let Reading::Observation(observation) = &first {
            assert_eq!(observation.origin, 3);
        }
        check_both_ways(line);
    }
    judge(&[("node1", text.as_bytes())]);
});

/// An event as Docker writes it is read in a quick way that looks at a part of it only. It must come to what the common
/// way comes to, which a space at the start brings about.
fn check_both_ways(line: &str) {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return };
    if event.get("Actor").is_none_or(|actor| !actor.is_object()) || read_object(&event, 0).is_some() {
        return;
    }
    let written = as_docker_writes(&event);
    let common = format!("{{ {}", &written[1..]);
    assert_eq!(read_line(&written, 0), read_line(&common, 0), "{written}");
}

/// The keys that matter, each once and in Docker's order.
fn as_docker_writes(event: &Value) -> String {
    let outer = entries(event, &["status", "id", "from", "Type", "Action"]);
    let actor = entries(&event["Actor"], &["ID", "Attributes"]).join(",");
    let tail = entries(event, &["scope", "time", "timeNano"]);
    let all: Vec<String> = outer.into_iter().chain([format!("\"Actor\":{{{actor}}}")]).chain(tail).collect();
    format!("{{{}}}", all.join(","))
}

fn entries(object: &Value, keys: &[&str]) -> Vec<String> {
    keys.iter().filter_map(|key| Some(format!("\"{key}\":{}", object.get(key)?))).collect()
}
