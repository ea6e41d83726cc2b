//! Listings of tasks, services, nodes, containers and images, as lines, arrays and pretty-printed objects.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use squall::docker::Info;
use squall::ingest::{Reader, read_line, read_object};
use squall::respond::{Mark, View};
use squall_fuzz::{debug, judge};

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    while reader.advance().expect("memory reads") {
        let Some(item) = reader.current() else { panic!("nothing is too long") };
        let Ok(object) = serde_json::from_str::<Value>(&item) else { continue };
        if object.is_object() {
            check_object(&object);
        }
    }
    judge(&[("swarm", bytes)]);
});

fn check_object(object: &Value) {
    // Keys come out in the order of the alphabet: no event begins so that it is taken for one at sight.
    let line = object.to_string();
    if let Some(reading) = read_object(object, 7) {
        assert_eq!(reading, read_line(&line, 7), "{line}");
        check_framings(object, &line, &debug(&reading));
    }
    check_mark(object);
    let info = Info::from_value(object);
    assert_eq!(info, Info::from_value(object));
    if let Some(view) = View::read(object) {
        assert_eq!(format!("{view:?}"), format!("{:?}", View::read(object).expect("as before")));
    }
}

/// The way in which objects are framed changes nothing of what they say.
fn check_framings(object: &Value, line: &str, expected: &str) {
    let pretty = serde_json::to_string_pretty(object).expect("it is JSON");
    for (framed, count) in [
        (format!("{line}\n{line}"), 2),
        (format!("[{line},{line}]"), 2),
        (format!("[\n{pretty},\n{pretty}\n]\n"), 2),
        (format!("{pretty}\n"), 1),
        (format!("\u{1e}{line}\n"), 1),
    ] {
        let mut reader = Reader::new(framed.as_bytes());
        let mut found = 0;
        while reader.advance().expect("memory reads") {
            let item = reader.current().expect("nothing is too long");
            assert_eq!(debug(&read_line(&item, 7)), expected, "{framed}");
            found += 1;
        }
        assert_eq!(found, count, "{framed}");
    }
}

/// A quarantine's mark in a service's labels says the same when it is written again.
fn check_mark(object: &Value) {
    let labels = object.pointer("/Spec/Labels").and_then(Value::as_object).into_iter().flatten();
    let labels: Vec<(&str, &str)> = labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
    if let Ok(Some(mark)) = Mark::read(labels.iter().copied()) {
        let written = mark.labels();
        let again = Mark::read(written.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        assert_eq!(again, Ok(Some(mark)), "{written:?}");
    }
}
