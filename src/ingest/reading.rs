use std::borrow::Cow;

use crate::model::{Fact, Gap, LogFact, Observation};

/// What reading one line or object came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<'a> {
    /// A fact.
    Observation(Observation<'a>),
    /// It was understood, and tells nothing about attempts.
    Nothing,
    /// A span that the origin could not vouch for, as `record` writes it.
    Gap(Gap),
    /// It could not be read; why, from a closed set.
    Skipped(&'static str),
}

impl Reading<'_> {
    /// The same reading, borrowing from nothing.
    pub(super) fn into_owned(self) -> Reading<'static> {
        match self {
            Reading::Observation(Observation { at, origin, fact: Fact::Log(fact) }) => {
                let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
                let fact = LogFact {
                    kind: fact.kind,
                    service_id: own(fact.service_id),
                    task_id: own(fact.task_id),
                    node_id: own(fact.node_id),
                    error: own(fact.error),
                };
                Reading::Observation(Observation { at, origin, fact: Fact::Log(fact) })
            }
            Reading::Observation(Observation { at, origin, fact: Fact::Engine(engine) }) => {
                Reading::Observation(Observation { at, origin, fact: Fact::Engine(engine) })
            }
            // Log lines give nothing else.
            Reading::Observation(_) | Reading::Nothing => Reading::Nothing,
            Reading::Gap(gap) => Reading::Gap(gap),
            Reading::Skipped(reason) => Reading::Skipped(reason),
        }
    }
}
