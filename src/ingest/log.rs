//! dockerd's log: logfmt as logrus writes it, bare, behind a syslog prefix, as `journalctl -o json`, or as the JSON of
//! `--log-format=json` (25.0).
//!
//! Only lines that name a task, or the daemon's own start and stop, are taken. A line that another program wrote, a
//! container above all, is never taken for dockerd's: the journal's fields and syslog's program name tell.

use std::borrow::Cow;

use memchr::{memchr2, memmem};
use serde_json::Value;

use super::reading::Reading;
use crate::model::{Engine, Fact, LogFact, LogKind, Observation, Timestamp};

/// The fields of one log line that are of use.
#[derive(Default)]
struct Fields<'a> {
    time: Cow<'a, str>,
    message: Cow<'a, str>,
    error: Cow<'a, str>,
    service_id: Cow<'a, str>,
    task_id: Cow<'a, str>,
    node_id: Cow<'a, str>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: &str, value: Cow<'a, str>) {
        match key {
            "time" => self.time = value,
            "msg" => self.message = value,
            "error" => self.error = value,
            "service.id" => self.service_id = value,
            "task.id" => self.task_id = value,
            "node.id" => self.node_id = value,
            _ => {}
        }
    }

    fn reading(self, origin: u16, received: Option<Timestamp>) -> Reading<'a> {
        let fact = match &*self.message {
            "fatal task error" => self.task_fact(LogKind::TaskFailed),
            "pulling image failed" => self.task_fact(LogKind::PullFailed),
            "Daemon has completed initialization" => return engine(&self.time, received, origin, Engine::Started),
            text if text.starts_with("Processing signal '") => {
                return engine(&self.time, received, origin, Engine::Stopping);
            }
            _ => return Reading::Nothing,
        };
        let Some((time, fact)) = fact else { return Reading::Nothing };
        match Timestamp::parse(&time).ok().or(received) {
            Some(at) => Reading::Observation(Observation { at, origin, fact }),
            None => Reading::Skipped("no-time"),
        }
    }

    fn task_fact(self, kind: LogKind) -> Option<(Cow<'a, str>, Fact<'a>)> {
        if self.service_id.is_empty() || self.task_id.is_empty() {
            return None;
        }
        let fact = LogFact {
            kind,
            service_id: self.service_id,
            task_id: self.task_id,
            node_id: self.node_id,
            error: self.error,
        };
        Some((self.time, Fact::Log(fact)))
    }
}

fn engine<'a>(time: &str, received: Option<Timestamp>, origin: u16, engine: Engine) -> Reading<'a> {
    match Timestamp::parse(time).ok().or(received) {
        Some(at) => Reading::Observation(Observation { at, origin, fact: Fact::Engine(engine) }),
        None => Reading::Skipped("no-time"),
    }
}

/// Whether a line begins as logrus begins its lines.
pub(super) fn is_logfmt(line: &str) -> bool {
    line.starts_with("time=")
}

/// Reads a line of logfmt.
pub(super) fn read_logfmt(line: &str, origin: u16, received: Option<Timestamp>) -> Reading<'_> {
    let is_of_interest = memmem::find(line.as_bytes(), b" task.id=").is_some()
        || line.contains("msg=\"Daemon has completed initialization\"")
        || line.contains("msg=\"Processing signal '");
    if !is_of_interest {
        return Reading::Nothing;
    }
    let mut fields = Fields::default();
    let mut rest = line;
    while let Some((key, after)) = rest.split_once('=') {
        let Some((value, after)) = value(after) else { return Reading::Skipped("bad-logfmt") };
        fields.set(key.trim_start(), value);
        rest = after;
    }
    fields.reading(origin, received)
}

/// The value at the start of `text`, and what follows it: bare up to a space, or quoted as Go's `%q` does.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return Some((Cow::Borrowed(&text[..end]), &text[end..]));
    };
    let mut at = 0;
    let mut has_escape = false;
    loop {
        let offset = memchr2(b'"', b'\\', quoted.get(at..)?.as_bytes())?;
        at += offset + 1;
        if quoted.as_bytes()[at - 1] == b'"' {
            break;
        }
        has_escape = true;
        at += 1;
    }
    let inner = &quoted[..at - 1];
    let value = if has_escape { Cow::Owned(unquote(inner)) } else { Cow::Borrowed(inner) };
    Some((value, &quoted[at..]))
}

/// Undoes Go's escapes; an escape that it does not know stays as it is.
fn unquote(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            plain.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some(digits @ ('x' | 'u' | 'U')) => {
                let length = match digits {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let hex: String = chars.by_ref().take(length).collect();
                let code = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                plain.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => plain.push(other),
            None => plain.push('\\'),
        }
    }
    plain
}

/// Reads a syslog line, `Nov 20 20:21:26 host dockerd[17]: time=...`, or says that it is none.
pub(super) fn read_syslog(line: &str, origin: u16) -> Option<Reading<'_>> {
    let (head, message) = line.split_once(": ")?;
    let program = head.rsplit(' ').next()?;
    let name = program.split_once('[').map_or(program, |(name, _)| name);
    // A syslog head holds a time and a host before the program.
    if head.len() == program.len() || name.is_empty() || !head.contains(':') {
        return None;
    }
    if !is_dockerd(name) {
        return Some(Reading::Skipped("other-program"));
    }
    Some(if is_logfmt(message) { read_logfmt(message, origin, None) } else { Reading::Nothing })
}

fn is_dockerd(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("dockerd" | "docker" | "docker.service"))
}

/// Reads an entry of `journalctl -o json`.
pub(super) fn read_journal(entry: &Value, origin: u16) -> Reading<'static> {
    // The journald log driver marks what a container wrote.
    if entry.get("CONTAINER_ID").is_some() || entry.get("CONTAINER_NAME").is_some() {
        return Reading::Skipped("container-output");
    }
    let writer = ["_COMM", "SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT"].iter().find_map(|key| entry.get(*key)?.as_str());
    if writer.is_some_and(|writer| !is_dockerd(writer)) {
        return Reading::Skipped("other-program");
    }
    let received = entry
        .get("__REALTIME_TIMESTAMP")
        .and_then(|micros| micros.as_str()?.parse::<i64>().ok())
        .map(|micros| Timestamp::from_nanos(micros.saturating_mul(1000)));
    let message = match entry.get("MESSAGE") {
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
        // Bytes that are no plain text come as an array of numbers.
        Some(Value::Array(bytes)) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => return Reading::Skipped("no-message"),
    };
    if !is_logfmt(&message) {
        return Reading::Nothing;
    }
    read_logfmt(&message, origin, received).into_owned()
}

/// Reads a line of `dockerd --log-format=json`.
pub(super) fn read_json_log(entry: &Value, origin: u16) -> Reading<'static> {
    let mut fields = Fields::default();
    for key in ["time", "msg", "error", "service.id", "task.id", "node.id"] {
        if let Some(text) = entry.get(key).and_then(Value::as_str) {
            fields.set(key, Cow::Owned(text.to_owned()));
        }
    }
    fields.reading(origin, None)
}
