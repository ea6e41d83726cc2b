//! `squall status`: what is held, since when, why, and what happens next. It is in the services' labels, so it needs
//! no daemon of squall's; what is stopped of a node's own containers is in that node's journal.

use std::path::Path;

use serde::Serialize;

use super::args::{ListFormat, Status};
use super::exit::Exit;
use super::{live, render};
use crate::daemon::{Hand, wall_clock};
use crate::journal::History;
use crate::model::{Author, Cause, Mode, Response, Subject, Timestamp};
use crate::respond::{Before, Phase, Set, StopMark, View};

/// The `schema` of the JSON object.
const SCHEMA: &str = "squall.status/1";

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    held: Vec<Line>,
}

/// One held service.
#[derive(Debug, Serialize)]
struct Line {
    service: String,
    id: String,
    stack: Option<String>,
    /// `held`, `probation`, `returning`; `let-go` where somebody changed it since.
    phase: &'static str,
    response: Option<Response>,
    by: Option<Author>,
    storm: Option<String>,
    cause: Option<Cause>,
    since: Option<Timestamp>,
    /// When it is tried again, where it is.
    until: Option<Timestamp>,
    /// Watched attempts that failed.
    tries: Option<u32>,
    next: String,
}

pub(super) fn run(command: &Status, config: Option<&Path>) -> anyhow::Result<Exit> {
    let config = live::docker_config(config, &command.docker)?;
    let (held, unknown) = live::runtime()?.block_on(async {
        match Hand::connect(&config).await?.held().await {
            // What is stopped of a node's own containers is in its own journal.
            Err(error) if error.is_worker() => Ok((Vec::new(), Some(error))),
            Err(error) if error.is_no_manager() => Ok((Vec::new(), None)),
            held => anyhow::Ok((held?, None)),
        }
    })?;
    let journal = live::journal(&config, &command.journal).map(|settings| History::open(&settings.dir));
    let stopped = match journal {
        Ok(Ok(history)) => history.holds()?,
        // Nothing of this node is stopped by a squall that keeps no journal here.
        _ => Vec::new(),
    };
    let held: Vec<Line> = held.iter().map(line).chain(stopped.iter().filter_map(stopped_line)).collect();
    match command.format {
        ListFormat::Json => render::say(&serde_json::to_string(&Report { schema: SCHEMA, held })?)?,
        ListFormat::Table if held.is_empty() && unknown.is_some() => {}
        ListFormat::Table if held.is_empty() => render::say(render::NOTHING_HELD)?,
        ListFormat::Table => {
            let now = wall_clock();
            let row = |line: &Line| {
                let word = |word: Option<&'static str>| word.unwrap_or("?").to_owned();
                vec![
                    line.service.clone(),
                    line.phase.to_owned(),
                    word(line.response.map(Response::as_str)),
                    word(line.cause.map(Cause::as_str)),
                    line.since.map_or("?".to_owned(), |since| render::ago(now, since)),
                    line.next.clone(),
                ]
            };
            let rows = held.iter().map(row).collect();
            render::list(&["SERVICE", "STATE", "RESPONSE", "CAUSE", "SINCE", "NEXT"], rows)?;
        }
    }
    if let Some(error) = &unknown {
        live::complain(&format!("which services are held is not known here: {error}"));
    }
    Ok(Exit::Calm.despite(unknown.is_some()))
}

/// A container or compose service of this node.
fn stopped_line((subject, text): &(Subject, String)) -> Option<Line> {
    let mark = StopMark::read(text)?;
    Some(Line {
        service: subject.name.clone(),
        id: subject.id.clone(),
        stack: subject.stack.clone(),
        phase: Phase::Held.as_str(),
        response: Response::from_word(&mark.response),
        by: Some(Author::Breaker),
        storm: Some(mark.storm),
        cause: Cause::from_word(&mark.cause),
        since: Timestamp::parse(&mark.since).ok(),
        until: None,
        tries: None,
        next: format!("nothing, till squall release {}", subject.name),
    })
}

fn line(view: &View) -> Line {
    let mark = view.mark.as_ref().ok().and_then(Option::as_ref);
    let is_ours = mark.filter(|mark| view.is_as(&mark.set));
    let next = match (is_ours, &view.mark) {
        (Some(mark), _) => match (mark.phase, mark.until, &mark.set) {
            (Phase::Held, Some(until), _) => format!("tried again at {} UTC by watch --enforce", render::clock(until)),
            (Phase::Held, None, _) => format!("nothing, till squall release {}", view.name),
            (Phase::Probation, ..) if view.mode == Mode::Global => "one node is watched".to_owned(),
            (Phase::Probation | Phase::Returning, _, Set::Replicas(running)) => {
                let all = match mark.before {
                    Before::Replicas(Some(all)) => all,
                    _ => 1,
                };
                format!("{running} of {all} replicas are watched")
            }
            (Phase::Probation | Phase::Returning, ..) => "more nodes, as long as it runs".to_owned(),
        },
        (None, Err(bad)) => format!("nothing: {bad}"),
        (None, Ok(_)) => format!("nothing: somebody changed it; squall release {} clears its labels", view.name),
    };
    Line {
        service: view.name.clone(),
        id: view.id.clone(),
        stack: view.stack.clone(),
        phase: is_ours.map_or("let-go", |mark| mark.phase.as_str()),
        response: mark.map(|mark| mark.response),
        by: mark.map(|mark| mark.by),
        storm: mark.map(|mark| mark.storm.clone()),
        cause: mark.map(|mark| mark.cause),
        since: mark.map(|mark| mark.since),
        until: mark.and_then(|mark| mark.until),
        tries: mark.map(|mark| mark.tries),
        next,
    }
}
