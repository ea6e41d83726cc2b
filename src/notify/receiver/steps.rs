//! The next steps of an alert, one for each cause: an alert about many storms has no single next step.
//!
//! Only storms that go on are counted, and only those that the alert names: if it leaves some out, a count is "at least".

use std::collections::BTreeMap;

use serde::Serialize;

use super::text::{self, NAME_MAX};
use crate::model::{Alert, AlertKind, AlertStorm, Cause};

/// Units of a next step, and how many a message has.
pub(super) const STEP_MAX: usize = 400;
pub(super) const STEPS_MAX: usize = 5;
/// Services by name in a line, and units of a name: the advice is to have most of the line.
const NAMED_MAX: usize = 3;
const NAMED_UNITS_MAX: usize = 40;

/// The next step for the storms of one cause.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    cause: Cause,
    /// The services, as the alert orders them: those that fail most first.
    services: Vec<String>,
    /// What to do about the one that fails most.
    advice: String,
    /// The services that this advice fits word for word: names and paths in it may be those of one service.
    advised: Vec<String>,
}

/// The next steps, that of most services first. Empty if nothing goes on, or no storm has advice.
pub(super) fn steps(alert: &Alert) -> Vec<Step> {
    let mut by_cause: BTreeMap<Cause, Vec<&AlertStorm>> = BTreeMap::new();
    // A release asks for nothing.
    if alert.kind != AlertKind::Release {
        for storm in alert.storms.iter().filter(|storm| storm.ended.is_none()) {
            by_cause.entry(storm.cause).or_default().push(storm);
        }
    }
    let step = |(cause, storms): (Cause, Vec<&AlertStorm>)| {
        let advice = storms.iter().map(|storm| &storm.advice).find(|advice| !advice.is_empty())?;
        let names =
            |storms: &mut dyn Iterator<Item = &&AlertStorm>| storms.map(|storm| text::name(storm, NAME_MAX)).collect();
        Some(Step {
            cause,
            services: names(&mut storms.iter()),
            advice: advice.clone(),
            advised: names(&mut storms.iter().filter(|storm| storm.advice == *advice)),
        })
    };
    let mut steps: Vec<Step> = by_cause.into_iter().filter_map(step).collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.services.len()));
    steps
}

/// The same in lines of at most [`STEP_MAX`] units: at most `max` causes, and how many more there are.
pub(super) fn lines(alert: &Alert, max: usize) -> Vec<String> {
    let steps = steps(alert);
    let is_one = alert.storms.len() == 1 && alert.storms_left_out == 0;
    let mut lines: Vec<String> = match &steps[..] {
        // Alerts that are not about storms have their own.
        [] => vec![text::short(&alert.next_step, STEP_MAX)],
        [step] if is_one => vec![text::short(&step.advice, STEP_MAX)],
        steps => steps.iter().take(max).map(|step| step.line(alert.storms_left_out > 0)).collect(),
    };
    match steps.len().saturating_sub(max) {
        0 => {}
        1 => lines.push("and 1 more cause".to_owned()),
        more => lines.push(format!("and {more} more causes")),
    }
    lines.retain(|line| !line.is_empty());
    lines
}

impl Step {
    /// `3 mount (shop_a, shop_b, shop_c): create the source on every node`
    fn line(&self, is_part: bool) -> String {
        let at_least = if is_part { "at least " } else { "" };
        let services = text::names(&self.services, NAMED_MAX, NAMED_UNITS_MAX);
        let fits = match &self.advised[..] {
            all if all.len() == self.services.len() => String::new(),
            [one] => format!("; for {}", text::short(one, NAMED_UNITS_MAX)),
            some => format!("; for {} of them", some.len()),
        };
        let count = self.services.len();
        text::short(&format!("{at_least}{count} {} ({services}){fits}: {}", self.cause, self.advice), STEP_MAX)
    }
}
