use std::io::{self, Read};

use super::line::read_line;
use super::reader::Reader;
use super::reading::Reading;
use crate::model::{Engine, Fact, Gap, Observation, OriginReport, Pace, Skipped, Span, Timestamp};

/// One input of a recording.
#[derive(Debug)]
pub struct Source<R> {
    /// What to call it in errors: its path.
    pub name: String,
    /// Who spoke: the origin's name. Sources of one name are one origin.
    pub origin: String,
    /// Its bytes.
    pub input: R,
}

/// Sources that belong together, read as one stream in the order of event time.
///
/// A source is taken to be in order by itself: where its time goes back, the line counts as of the latest time seen
/// in it. Of each source one line is held.
#[derive(Debug)]
pub struct Recording<R> {
    sources: Vec<Open<R>>,
    origins: Vec<OriginState>,
    skipped: Skipped,
    faults: Vec<Fault>,
    span: Option<Span>,
}

/// A source that could not be read to its end. What was read of it counts.
#[derive(Debug)]
pub struct Fault {
    /// The source's name.
    pub source: String,
    /// What happened.
    pub error: io::Error,
}

/// What is known when a recording has been read.
#[derive(Debug)]
pub struct RecordingEnd {
    /// Who spoke.
    pub origins: Vec<OriginReport>,
    /// What could not be read.
    pub skipped: Skipped,
    /// The sources that could not be read to their end.
    pub faults: Vec<Fault>,
    /// From the first observation to the last.
    pub span: Option<Span>,
    /// How much of each source was understood, in their order.
    pub understood: Vec<Understood>,
}

/// How much of a source was understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    /// Lines and objects that are not empty.
    pub lines: u64,
    /// Those of them that are of a kind that is known, whether or not they tell of attempts.
    pub understood: u64,
}

#[derive(Debug)]
struct Open<R> {
    name: String,
    origin: u16,
    reader: Reader<R>,
    /// The latest time seen; while `is_ready`, that of the line that waits.
    at: Timestamp,
    pace: Pace,
    is_ready: bool,
    is_done: bool,
    had_long_line: bool,
    understood: Understood,
}

#[derive(Debug)]
struct OriginState {
    report: OriginReport,
    last: Option<Timestamp>,
    stopping: Option<Timestamp>,
}

impl<R: Read> Recording<R> {
    /// The recording that `sources` make. At most 65,535 origins are told apart; more are counted as the last.
    pub fn new(sources: Vec<Source<R>>) -> Self {
        let mut origins: Vec<OriginState> = Vec::new();
        let sources = sources
            .into_iter()
            .map(|source| {
                let known = origins.iter().position(|origin| origin.report.id == source.origin);
                let index = known.unwrap_or_else(|| {
                    let report = OriginReport { id: source.origin, engine: None, observations: 0, gaps: Vec::new() };
                    origins.push(OriginState { report, last: None, stopping: None });
                    origins.len() - 1
                });
                Open {
                    name: source.name,
                    origin: u16::try_from(index).unwrap_or(u16::MAX),
                    reader: Reader::new(source.input),
                    at: Timestamp::from_nanos(i64::MIN),
                    pace: Pace::default(),
                    is_ready: false,
                    is_done: false,
                    had_long_line: false,
                    understood: Understood::default(),
                }
            })
            .collect();
        Self { sources, origins, skipped: Skipped::default(), faults: Vec::new(), span: None }
    }

    /// The names of the origins, in the order of their numbers.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.origins.iter().map(|origin| &*origin.report.id)
    }

    /// Reads it all and hands each observation to `sink`.
    pub fn read(mut self, mut sink: impl FnMut(&Observation<'_>)) -> RecordingEnd {
        let end_of_time = Timestamp::from_nanos(i64::MAX);
        for index in 0..self.sources.len() {
            self.advance(index, Timestamp::from_nanos(i64::MIN), &mut sink);
        }
        while let Some((index, until)) = self.next_source(end_of_time) {
            self.advance(index, until, &mut sink);
        }
        let origins = self.origins.into_iter().map(|origin| origin.report).collect();
        let understood = self.sources.iter().map(|source| source.understood).collect();
        RecordingEnd { origins, skipped: self.skipped, faults: self.faults, span: self.span, understood }
    }

    /// The source whose line is the earliest, and the time of the earliest among the others.
    fn next_source(&self, end_of_time: Timestamp) -> Option<(usize, Timestamp)> {
        let mut first: Option<(Timestamp, usize)> = None;
        let mut second = end_of_time;
        for (index, source) in self.sources.iter().enumerate().filter(|(_, source)| !source.is_done) {
            match first {
                Some((at, _)) if at <= source.at => second = second.min(source.at),
                _ => {
                    if let Some((at, _)) = first {
                        second = second.min(at);
                    }
                    first = Some((source.at, index));
                }
            }
        }
        first.map(|(_, index)| (index, second))
    }

    /// Hands over the line that waits and all after it up to `until`; leaves the first after that waiting.
    fn advance(&mut self, index: usize, until: Timestamp, sink: &mut impl FnMut(&Observation<'_>)) {
        let source = &mut self.sources[index];
        loop {
            if !source.is_ready {
                match source.reader.advance() {
                    Ok(true) => {}
                    Ok(false) => source.is_done = true,
                    Err(error) => {
                        source.is_done = true;
                        self.faults.push(Fault { source: source.name.clone(), error });
                    }
                }
                if source.is_done {
                    return;
                }
            }
            let Some(line) = source.reader.current() else {
                self.skipped.add("line-too-long");
                if !source.had_long_line {
                    source.had_long_line = true;
                    let error = io::Error::other("a line is longer than 4 MiB; it was left out");
                    self.faults.push(Fault { source: source.name.clone(), error });
                }
                continue;
            };
            let origin = &mut self.origins[usize::from(source.origin)];
            match read_line(&line, source.origin) {
                Reading::Nothing => source.understood.count(u64::from(!line.is_empty())),
                Reading::Skipped(reason) => {
                    source.understood.lines += 1;
                    self.skipped.add(reason);
                }
                Reading::Gap(gap) => {
                    source.understood.count(1);
                    origin.report.gaps.push(gap);
                }
                Reading::Observation(observation) => {
                    source.at = source.pace.see(observation.at);
                    if !source.is_ready && source.at > until {
                        source.is_ready = true;
                        return;
                    }
                    source.understood.count(1);
                    origin.saw(&observation);
                    if observation.fact.is_of_its_time() {
                        let span = self.span.get_or_insert(Span { from: observation.at, to: observation.at });
                        span.from = span.from.min(observation.at);
                        span.to = span.to.max(observation.at);
                    }
                    sink(&observation);
                }
            }
            source.is_ready = false;
        }
    }
}

impl Understood {
    fn count(&mut self, lines: u64) {
        self.lines += lines;
        self.understood += lines;
    }
}

impl OriginState {
    fn saw(&mut self, observation: &Observation<'_>) {
        self.report.observations += 1;
        match observation.fact {
            Fact::Engine(Engine::Stopping) => self.stopping = Some(observation.at),
            Fact::Engine(Engine::Started) => {
                let (from, why) = match self.stopping.take() {
                    Some(from) => (Some(from), "dockerd was restarted"),
                    None => (self.last, "dockerd started again"),
                };
                if let Some(from) = from {
                    self.report.gaps.push(Gap { from, to: observation.at, why: why.to_owned(), open: false });
                }
            }
            _ => {}
        }
        self.last = self.last.max(Some(observation.at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(nanos: i64) -> String {
        format!(r#"{{"Type":"image","Action":"pull","Actor":{{"ID":"a"}},"timeNano":{nanos}}}"#)
    }

    fn read(files: &[&str]) -> (Vec<i64>, RecordingEnd) {
        let sources = files
            .iter()
            .enumerate()
            .map(|(index, text)| Source { name: index.to_string(), origin: "o".to_owned(), input: text.as_bytes() })
            .collect();
        let mut times = Vec::new();
        let end = Recording::new(sources).read(|observation| times.push(observation.at.as_nanos()));
        (times, end)
    }

    #[test]
    fn files_are_merged_in_the_order_of_time() {
        let lines = |times: &[i64]| times.iter().map(|time| event(*time) + "\n").collect::<String>();
        let (times, end) = read(&[&lines(&[1, 4, 5, 9]), &lines(&[2, 3, 6]), &lines(&[7, 5, 8]), ""]);
        assert_eq!(times, [1, 2, 3, 4, 5, 6, 7, 5, 8, 9]);
        assert_eq!(end.origins[0].observations, 10);
        assert_eq!(end.span.map(|span| (span.from.as_nanos(), span.to.as_nanos())), Some((1, 9)));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_the_rest_is_read() {
        let (times, end) = read(&[&format!("hello\n{}\n{{\"x\":1}}\n{}", event(1), event(2))]);
        assert_eq!(times, [1, 2]);
        assert_eq!(end.skipped.lines, 2);
        assert_eq!(end.skipped.reasons["not-recognised"], 1);
        assert!(end.faults.is_empty());
    }

    #[test]
    fn a_restart_in_the_log_is_a_gap() {
        let log = "time=\"2026-11-20T20:00:00Z\" level=info msg=\"Processing signal 'terminated'\"\n\
                   time=\"2026-11-20T20:00:09Z\" level=info msg=\"Daemon has completed initialization\"\n";
        let (_, end) = read(&[log]);
        let gap = &end.origins[0].gaps[0];
        assert_eq!((gap.to.since(gap.from).as_secs(), &*gap.why), (9, "dockerd was restarted"));
    }
}
