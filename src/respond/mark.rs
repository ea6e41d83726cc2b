//! The state of a quarantine: it lives in the service's own labels, that is in Swarm's Raft. It survives every squall
//! and every node, and each manager sees the same.

use std::time::Duration;

use crate::model::{self, Author, Cause, HELD_LABEL, Hold, Quarantine, Response, Subject, Timestamp};

/// The label by which a service names its response.
pub const RESPONSE_LABEL: &str = "squall.response";
/// The label by which a service is left alone.
pub const IGNORE_LABEL: &str = "squall.ignore";
/// The placement constraint that no node meets: a node's id has 25 characters and no point.
pub const UNMET: &str = "node.id==held.by.squall";

/// How far a quarantine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No attempt is made.
    Held,
    /// One watched attempt is under way.
    Probation,
    /// It was stable; the rest comes back step by step.
    Returning,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Held, Self::Probation, Self::Returning];

    /// The phase as labels, tables and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Probation => "probation",
            Self::Returning => "returning",
        }
    }
}

/// What a service had before, where squall has changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// `Mode.Replicated.Replicas`; `None` where it was absent.
    Replicas(Option<u64>),
    /// What `TaskTemplate.Placement` was like.
    Placement(Placement),
}

/// What `TaskTemplate.Placement` was like apart from squall's constraints, so that it becomes exactly that again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Absent.
    Absent,
    /// Null.
    Null,
    /// Without `Constraints`.
    NoConstraints,
    /// With `Constraints` of null.
    NullConstraints,
    /// With a list of constraints, maybe empty.
    Constraints,
}

impl Placement {
    const ALL: [Self; 5] = [Self::Absent, Self::Null, Self::NoConstraints, Self::NullConstraints, Self::Constraints];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::NoConstraints => "no-constraints",
            Self::NullConstraints => "null-constraints",
            Self::Constraints => "constraints",
        }
    }
}

/// What squall has set a service to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// This number of replicas.
    Replicas(u64),
    /// These placement constraints besides the service's own.
    Constraints(Vec<String>),
}

impl Set {
    /// Whether not a single attempt is let through.
    pub fn holds_all(&self) -> bool {
        match self {
            Self::Replicas(replicas) => *replicas == 0,
            Self::Constraints(constraints) => constraints.iter().any(|constraint| constraint == UNMET),
        }
    }
}

/// The state of one quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How far it has come.
    pub phase: Phase,
    /// Who began it.
    pub by: Author,
    /// The storm that it is for; empty where a person began it without one.
    pub storm: String,
    /// Why that stormed.
    pub cause: Cause,
    /// The response.
    pub response: Response,
    /// When it began.
    pub since: Timestamp,
    /// When squall changed the service last.
    pub at: Timestamp,
    /// When the next watched attempt is due, where one is.
    pub until: Option<Timestamp>,
    /// How many watched attempts have failed.
    pub tries: u32,
    /// The loop period of the storm; zero where it is not known.
    pub period: Duration,
    /// The template that stormed: sixteen hex digits.
    pub template: String,
    /// The service's `Version.Index` before the last watched attempt began: later tasks are that attempt's.
    pub version: u64,
    /// What the service had before.
    pub before: Before,
    /// What squall has set it to.
    pub set: Set,
}

/// A label of squall's that does not say what it may say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the label {label} is {value:?}")]
pub struct BadLabel {
    /// Its name.
    pub label: String,
    /// Its value; empty where it is missing.
    pub value: String,
}

impl Mark {
    /// Whether it is held by placement constraints, as global services are.
    pub const fn is_by_placement(&self) -> bool {
        matches!(self.before, Before::Placement(_))
    }

    /// The quarantine, for those who show and tell it.
    pub(super) fn quarantine(&self, subject: Subject) -> Quarantine {
        let phase = match self.phase {
            Phase::Held => model::Phase::Held,
            Phase::Probation => model::Phase::Probation,
            Phase::Returning => model::Phase::Returning,
        };
        let Self { response, by, since, until, tries, .. } = *self;
        let hold = Hold { response, by, since, until, tries };
        Quarantine { subject, storm: self.storm.clone(), cause: self.cause, image: String::new(), phase, hold }
    }

    /// The labels that say it.
    pub fn labels(&self) -> Vec<(String, String)> {
        let mut labels = vec![(HELD_LABEL.to_owned(), self.phase.as_str().to_owned())];
        let mut add = |name: &str, value: String| labels.push((format!("{HELD_LABEL}.{name}"), value));
        add("by", self.by.to_string());
        add("storm", self.storm.clone());
        add("cause", self.cause.to_string());
        add("response", self.response.to_string());
        add("since", self.since.to_string());
        add("at", self.at.to_string());
        if let Some(until) = self.until {
            add("until", until.to_string());
        }
        add("tries", self.tries.to_string());
        add("period-ms", self.period.as_millis().to_string());
        add("template", self.template.clone());
        add("version", self.version.to_string());
        match self.before {
            Before::Replicas(Some(replicas)) => add("replicas", replicas.to_string()),
            Before::Replicas(None) => add("replicas", "default".to_owned()),
            Before::Placement(placement) => add("placement", placement.as_str().to_owned()),
        }
        match &self.set {
            Set::Replicas(replicas) => add("set-replicas", replicas.to_string()),
            Set::Constraints(constraints) => add("set-constraints", constraints.join(",")),
        }
        labels
    }

    /// What labels say; `None` where none of them is a quarantine's.
    ///
    /// # Errors
    /// When one is missing or says what it may not: somebody changed it.
    pub fn read<'a>(labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Result<Option<Self>, BadLabel> {
        let label = |name: &str| {
            let wanted = |key: &str| {
                key.strip_prefix(HELD_LABEL).is_some_and(|rest| match name {
                    "" => rest.is_empty(),
                    name => rest.strip_prefix('.') == Some(name),
                })
            };
            labels.clone().find(|(key, _)| wanted(key)).map(|(_, value)| value)
        };
        if !labels.clone().any(|(key, _)| is_mark(key)) {
            return Ok(None);
        }
        let bad = |name: &str| BadLabel {
            label: if name.is_empty() { HELD_LABEL.to_owned() } else { format!("{HELD_LABEL}.{name}") },
            value: label(name).unwrap_or_default().to_owned(),
        };
        let read = |name: &str| label(name).ok_or_else(|| bad(name));
        let time = |name: &str| read(name).and_then(|text| Timestamp::parse(text).map_err(|_| bad(name)));
        let hash = |name: &str| {
            let is_hash = |text: &&str| text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            read(name).and_then(|text| Some(text).filter(is_hash).map(str::to_owned).ok_or_else(|| bad(name)))
        };
        let number = |name: &str| read(name).and_then(|text| text.parse::<u64>().map_err(|_| bad(name)));
        let before = match (label("replicas"), label("placement")) {
            (Some("default"), None) => Before::Replicas(None),
            (Some(_), None) => Before::Replicas(Some(number("replicas")?)),
            (None, Some(text)) => {
                let placement = Placement::ALL.into_iter().find(|placement| placement.as_str() == text);
                Before::Placement(placement.ok_or_else(|| bad("placement"))?)
            }
            _ => return Err(bad("replicas")),
        };
        let set = match before {
            Before::Replicas(_) => Set::Replicas(number("set-replicas")?),
            Before::Placement(_) => {
                let list = read("set-constraints")?.split(',').filter(|constraint| !constraint.is_empty());
                Set::Constraints(list.map(str::to_owned).collect())
            }
        };
        let phase = read("")?;
        Ok(Some(Self {
            phase: Phase::ALL.into_iter().find(|known| known.as_str() == phase).ok_or_else(|| bad(""))?,
            by: Author::from_word(read("by")?).ok_or_else(|| bad("by"))?,
            storm: hash("storm")?,
            cause: Cause::from_word(read("cause")?).ok_or_else(|| bad("cause"))?,
            response: Response::from_word(read("response")?).ok_or_else(|| bad("response"))?,
            since: time("since")?,
            at: time("at")?,
            until: label("until").map(|_| time("until")).transpose()?,
            tries: u32::try_from(number("tries")?).map_err(|_| bad("tries"))?,
            period: Duration::from_millis(number("period-ms")?),
            template: hash("template")?,
            version: number("version")?,
            before,
            set,
        }))
    }
}

/// Whether a label is a quarantine's.
pub(super) fn is_mark(label: &str) -> bool {
    label.strip_prefix(HELD_LABEL).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            phase: Phase::Held,
            by: Author::Breaker,
            storm: "00112233aabbccdd".to_owned(),
            cause: Cause::Mount,
            response: Response::Backoff,
            since: Timestamp::from_nanos(1_790_000_000_123_456_789),
            at: Timestamp::from_nanos(1_790_000_001_000_000_001),
            until: Some(Timestamp::from_secs(1_790_000_011)),
            tries: 3,
            period: Duration::from_millis(1003),
            template: "ffeeddccbbaa0099".to_owned(),
            version: u64::MAX,
            before: Before::Replicas(Some(3)),
            set: Set::Replicas(0),
        }
    }

    fn read(labels: &[(String, String)]) -> Result<Option<Mark>, BadLabel> {
        Mark::read(labels.iter().map(|(name, value)| (&**name, &**value)))
    }

    #[test]
    fn what_is_written_reads_back() {
        let paused = Set::Constraints(vec!["node.id!=a".to_owned(), "node.id!=b".to_owned()]);
        let mut marks = vec![mark(), Mark { before: Before::Replicas(None), until: None, ..mark() }];
        marks.extend(Placement::ALL.map(|placement| Mark {
            before: Before::Placement(placement),
            set: paused.clone(),
            ..mark()
        }));
        for mark in marks {
            assert_eq!(read(&mark.labels()), Ok(Some(mark)));
        }
    }

    #[test]
    fn labels_of_others_are_no_mark() {
        let others = ["squall.response", "squall.quarantined", "com.docker.stack.namespace"];
        assert_eq!(read(&others.map(|name| (name.to_owned(), "x".to_owned()))), Ok(None));
    }

    #[test]
    fn a_label_that_was_changed_is_named() {
        let labels = mark().labels();
        for (at, (name, _)) in labels.iter().enumerate() {
            let mut without = labels.clone();
            without.remove(at);
            if name.ends_with(".until") {
                continue;
            }
            let error = read(&without).expect_err(name);
            assert!(error.label.starts_with(HELD_LABEL), "{error}");
            let mut odd = labels.clone();
            odd[at].1 = "\u{0}-1".to_owned();
            assert_eq!(read(&odd).expect_err(name).label, *name);
        }
    }
}
