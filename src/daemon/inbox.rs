use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::{CaseKey, Step};
use crate::notify::Heard;

/// The cases that the desk has not heard of yet, one entry for each: however late the desk is, no step is lost, and there
/// are no more of them than cases.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    cases: Mutex<BTreeMap<CaseKey, Heard>>,
    filled: Notify,
}

impl Inbox {
    pub(super) fn put(&self, heard: Heard) {
        let mut cases = self.cases.lock().unwrap_or_else(PoisonError::into_inner);
        match cases.get_mut(&heard.case.key()) {
            Some(waiting) => {
                // A case that begins after the one before it was over is another case.
                if heard.steps.contains(&Step::Began) {
                    waiting.steps.clear();
                }
                waiting.steps.extend(heard.steps);
                waiting.case = heard.case;
            }
            None => drop(cases.insert(heard.case.key(), heard)),
        }
        drop(cases);
        self.filled.notify_one();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cases.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits for cases, and takes them out.
    pub(super) async fn take(&self) -> Vec<Heard> {
        loop {
            let filled = self.filled.notified();
            let cases = std::mem::take(&mut *self.cases.lock().unwrap_or_else(PoisonError::into_inner));
            if !cases.is_empty() {
                return cases.into_values().collect();
            }
            filled.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::{
        Author, Case, Cause, Hold, HoldChange, Labels, Phase, Quarantine, Response, Subject, SubjectKind, Timestamp,
    };
    use crate::situation::{Input, Situation};

    fn heard(name: &str, phase: Phase, step: Step) -> Heard {
        let now = Timestamp::from_secs(1_795_248_000);
        let subject =
            Subject { kind: SubjectKind::SwarmService, name: name.to_owned(), id: name.to_owned(), stack: None };
        let hold = Hold { response: Response::Backoff, by: Author::Breaker, since: now, until: None, tries: 0 };
        let held = Quarantine {
            subject,
            storm: name.to_owned(),
            cause: Cause::Mount,
            image: String::new(),
            phase: Phase::Held,
            hold,
        };
        let mut situation = Situation::new(Duration::from_secs(60));
        situation.take(now, Input::Hold(HoldChange::Held(Box::new(held))), &Labels::new());
        let begun = situation.drain().next().expect("it began").case;
        Heard { case: Arc::new(Case { phase, hold: None, ..(*begun).clone() }), steps: BTreeSet::from([step]) }
    }

    #[tokio::test]
    async fn a_desk_that_is_late_hears_each_step_of_each_case_once() {
        let inbox = Inbox::default();
        inbox.put(heard("a", Phase::Storming, Step::Began));
        inbox.put(heard("b", Phase::Storming, Step::Began));
        inbox.put(heard("a", Phase::Storming, Step::CauseChanged));
        inbox.put(heard("a", Phase::Over, Step::Over));
        let cases = inbox.take().await;
        assert_eq!(cases.len(), 2, "one entry for each case");
        assert_eq!(cases[0].case.phase, Phase::Over);
        assert_eq!(cases[0].steps, BTreeSet::from([Step::Began, Step::CauseChanged, Step::Over]));
        assert!(inbox.is_empty());
        // Another case of the same service: the one before it is no part of it.
        inbox.put(heard("a", Phase::Over, Step::Over));
        inbox.put(heard("a", Phase::Storming, Step::Began));
        assert_eq!(inbox.take().await[0].steps, BTreeSet::from([Step::Began]));
    }

    #[tokio::test]
    async fn a_desk_that_waits_is_woken_by_the_first_case() {
        let inbox = Arc::new(Inbox::default());
        let waiting = tokio::spawn({
            let inbox = Arc::clone(&inbox);
            async move { inbox.take().await.len() }
        });
        tokio::task::yield_now().await;
        inbox.put(heard("a", Phase::Storming, Step::Began));
        assert_eq!(waiting.await.expect("it ends"), 1);
    }
}
