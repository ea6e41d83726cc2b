//! The detector on a stream of one's own: what it finds in `docker events`, task listings or dockerd's log on standard
//! input, as it comes in.
//!
//! ```sh
//! docker events --format '{{json .}}' | cargo run --example detector
//! gunzip -c examples/incident/tasks.ndjson.gz | cargo run --example detector
//! ```
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::io;

use squall::detect::{Detector, Settings};
use squall::ingest::{Reader, Reading, read_line};
use squall::model::Notice;

/// The one daemon that speaks.
const ORIGIN: u16 = 0;

fn main() -> io::Result<()> {
    let mut detector = Detector::new(Settings::default());
    let mut lines = Reader::new(io::stdin().lock());
    let mut skipped = 0_u64;
    while lines.advance()? {
        match lines.current().as_deref().map(|line| read_line(line, ORIGIN)) {
            // Time comes with the observation: a recording of last year is judged as it would have been then.
            Some(Reading::Observation(observation)) => detector.observe(&observation),
            _ => skipped += 1,
        }
        say(&mut detector);
    }
    // What is left is judged at the time of the last observation.
    let now = detector.now();
    detector.finish(now);
    say(&mut detector);
    eprintln!("{} storms, {} calm, {skipped} lines skipped", detector.storms().len(), detector.calm());
    Ok(())
}

fn say(detector: &mut Detector) {
    for notice in detector.drain() {
        match notice {
            Notice::Onset(storm) => {
                println!("{} storm: {}: {}: {}", storm.detected, storm.subject.name, storm.cause, storm.detail);
            }
            Notice::CauseChanged { storm, from, to } => println!("{}: not {from} but {to}", storm.subject.name),
            Notice::Moved { storm, .. } => println!("{}: goes on though it was made again", storm.subject.name),
            Notice::Subsided(storm) => println!("{}: over after {} failures", storm.subject.name, storm.failed),
            Notice::Found(finding) => println!("{}: {}", finding.subject.name, finding.detail),
        }
    }
}
