//! `squall replay` of a real recording, in every form in which people have such recordings.

#[path = "support/scenario.rs"]
mod scenario;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use scenario::{SWARM3_FILES, report_of, squall, swarm3, swarm3_file};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What is true of a recording, by service.
#[derive(Clone, Debug, PartialEq)]
struct Truth {
    cause: Option<String>,
    attempts: u64,
    failed: u64,
    pinned: bool,
}

fn truth_of(directory: &Path) -> BTreeMap<String, Truth> {
    let text = fs::read_to_string(directory.join("truth.json")).expect("the recording has a truth.json");
    let truth: Value = serde_json::from_str(&text).expect("truth.json is JSON");
    let services = truth.as_object().expect("an object").iter().map(|(name, facts)| {
        let number = |key: &str| facts[key].as_u64().expect("a number");
        let is_storm = facts["storm"].as_bool().expect("a boolean");
        let truth = Truth {
            cause: is_storm.then(|| facts["cause"].as_str().expect("a cause").to_owned()),
            attempts: number("attempts"),
            failed: number("failed"),
            pinned: facts["pinned"].as_bool().expect("a boolean"),
        };
        (name.clone(), truth)
    });
    services.collect()
}

/// The storms that are true.
fn storms_of(directory: &Path) -> BTreeMap<String, Truth> {
    truth_of(directory).into_iter().filter(|(_, truth)| truth.cause.is_some()).collect()
}

fn found(report: &Value) -> BTreeMap<String, Truth> {
    let storms = report["storms"].as_array().expect("a list of storms");
    let found: BTreeMap<String, Truth> = storms
        .iter()
        .map(|storm| {
            let truth = Truth {
                cause: storm["cause"].as_str().map(str::to_owned),
                attempts: storm["attempts"].as_u64().expect("a number"),
                failed: storm["failed"].as_u64().expect("a number"),
                pinned: storm["pinned"].as_bool().expect("a boolean"),
            };
            (storm["subject"]["name"].as_str().expect("a name").to_owned(), truth)
        })
        .collect();
    assert_eq!(found.len(), storms.len(), "one storm for each subject");
    found
}

fn assert_found_early(report: &Value) {
    for storm in report["storms"].as_array().expect("a list of storms") {
        let after = storm["detected_after_failures"].as_u64().expect("a number");
        let length = |field: &str| storm[field].as_array().expect("a list").len() as u64;
        // Three failures of each slot, or node where slots have no numbers; of a single one six.
        let slots = storm["replicas"].as_u64().unwrap_or(length("slots").max(length("nodes")));
        let most = 6.max(3 * slots);
        assert!(after <= most, "{}: found after {after} failures", storm["subject"]["name"]);
    }
}

/// The causes that only dockerd's log tells read `pull-failed` without it.
fn without_log(mut storms: BTreeMap<String, Truth>) -> BTreeMap<String, Truth> {
    const ONLY_THE_LOG: [&str; 7] = [
        "image-missing",
        "registry-auth",
        "registry-quota",
        "registry-abuse",
        "registry-limit",
        "registry-unreachable",
        "registry-error",
    ];
    for truth in storms.values_mut() {
        if truth.cause.as_deref().is_some_and(|cause| ONLY_THE_LOG.contains(&cause)) {
            truth.cause = Some("pull-failed".to_owned());
        }
    }
    storms
}

/// Those of the recording's files whose name holds one of some words.
fn files(words: &[&str]) -> Vec<PathBuf> {
    let named = SWARM3_FILES.iter().filter(|name| words.iter().any(|word| name.contains(word)));
    named.map(|name| swarm3().join(name)).collect()
}

/// A directory with files of the recording, each changed by `change` and given its new name.
fn changed(words: &[&str], change: impl Fn(&str, &str) -> (String, String)) -> TempDir {
    let directory = TempDir::new().expect("a directory");
    for name in SWARM3_FILES.iter().filter(|name| words.iter().any(|word| name.contains(word))) {
        let (name, text) = change(name, &swarm3_file(name));
        fs::write(directory.path().join(name), text).expect("it can be written");
    }
    directory
}

fn assert_truth(report: &Value) {
    assert_eq!(found(report), storms_of(&swarm3()));
    assert_found_early(report);
}

#[test]
fn a_real_swarm_gives_exactly_the_storms_that_are_true() {
    let (report, status) = report_of([swarm3()]);
    assert_truth(&report);
    assert_eq!(status, Some(1));
    assert_eq!(report["findings"], json!([]));
    let calm = truth_of(&swarm3()).len() - storms_of(&swarm3()).len();
    // s-noauth, which found an image after one failure, and a global service that was removed before.
    assert_eq!(report["calm"].as_u64().expect("a number"), calm as u64 + 2);
    for storm in report["storms"].as_array().expect("a list") {
        assert_eq!(storm["state"], "ongoing");
        assert_eq!(storm["nodes"], json!(["node1", "node2", "node3"]), "{}", storm["subject"]["name"]);
        let pulls = !storm["pinned"].as_bool().expect("a boolean");
        assert_eq!(storm["pulls"], json!(pulls), "{}", storm["subject"]["name"]);
    }
    assert_eq!(report["skipped"], json!({"lines": 1, "reasons": {"unknown-object": 1}}), "truth.json is no recording");
}

#[test]
fn without_the_logs_the_same_storms_are_found() {
    let (report, _) = report_of(files(&["events", ".json", "tasks"]));
    assert_eq!(found(&report), without_log(storms_of(&swarm3())));
    assert_found_early(&report);
}

#[test]
fn the_task_list_alone_tells_every_storm() {
    let (report, _) = report_of(files(&["tasks", ".json"]));
    let mut expected = without_log(storms_of(&swarm3()));
    // A memory limit stands for the oom event.
    assert_eq!(expected["s-oom"].cause.as_deref(), Some("oom"));
    assert_eq!(found(&report), expected);
    assert_found_early(&report);
    // Without the listing of services they have no names, and all else is the same.
    let (report, _) = report_of(files(&["tasks"]));
    let unnamed: Vec<_> =
        found(&report).into_values().map(|truth| (truth.cause, truth.attempts, truth.failed)).collect();
    let mut by_truth: Vec<_> =
        std::mem::take(&mut expected).into_values().map(|truth| (truth.cause, truth.attempts, truth.failed)).collect();
    let mut unnamed = unnamed;
    unnamed.sort();
    by_truth.sort();
    assert_eq!(unnamed, by_truth);
}

#[test]
fn events_alone_tell_the_storms_that_make_container_events() {
    let (report, status) = report_of(files(&["events"]));
    let found: BTreeMap<String, Option<String>> =
        found(&report).into_iter().map(|(name, truth)| (name, truth.cause)).collect();
    let expected = [
        ("s-entry", "unknown"),
        ("s-exit", "app-exit"),
        ("s-exit-pinned", "app-exit"),
        ("s-health", "health-check"),
        ("s-many", "app-exit"),
        ("s-oom", "oom"),
    ];
    let expected = expected.map(|(name, cause)| (name.to_owned(), Some(cause.to_owned())));
    assert_eq!(found, BTreeMap::from(expected));
    assert_eq!(status, Some(1));
}

#[test]
fn the_logs_alone_tell_every_storm_and_its_cause() {
    let (report, _) = report_of(files(&["dockerd.log", ".json"]));
    let causes = |storms: BTreeMap<String, Truth>| -> BTreeMap<String, Option<String>> {
        storms.into_iter().map(|(name, truth)| (name, truth.cause)).collect()
    };
    assert_eq!(causes(found(&report)), causes(storms_of(&swarm3())));
    assert_found_early(&report);
    // Without any listing the service's id is all there is to call it by.
    let (report, _) = report_of(files(&["dockerd.log"]));
    assert_eq!(found(&report).len(), storms_of(&swarm3()).len());
}

#[test]
fn one_nodes_files_are_enough_to_find_what_failed_there() {
    let (report, _) = report_of(files(&["node2"]));
    // The logs name services by id, the events by name: both are one subject.
    assert_eq!(found(&report).len(), storms_of(&swarm3()).len());
}

#[test]
fn a_single_stream_on_standard_input_gives_the_same() {
    // All files behind one another would be out of time; in the order of time they are one stream.
    let mut lines: Vec<(String, String)> = Vec::new();
    for name in SWARM3_FILES {
        let text = swarm3_file(name);
        if name.ends_with(".json") {
            // Listings are known from the start.
            lines.push((String::new(), text));
            continue;
        }
        let mut time = String::new();
        for line in text.lines() {
            time = time_of(line).unwrap_or(time);
            lines.push((time.clone(), line.to_owned()));
        }
    }
    lines.sort();
    let stream: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
    let output = squall().args(["replay", "-", "-f", "json"]).write_stdin(stream).output().expect("squall runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_truth(&report);
    assert_eq!(report["origins"][0]["id"], "stdin");
    let events = swarm3_file(SWARM3_FILES[0]);
    let output = squall().args(["replay", "-f", "json", "-"]).write_stdin(events).output().expect("squall runs");
    let from_stdin: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let (from_file, _) = report_of([swarm3().join(SWARM3_FILES[0])]);
    assert_eq!(from_stdin["storms"], from_file["storms"]);
}

/// The time of a line as text that sorts.
fn time_of(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("time=\"") {
        return rest.split_once('"').and_then(|(time, _)| time.parse::<jiff::Timestamp>().ok()).map(sortable);
    }
    let object: Value = serde_json::from_str(line).ok()?;
    if let Some(nanos) = object["timeNano"].as_i64() {
        return jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok().map(sortable);
    }
    object["UpdatedAt"].as_str()?.parse::<jiff::Timestamp>().ok().map(sortable)
}

fn sortable(time: jiff::Timestamp) -> String {
    format!("{time:.9}")
}

#[test]
fn the_journal_as_json_tells_the_same_as_the_log_file() {
    let directory = changed(&["node", "tasks", "services"], |name, text| {
        if !name.contains("dockerd.log") {
            return (name.trim_end_matches(".gz").to_owned(), text.to_owned());
        }
        let entries = text.lines().map(|line| {
            let micros = time_of(line)
                .and_then(|time| time.parse::<jiff::Timestamp>().ok())
                .map(jiff::Timestamp::as_microsecond);
            let entry = json!({
                "__CURSOR": "s=1", "__REALTIME_TIMESTAMP": micros.unwrap_or(0).to_string(), "PRIORITY": "6",
                "_COMM": "dockerd", "_SYSTEMD_UNIT": "docker.service", "SYSLOG_IDENTIFIER": "dockerd", "_PID": "7",
                "_HOSTNAME": "node", "MESSAGE": line,
            });
            entry.to_string() + "\n"
        });
        (name.replace(".dockerd.log.gz", ".journal.json"), entries.collect())
    });
    let (report, _) = report_of([directory.path()]);
    assert_truth(&report);
}

#[test]
fn syslog_lines_tell_the_same_as_the_log_file() {
    for prefix in ["Nov 20 20:21:26 node-1 dockerd[812]: ", "2026-11-20T20:21:26.378254+00:00 node-1 dockerd[812]: "] {
        let directory = changed(&["node", "tasks", "services"], |name, text| {
            if !name.contains("dockerd.log") {
                return (name.trim_end_matches(".gz").to_owned(), text.to_owned());
            }
            let other = "Nov 20 20:21:26 node-1 sshd[1]: Accepted publickey for root\n";
            let lines: String = text.lines().map(|line| format!("{prefix}{line}\n")).collect();
            (name.replace(".dockerd.log.gz", ".messages"), format!("{other}{lines}"))
        });
        let (report, _) = report_of([directory.path()]);
        assert_truth(&report);
        assert_eq!(report["skipped"]["reasons"]["other-program"], 3);
    }
}

#[test]
fn arrays_tell_the_same_as_lines() {
    for pretty in [false, true] {
        let directory = changed(&["node", "tasks", "services"], |name, text| {
            let plain = name.trim_end_matches(".gz").to_owned();
            if !name.contains("ndjson") && !name.ends_with(".json") {
                return (plain, text.to_owned());
            }
            let objects: Value = if name.contains("ndjson") {
                text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect()
            } else {
                serde_json::from_str(text).expect("JSON")
            };
            let array = if pretty { serde_json::to_string_pretty(&objects) } else { serde_json::to_string(&objects) };
            (plain.replace("ndjson", "json"), array.expect("it was JSON"))
        });
        let (report, _) = report_of([directory.path()]);
        assert_truth(&report);
        assert_eq!(report["skipped"]["lines"], 0, "pretty: {pretty}");
    }
}

#[test]
fn files_of_windows_tell_the_same() {
    let directory = changed(&["node", "tasks", "services"], |name, text| {
        (name.trim_end_matches(".gz").to_owned(), text.replace('\n', "\r\n"))
    });
    let (report, _) = report_of([directory.path()]);
    assert_truth(&report);
    assert_eq!(report["skipped"]["lines"], 0);
}

#[test]
fn the_exit_status_and_the_words_for_nagios_tell_storms_from_calm() {
    let calm_tasks = swarm3_file("tasks.ndjson.gz")
        .lines()
        .filter(|line| line.contains("/app:1@") || line.contains("/c-"))
        .map(|line| line.to_owned() + "\n")
        .collect::<String>();
    let directory = TempDir::new().expect("a directory");
    let calm = directory.path().join("tasks.ndjson");
    fs::write(&calm, calm_tasks).expect("it can be written");
    let run = |format: &str, input: &Path| {
        let output = squall().args(["replay", "--format", format]).arg(input).output().expect("squall runs");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text"),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for (format, input, status) in [
        ("table", &calm, 0),
        ("json", &calm, 0),
        ("nagios", &calm, 0),
        ("table", &swarm3(), 1),
        ("json", &swarm3(), 1),
        ("nagios", &swarm3(), 2),
    ] {
        let (code, stdout, stderr) = run(format, input);
        assert_eq!(code, Some(status), "{format} {}: {stdout} {stderr}", input.display());
        assert_eq!(stderr, "", "{format}");
        if format == "nagios" {
            assert_eq!(stdout.lines().count(), 1);
            let (words, data) = if status == 0 {
                ("SQUALL OK - ", "storms=0;;0 ")
            } else {
                ("SQUALL CRITICAL - 11 storms: ", "storms=11;;0 ")
            };
            assert!(stdout.starts_with(words) && stdout.contains(&format!(" | {data}")), "{stdout}");
        }
    }
    let (_, table, _) = run("table", &swarm3());
    assert!(table.starts_with("11 storms"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "a line is wider than 80 columns:\n{table}");
    assert!(!table.contains('\x1b'), "colour, and no terminal");
}

#[test]
fn a_single_listing_finds_the_running_storms_from_history() {
    // As GET /tasks gives it at one moment: the last version of each of the 5 tasks a slot that are kept, by id.
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    for line in swarm3_file("tasks.ndjson.gz").lines() {
        let task: Value = serde_json::from_str(line).expect("JSON");
        last.insert(task["ID"].as_str().expect("an id").to_owned(), task);
    }
    let mut slots: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (id, task) in &last {
        let slot = match task["Slot"].as_u64() {
            Some(slot) => slot.to_string(),
            None => task["NodeID"].as_str().unwrap_or_default().to_owned(),
        };
        let created = task["CreatedAt"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).map(sortable);
        slots.entry(format!("{} {slot}", task["ServiceID"])).or_default().push((created.expect("a time"), id.clone()));
    }
    let mut kept: Vec<&str> = Vec::new();
    for tasks in slots.values_mut() {
        tasks.sort();
        kept.extend(tasks.iter().rev().take(5).map(|(_, id)| id.as_str()));
    }
    kept.sort_unstable();
    let listing: Vec<&Value> = kept.iter().map(|id| &last[*id]).collect();
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("tasks.json"), serde_json::to_string(&listing).expect("JSON")).expect("written");
    fs::write(directory.path().join("services.json"), swarm3_file("services.json")).expect("written");
    let (report, status) = report_of([directory.path()]);
    let causes: BTreeMap<_, _> = found(&report).into_iter().map(|(name, truth)| (name, truth.cause)).collect();
    let expected: BTreeMap<_, _> =
        without_log(storms_of(&swarm3())).into_iter().map(|(name, truth)| (name, truth.cause)).collect();
    assert_eq!(causes, expected);
    assert_eq!(status, Some(1));
}

#[test]
fn a_report_has_the_fields_of_its_schema() {
    let (report, _) = report_of([swarm3()]);
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(report["schema"], "squall.report/1");
    for field in ["schema", "span", "origins", "storms", "calm", "skipped"] {
        assert!(keys(&report).contains(&field.to_owned()), "{field}");
    }
    assert_eq!(keys(&report["span"]), ["from", "to"]);
    for origin in report["origins"].as_array().expect("a list") {
        assert_eq!(keys(origin), ["engine", "gaps", "id", "observations"]);
        assert!(origin["observations"].as_u64().expect("a number") > 0);
    }
    let engines: Vec<_> = report["origins"].as_array().expect("a list").iter().map(|o| o["engine"].clone()).collect();
    assert_eq!(engines, [json!("20.10.24+dfsg1"), json!("26.1.5+dfsg1"), json!("28.5.2+dfsg4"), Value::Null]);
    assert_eq!(keys(&report["skipped"]), ["lines", "reasons"]);
    let mut ids = Vec::new();
    for storm in report["storms"].as_array().expect("a list") {
        let mut expected = [
            "id",
            "subject",
            "state",
            "cause",
            "causes",
            "detail",
            "onset",
            "exact",
            "updated",
            "detected",
            "ended",
            "detected_after_failures",
            "attempts",
            "failed",
            "attempts_per_min",
            "image",
            "registry",
            "pinned",
            "pulls",
            "nodes",
            "slots",
            "replicas",
            "spend",
            "advice",
        ];
        expected.sort_unstable();
        assert_eq!(keys(storm), expected);
        assert_eq!(keys(&storm["subject"]), ["id", "kind", "name", "stack"]);
        assert_eq!(storm["subject"]["kind"], "swarm-service");
        for time in ["onset", "detected"] {
            assert!(storm[time].as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()), "{storm}");
        }
        let causes = storm["causes"].as_object().expect("an object");
        assert_eq!(causes.values().filter_map(Value::as_u64).sum::<u64>(), storm["failed"].as_u64().expect("a number"));
        assert!(causes.contains_key(storm["cause"].as_str().expect("a text")));
        assert!(!storm["advice"].as_str().expect("a text").is_empty());
        assert!(storm["attempts_per_min"].as_f64().expect("a number") > 0.0);
        let id = storm["id"].as_str().expect("a text").to_owned();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 11, "ids are unique");
}

#[test]
fn a_storms_id_is_the_same_with_the_task_list_alone() {
    let ids = |inputs: Vec<PathBuf>| -> BTreeMap<String, String> {
        let (report, _) = report_of(inputs);
        let storms = report["storms"].as_array().expect("a list").iter();
        storms.map(|s| (s["subject"]["id"].to_string(), s["id"].to_string())).collect()
    };
    let all = ids(vec![swarm3()]);
    assert_eq!(ids(files(&["tasks", ".json"])), all);
}

#[test]
fn the_order_of_the_files_does_not_matter() {
    let mut inputs = files(&["."]);
    let (forward, _) = report_of(inputs.clone());
    inputs.reverse();
    let (backward, _) = report_of(inputs);
    assert_eq!(forward["storms"], backward["storms"]);
}

/// With `SQUALL_RECORDINGS` set to a directory of recordings, each that has a truth.json is replayed too.
#[test]
fn further_recordings_give_exactly_the_storms_that_are_true() {
    let Some(directory) = std::env::var_os("SQUALL_RECORDINGS") else { return };
    let mut recordings: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("SQUALL_RECORDINGS is a directory")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.join("truth.json").is_file())
        .collect();
    recordings.sort();
    assert!(!recordings.is_empty(), "no recording with a truth.json in {}", Path::new(&directory).display());
    for recording in recordings {
        let expected = storms_of(&recording);
        let (report, _) = report_of([&recording]);
        assert_eq!(found(&report), expected, "{}", recording.display());
        assert_found_early(&report);
        let without: Vec<OsString> = fs::read_dir(&recording)
            .expect("a directory")
            .map(|entry| entry.expect("it can be listed").path().into_os_string())
            .filter(|path| !path.to_string_lossy().contains("dockerd.log"))
            .collect();
        let (report, _) = report_of(without);
        assert_eq!(found(&report), without_log(expected), "{} without its logs", recording.display());
    }
}
