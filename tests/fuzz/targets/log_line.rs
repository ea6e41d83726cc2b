//! Lines of dockerd's log: bare, behind a syslog prefix, of journald and as JSON, which all say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use squall::ingest::{Reading, read_line};
use squall::model::Fact;
use squall_fuzz::judge;

/// A byte of an escape becomes at most three: a character that stands for what cannot be read.
const GROWTH_MAX: usize = 3;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        let reading = read_line(line, 1);
        if let Reading::Observation(observation) = &reading
            && let Fact::Log(fact) = &observation.fact
        {
            let length = fact.error.len() + fact.service_id.len() + fact.task_id.len() + fact.node_id.len();
            assert!(length <= GROWTH_MAX * line.len(), "{fact:?}");
            assert!(!fact.service_id.is_empty() && !fact.task_id.is_empty());
        }
        if line.starts_with("time=") {
            check_wrappings(line.trim_ascii(), &reading);
        }
    }
    judge(&[("node1", text.as_bytes()), ("node2", text.as_bytes())]);
});

fn check_wrappings(line: &str, expected: &Reading<'_>) {
    let syslog = format!("Nov 20 20:21:26 host-1 dockerd[17]: {line}");
    assert_eq!(&read_line(&syslog, 1), expected, "{syslog}");
    let journal = json!({"_COMM": "dockerd", "MESSAGE": line}).to_string();
    assert_eq!(&read_line(&journal, 1), expected, "{journal}");
    let bytes = json!({"_SYSTEMD_UNIT": "docker.service", "MESSAGE": line.as_bytes()}).to_string();
    assert_eq!(&read_line(&bytes, 1), expected, "{bytes}");
    let stranger = json!({"_COMM": "sh", "MESSAGE": line}).to_string();
    assert_eq!(read_line(&stranger, 1), Reading::Skipped("other-program"));
}
