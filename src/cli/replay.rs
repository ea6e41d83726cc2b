use std::path::Path;
use std::time::Duration;

use super::args::Replay as Command;
use super::exit::Exit;
use super::{input, render};
use crate::config::Config;
use crate::detect::Detector;
use crate::ingest::{Recording, RecordingEnd};
use crate::model::{REPORT_SCHEMA, Report, Span, Spender};

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    let config = Config::load(config)?;
    let inputs = input::open(&command.files);
    let mut detector = Detector::new(config.detector());
    let recording = Recording::new(inputs.sources);
    for (origin, name) in (0..=u16::MAX).zip(recording.origins()) {
        detector.name_origin(origin, name);
    }
    let end = recording.read(|observation| {
        detector.observe(observation);
        detector.drain().for_each(drop);
    });
    let mut has_trouble = false;
    let mut trouble = |text: String| {
        has_trouble = true;
        eprintln!("squall: {}", render::printable(&text));
    };
    for fault in &inputs.faults {
        trouble(fault.to_string());
    }
    for fault in &end.faults {
        trouble(format!("cannot read {} to its end: {}; what came before it counts", fault.source, fault.error));
    }
    // The sources stand in the order in which they were named.
    let mut understood = end.understood.iter();
    for (path, sources) in &inputs.named {
        let of_path: Vec<_> = understood.by_ref().take(*sources).collect();
        let is_empty = of_path.iter().all(|source| source.lines == 0);
        if !of_path.is_empty() && !is_empty && of_path.iter().all(|source| source.understood == 0) {
            let advice = if end.skipped.reasons.contains_key("events-without-json-format") {
                "print docker events with --format '{{json .}}'"
            } else {
                "name docker events (as JSON), task listings or dockerd's log"
            };
            trouble(format!("{} holds nothing that squall knows: {advice}", path.display()));
        }
    }
    let report = report(&mut detector, end);
    let exit = render::print(&report, command.format)?;
    Ok(exit.despite(has_trouble))
}

/// What each subject has asked, at its pace over the whole recording.
fn spend(detector: &Detector, span: Option<Span>) -> Vec<Spender> {
    let length = span.map_or(Duration::ZERO, |span| span.to.since(span.from));
    let mut spenders = detector.spenders();
    spenders.iter_mut().for_each(|spender| spender.spend = spender.spend.over(length));
    spenders
}

fn report(detector: &mut Detector, end: RecordingEnd) -> Report {
    let now = detector.now();
    detector.finish(now);
    detector.drain().for_each(drop);
    let findings = detector.findings(now);
    let engines = detector.engines();
    let origins = end.origins.into_iter().filter(|origin| origin.observations > 0 || !origin.gaps.is_empty());
    let origins = origins.map(|mut origin| {
        origin.engine = engines.get(&*origin.id).map(|engine| (*engine).to_owned());
        origin
    });
    let origins: Vec<_> = origins.collect();
    let mut storms = detector.storms();
    for storm in &mut storms {
        let mut gaps = origins.iter().flat_map(|origin| &origin.gaps);
        let until = storm.ended.unwrap_or(now);
        storm.exact &= !gaps.any(|gap| gap.from <= until && gap.to >= storm.onset);
    }
    Report {
        schema: REPORT_SCHEMA,
        span: end.span,
        origins,
        storms,
        findings,
        risks: None,
        registries: detector.registries(),
        spend: spend(detector, end.span),
        calm: detector.calm(),
        forgotten: detector.counters().subjects_forgotten,
        skipped: end.skipped,
    }
}
