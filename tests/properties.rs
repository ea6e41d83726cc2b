//! What must hold of any input: order, doubles, splits and damage change no verdict and break nothing.

#[path = "support/damage.rs"]
mod damage;
#[path = "support/scenario.rs"]
mod scenario;

use std::io::{self, Read};

use damage::{Random, damage};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use scenario::{MIN, SEC, SWARM3_FILES, Scenario, Service, View, squall, swarm3, swarm3_file};
use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, Recording, Source, read_line};
use squall::model::{Observation, Storm, Timestamp};

/// The same cases at every run.
fn config(cases: u32) -> Config {
    // A case is a seed: a smaller one is no simpler.
    let rng_seed = RngSeed::Fixed(0x5ca1_ab1e);
    Config { cases, rng_seed, max_shrink_iters: 0, failure_persistence: None, ..Config::default() }
}

/// A file of a recording: its origin and its lines.
type File = (&'static str, Vec<String>);

fn swarm3_lines() -> Vec<File> {
    let files = SWARM3_FILES.iter().map(|name| {
        let origin = if name.starts_with("node") && name.contains('1') {
            "node1"
        } else if name.contains('2') {
            "node2"
        } else if name.contains("node3") {
            "node3"
        } else {
            "swarm"
        };
        (origin, swarm3_file(name).lines().map(str::to_owned).collect())
    });
    files.collect()
}

/// What a verdict is: what storms, why, how often, and what it is called.
fn verdicts(storms: &[Storm]) -> Vec<String> {
    let mut verdicts: Vec<String> = storms
        .iter()
        .map(|storm| {
            let subject = &storm.subject;
            format!(
                "{} {} {} {:?} {}/{} {}",
                subject.kind.as_str(),
                subject.name,
                storm.cause,
                storm.state,
                storm.failed,
                storm.attempts,
                storm.id
            )
        })
        .collect();
    verdicts.sort();
    verdicts
}

/// An input that gives at most so many bytes at a time.
struct Chunked<'a> {
    bytes: &'a [u8],
    size: Box<dyn FnMut() -> usize + 'a>,
}

impl Read for Chunked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (self.size)().clamp(1, 1 << 20).min(buffer.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.bytes = later;
        Ok(length)
    }
}

/// All that a report says, as its bytes, and the storms.
fn judge<R: Read>(sources: Vec<Source<R>>) -> (String, Vec<Storm>) {
    let mut detector = Detector::new(Settings::default());
    let end = Recording::new(sources).read(|observation| {
        detector.observe(observation);
        detector.drain().for_each(drop);
    });
    let last = end.span.map(|span| span.to).unwrap_or_default();
    detector.finish(last);
    let storms = detector.storms();
    let report = (end.span, &end.origins, &storms, detector.findings(last), detector.calm(), &end.skipped);
    (serde_json::to_string(&report).expect("a report is JSON"), storms)
}

fn sources<'a>(files: &'a [(&'static str, String)]) -> Vec<Source<&'a [u8]>> {
    files
        .iter()
        .enumerate()
        .map(|(index, (origin, text))| Source {
            name: format!("{origin} {index}"),
            origin: (*origin).to_owned(),
            input: text.as_bytes(),
        })
        .collect()
}

fn joined(files: &[File]) -> Vec<(&'static str, String)> {
    files.iter().map(|(origin, lines)| (*origin, lines.join("\n") + "\n")).collect()
}

/// The time of a line as the recording's merge sees it; of a line without one the time of the line before.
fn times(lines: &[String]) -> Vec<i64> {
    let mut time = 0;
    lines
        .iter()
        .map(|line| {
            if let Reading::Observation(observation) = read_line(line, 0) {
                time = observation.at.as_nanos();
            }
            time
        })
        .collect()
}

#[test]
fn doubles_and_another_order_within_two_seconds_change_no_verdict_of_a_real_recording() {
    let files = swarm3_lines();
    let times: Vec<Vec<i64>> = files.iter().map(|(_, lines)| times(lines)).collect();
    let expected = verdicts(&judge(sources(&joined(&files))).1);
    assert_eq!(expected.len(), 11);
    proptest!(config(16), |(seed in 1_u64.., within_millis in 1_u64..=2000, doubled in 0_u64..30)| {
        let mut random = Random(seed);
        let shaken: Vec<(&'static str, String)> = files.iter().zip(&times).map(|((origin, lines), times)| {
            let mut keyed: Vec<(i64, &str)> = Vec::new();
            for (line, time) in lines.iter().zip(times) {
                for _ in 0..1 + u64::from(random.below(100) < doubled) {
                    let late = i64::try_from(random.below(within_millis * 1_000_000)).unwrap_or(0);
                    keyed.push((time.saturating_add(late), line));
                }
            }
            keyed.sort_by_key(|entry| entry.0);
            (*origin, keyed.into_iter().map(|(_, line)| format!("{line}\n")).collect())
        }).collect();
        prop_assert_eq!(&verdicts(&judge(sources(&shaken)).1), &expected);
    });
}

/// One to five services, each of which loops, is updated, runs, or gives up, as the seed has it.
fn any_scenario(seed: u64) -> Scenario {
    let mut random = Random(seed);
    let mut s = Scenario::new();
    for index in 0..=random.below(4) {
        let at = i64::try_from(random.below(60)).unwrap_or(0) * SEC;
        let delay = [SEC, 5 * SEC, 20 * SEC][random.index(3)];
        let life = [50, SEC, 10 * SEC][random.index(3)];
        let count = 3 + random.below(30);
        let service = Service::new(&format!("svc{index}")).delay(delay);
        s.service(&service, at);
        let end = match random.below(7) {
            0 => s.crash_loop(&service, 1, at, count, life, 1),
            1 => s.crash_loop(&service, 1, at, count, life, 0),
            2 => s.reject_loop(&service, 1, at, count, "No such image: shop/web:1"),
            3 => {
                let global = service.mode(serde_json::json!({"Global": {}}));
                for node in ["node1", "node2", "node3"] {
                    (0..count).fold(at, |at, _| s.crash(&global, 0, node, at, life, 1));
                }
                at
            }
            4 => {
                let given_up = service.max_attempts(3, 0);
                s.crash_loop(&given_up, 1, at, 4, life, 1)
            }
            5 => {
                let mut at = at;
                for _ in 0..count {
                    let task = s.run(&service, 1, "node1", at);
                    s.stop(&task, at + 5 * SEC, 137, "shutdown");
                    at += 8 * SEC;
                }
                at
            }
            _ => {
                let end = s.crash_loop(&service, 1, at, count, life, 1);
                let task = s.task(&service, 1, "node1", end);
                s.create(&task, end + 200);
                s.start(&task, end + 700);
                end
            }
        };
        if random.below(2) == 0 {
            s.idle(end, end + 10 * MIN);
        }
    }
    s
}

#[test]
fn doubles_and_another_order_within_two_seconds_change_no_verdict_of_made_up_ones() {
    proptest!(config(60), |(seed in 1_u64.., shake in 1_u64.., within in 1_i64..=2000, doubled in 0_u64..30)| {
        let scenario = any_scenario(seed);
        let mut random = Random(shake);
        let shaken = scenario.shaken(within, doubled, |limit| random.below(limit));
        for view in [View::All, scenario::VIEWS[random.index(4)]] {
            let expected = verdicts(&scenario.replay(view).storms);
            prop_assert_eq!(verdicts(&shaken.replay(view).storms), expected, "seed {} view {:?}", seed, view);
        }
    });
}

#[test]
fn what_arrives_live_gives_the_verdicts_of_a_replay() {
    proptest!(config(40), |(seed in 1_u64..)| {
        let scenario = any_scenario(seed);
        let expected = verdicts(&scenario.replay(View::All).storms);
        prop_assert_eq!(verdicts(&scenario.live(View::All).storms), expected, "seed {}", seed);
    });
}

#[test]
fn the_size_of_what_is_read_at_a_time_changes_no_byte() {
    let files = joined(&swarm3_lines());
    let (expected, _) = judge(sources(&files));
    proptest!(config(6), |(seed in 1_u64.., largest in 1_u64..100_000)| {
        let chunked = files.iter().enumerate().map(|(index, (origin, text))| {
            let mut random = Random(seed.wrapping_add(index as u64).max(1));
            let size = Box::new(move || 1 + random.index(usize::try_from(largest).unwrap_or(1)));
            let input = Chunked { bytes: text.as_bytes(), size };
            Source { name: index.to_string(), origin: (*origin).to_owned(), input }
        });
        prop_assert_eq!(&judge(chunked.collect()).0, &expected);
    });
}

#[test]
fn a_recording_split_over_more_files_changes_no_byte() {
    let files = swarm3_lines();
    let (expected, _) = judge(sources(&joined(&files)));
    proptest!(config(12), |(seed in 1_u64.., parts in 2_usize..6)| {
        let mut random = Random(seed);
        // Cut as a log is rotated: one part after another.
        let split: Vec<(&'static str, String)> = files.iter().flat_map(|(origin, lines)| {
            let mut cuts: Vec<usize> = (1..parts).map(|_| random.index(lines.len())).collect();
            cuts.extend([0, lines.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| (*origin, lines[cut[0]..cut[1]].join("\n") + "\n"));
            pieces.collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(&judge(sources(&split)).0, &expected);
    });
}

#[test]
fn a_recording_whose_lines_are_dealt_out_to_more_files_changes_no_verdict() {
    let files = swarm3_lines();
    let expected = verdicts(&judge(sources(&joined(&files))).1);
    proptest!(config(12), |(seed in 1_u64.., parts in 2_usize..6)| {
        let mut random = Random(seed);
        let dealt: Vec<(&'static str, String)> = files.iter().flat_map(|(origin, lines)| {
            let mut hands = vec![String::new(); parts];
            for line in lines {
                let hand = &mut hands[random.index(parts)];
                hand.push_str(line);
                hand.push('\n');
            }
            hands.into_iter().map(|hand| (*origin, hand)).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(&verdicts(&judge(sources(&dealt)).1), &expected);
    });
}

#[test]
fn replaying_twice_gives_the_same_bytes() {
    for format in ["json", "table", "nagios"] {
        let run = || squall().args(["replay", "-f", format]).arg(swarm3()).output().expect("squall runs").stdout;
        let first = run();
        assert!(!first.is_empty());
        assert_eq!(run(), first, "{format}");
    }
}

#[test]
fn no_observation_breaks_it_whatever_its_time() {
    let lines: Vec<String> = swarm3_lines().into_iter().flat_map(|(_, lines)| lines.into_iter().take(40)).collect();
    proptest!(config(64), |(seed in 1_u64..)| {
        let mut random = Random(seed);
        let mut detector = Detector::new(Settings::default());
        for _ in 0..200 {
            let line = &lines[random.index(lines.len())];
            let Reading::Observation(observation) = read_line(line, 0) else { continue };
            let edges = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
            let at = match random.below(3) {
                0 => observation.at,
                1 => Timestamp::from_nanos(edges[random.index(edges.len())]),
                _ => Timestamp::from_nanos(random.below(u64::MAX).cast_signed()),
            };
            detector.observe(&Observation { at, ..observation });
        }
        conclude(&mut detector);
    });
}

/// Whatever a detector is asked at the end.
fn conclude(detector: &mut Detector) {
    for now in [Timestamp::from_nanos(i64::MIN), Timestamp::from_secs(1_795_206_085), Timestamp::from_nanos(i64::MAX)] {
        detector.findings(now);
        detector.suspects(now).for_each(drop);
        detector.next_deadline();
    }
    detector.finish(Timestamp::from_secs(1_795_206_085));
    detector.drain().for_each(drop);
    serde_json::to_string(&detector.storms()).expect("storms are JSON");
    detector.finish(Timestamp::from_nanos(i64::MAX));
    detector.calm();
    detector.counters();
}

#[test]
fn damaged_lines_never_break_it() {
    let lines: Vec<String> = swarm3_lines()
        .into_iter()
        .flat_map(|(_, lines)| {
            let step = lines.len() / 60 + 1;
            lines.into_iter().step_by(step)
        })
        .collect();
    proptest!(config(400), |(seed in 1_u64..)| {
        let mut random = Random(seed);
        let mut detector = Detector::new(Settings::default());
        for _ in 0..60 {
            let line = &lines[random.index(lines.len())];
            let damaged = damage(line.as_bytes(), &mut random);
            let text = String::from_utf8_lossy(&damaged);
            if let Reading::Observation(observation) = read_line(&text, 0) {
                detector.observe(&observation);
            }
        }
        conclude(&mut detector);
    });
}

#[test]
fn a_damaged_file_never_breaks_it_and_costs_only_what_is_damaged() {
    let files = swarm3_lines();
    let tasks =
        files.iter().find(|file| file.1.len() > 2000).map(|file| file.1[..300].join("\n")).expect("the task list");
    let array = format!("[{}]", tasks.replace('\n', ","));
    let good = r#"{"Type":"image","Action":"pull","Actor":{"ID":"after:1"},"timeNano":1795999999000000000}"#;
    proptest!(config(40), |(seed in 1_u64.., is_array in any::<bool>())| {
        let mut random = Random(seed);
        let mut bytes = damage(if is_array { array.as_bytes() } else { tasks.as_bytes() }, &mut random);
        // A line that is whole and stands by itself is read whatever came before it in a file of lines.
        bytes.extend_from_slice(b"\n");
        bytes.extend_from_slice(good.as_bytes());
        bytes.extend_from_slice(b"\n");
        let mut detector = Detector::new(Settings::default());
        let mut last = 0;
        let source = Source { name: String::new(), origin: "o".to_owned(), input: bytes.as_slice() };
        let end = Recording::new(vec![source]).read(|observation| {
            last = last.max(observation.at.as_nanos());
            detector.observe(observation);
        });
        prop_assert!(end.faults.is_empty());
        if !is_array {
            prop_assert_eq!(last, 1_795_999_999_000_000_000, "seed {}", seed);
        }
        conclude(&mut detector);
    });
}

#[test]
fn any_bytes_are_read_to_their_end() {
    proptest!(config(64), |(bytes in proptest::collection::vec(any::<u8>(), 0..5000))| {
        let source = Source { name: String::new(), origin: "o".to_owned(), input: bytes.as_slice() };
        let end = Recording::new(vec![source]).read(|_| {});
        prop_assert!(end.faults.is_empty());
    });
}

#[test]
fn nesting_without_end_is_one_line_that_cannot_be_read() {
    for opening in
        ["[", "{\"a\":", "{\"Type\":\"container\",\"Actor\":{\"Attributes\":{\"a\":", "{\"ServiceID\":1,\"Status\":["]
    {
        let line = format!("{{\"x\":{}", opening.repeat(50_000));
        let text = format!("{line}\n{opening}{}\n", opening.repeat(50_000));
        let source = Source { name: String::new(), origin: "o".to_owned(), input: text.as_bytes() };
        let end = Recording::new(vec![source]).read(|_| {});
        assert!(end.span.is_none() && end.skipped.lines >= 1, "{:?}", end.skipped);
    }
}
