//! What the targets share: judging recordings, and what must hold of any verdict.

use std::fmt::Write as _;

use serde::Serialize;
use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, Recording, RecordingEnd, Source};
use squall::model::{Fact, Observation, Spend, Storm, Timestamp};

/// The longest words of an engine that a report has, in bytes.
const DETAIL_BYTES_MAX: usize = 512;
/// The most nodes that a report names for one storm.
const NODES_MAX: usize = 100;
/// So few that inputs of a few kilobytes reach the cap.
const SUBJECTS_FEW: usize = 4;

/// What a recording came to: the report's bytes.
#[derive(Debug)]
pub struct Judged {
    /// What was read of it.
    pub end: RecordingEnd,
    /// The report as JSON.
    pub report: String,
}

/// Judges files, each with its origin, and checks all that must hold of the verdicts: twice, as the same input gives the
/// same bytes, and once with room for few subjects.
///
/// # Panics
/// When something does not hold.
pub fn judge(files: &[(&str, &[u8])]) -> Judged {
    let first = judge_once(files, Settings::default());
    let second = judge_once(files, Settings::default());
    assert_eq!(first.report, second.report, "the same input gives the same report");
    judge_once(files, Settings { subjects_max: SUBJECTS_FEW, by_minute: true, ..Settings::default() });
    first
}

fn judge_once(files: &[(&str, &[u8])], settings: Settings) -> Judged {
    let subjects_max = settings.subjects_max;
    let sources = files.iter().enumerate().map(|(index, (origin, bytes))| Source {
        name: index.to_string(),
        origin: (*origin).to_owned(),
        input: *bytes,
    });
    let recording = Recording::new(sources.collect());
    let mut detector = Detector::new(settings);
    for (origin, name) in (0..=u16::MAX).zip(recording.origins()) {
        detector.name_origin(origin, name);
    }
    let (mut seen, mut restarts, mut onsets) = (0_u64, 0_u64, 0_usize);
    let end = recording.read(|observation| {
        seen += 1;
        restarts = restarts.saturating_add(restarts_of(observation));
        detector.observe(observation);
        onsets += detector.drain().count();
    });
    check_reading(files, &end, seen);
    let now = detector.now();
    detector.finish(now);
    onsets += detector.drain().count();
    let storms = detector.storms();
    for storm in &storms {
        check_storm(storm, seen.saturating_add(restarts));
    }
    assert!(storms.is_empty() || onsets >= storms.len(), "each storm was said");
    let (findings, registries, spenders) = (detector.findings(now), detector.registries(), detector.spenders());
    for spender in &spenders {
        check_spend(&spender.spend);
    }
    let counters = detector.counters();
    assert!(counters.subjects <= seen + 1, "{counters:?} of {seen} observations");
    let held = usize::try_from(counters.subjects).expect("it fits");
    // What storms is never forgotten, nor is what was unseen for the shortest time.
    assert!(held <= subjects_max.max(storms.len()) + 1, "{counters:?}, {} storms", storms.len());
    assert!(counters.minutes_dropped == 0 && counters.judged_early == 0 && counters.attempts_forgotten == 0);
    ask_the_rest(&mut detector, now);
    let report = json(&(&end.span, &end.origins, &storms, findings, registries, spenders, detector.calm()))
        + &json(&end.skipped);
    Judged { end, report }
}

/// What a listing says of the past stands for so many attempts.
fn restarts_of(observation: &Observation<'_>) -> u64 {
    match &observation.fact {
        Fact::Listing(listing) => listing.restart_count,
        _ => 0,
    }
}

fn check_reading(files: &[(&str, &[u8])], end: &RecordingEnd, seen: u64) {
    assert!(end.faults.is_empty(), "no line was too long: {:?}", end.faults);
    assert_eq!(end.origins.iter().map(|origin| origin.observations).sum::<u64>(), seen);
    assert_eq!(end.understood.len(), files.len());
    for (understood, (_, bytes)) in end.understood.iter().zip(files) {
        assert!(understood.understood <= understood.lines && understood.lines <= bytes.len() as u64);
    }
    let lost: u64 = end.understood.iter().map(|source| source.lines - source.understood).sum();
    assert_eq!(lost, end.skipped.lines, "what is not understood is counted");
    assert_eq!(end.skipped.reasons.values().sum::<u64>(), end.skipped.lines);
    if let Some(span) = end.span {
        assert!(span.from <= span.to && seen > 0);
    }
}

fn check_storm(storm: &Storm, attempts_max: u64) {
    assert!(storm.failed > 0 && storm.failed <= storm.attempts, "{storm:?}");
    assert!(storm.attempts <= attempts_max, "{storm:?} of {attempts_max}");
    assert!(storm.causes.iter().map(|(_, count)| count).sum::<u64>() <= storm.failed, "{storm:?}");
    assert!(storm.causes.iter().any(|(cause, _)| cause == storm.cause), "{storm:?}");
    assert!(storm.detected_after_failures <= storm.failed, "{storm:?}");
    assert!(storm.onset <= storm.detected && storm.ended.is_none_or(|ended| ended >= storm.onset), "{storm:?}");
    assert!(storm.attempts_per_min.is_finite() && storm.attempts_per_min >= 0.0, "{storm:?}");
    assert!(storm.detail.len() <= DETAIL_BYTES_MAX && storm.nodes.len() <= NODES_MAX, "{storm:?}");
    assert!(storm.id.len() == 16 && storm.id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{storm:?}");
    if let Some(spend) = &storm.spend {
        check_spend(spend);
    }
    let text = json(storm);
    let read: Storm = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(without_paces(read), without_paces(storm.clone()));
}

/// A number with a fraction may be read to a neighbour of what was written.
fn without_paces(storm: Storm) -> Storm {
    let spend = storm.spend.map(|spend| Spend { requests_per_min: 0.0, ..spend });
    Storm { attempts_per_min: 0.0, spend, ..storm }
}

fn check_spend(spend: &Spend) {
    assert_eq!(spend.requests, spend.kinds.all(), "{spend:?}");
    assert_eq!(spend.requests, spend.measured + spend.derived + spend.assumed, "{spend:?}");
    assert!(spend.pulls <= spend.requests, "{spend:?}");
    assert!(spend.requests_per_min.is_finite() && spend.requests_per_min >= 0.0, "{spend:?}");
}

/// What the daemon asks between observations, whatever the time.
fn ask_the_rest(detector: &mut Detector, now: Timestamp) {
    for at in [Timestamp::from_nanos(i64::MIN), now, Timestamp::from_nanos(i64::MAX)] {
        detector.findings(at).iter().for_each(|finding| {
            json(finding);
        });
        detector.suspects(at).for_each(drop);
        detector.next_deadline();
    }
    detector.without_image(10);
    detector.drain_minutes(usize::MAX);
    for count in detector.drain_spend(usize::MAX) {
        check_spend(&count.spend);
    }
    detector.restate();
    detector.advance(Timestamp::from_nanos(i64::MAX));
    detector.drain().for_each(drop);
}

/// A value as JSON, which every report is.
///
/// # Panics
/// When it is none.
pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a report is JSON")
}

/// What a line was read as, told apart where `==` of facts would read them first.
pub fn debug(reading: &Reading<'_>) -> String {
    let mut text = String::new();
    write!(text, "{reading:?}").expect("memory takes it");
    text
}
