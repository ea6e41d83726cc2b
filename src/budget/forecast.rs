//! When a rolling window runs out.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{Budget, Exhaustion, Timestamp};

/// What is known of a budget and of who spends it.
#[derive(Clone, Debug)]
pub struct Outlook<'a> {
    /// What the registry said is left.
    pub budget: Budget,
    /// When it said so. What is spent and comes back after this is not in it.
    pub at: Timestamp,
    /// The pulls that are known, each with its time, oldest first: what comes back when it is a window old.
    pub spent: &'a [(Timestamp, u64)],
    /// Pulls a minute from `at` on: at the least, and at the most.
    pub pace: RangeInclusive<f64>,
}

/// When the budget runs out. A pull comes back when it is a window old (Docker Hub's window rolls). When that is with
/// what others spent before is not known: at the earliest at once, at the latest after a window.
pub fn exhaustion(outlook: &Outlook<'_>) -> Exhaustion {
    let Outlook { budget, at, spent, ref pace } = *outlook;
    if budget.remaining <= 0 {
        return Exhaustion::Now;
    }
    let window = budget.window();
    let known: Vec<(Timestamp, u64)> = spent.iter().copied().filter(|(when, _)| *when <= at).collect();
    // Of what is older than the window nothing is in the figure any more.
    let counted = known.iter().filter(|(when, _)| window.is_none_or(|window| when.plus(window) > at));
    let own: u64 = counted.map(|(_, count)| count).sum();
    let others = budget.spent().saturating_sub(own);
    let first = runs_out(&budget, at, &known, *pace.end(), 0);
    let last = runs_out(&budget, at, &known, *pace.start(), others);
    match first {
        None => Exhaustion::Never,
        Some(from) => Exhaustion::Between { from, to: last },
    }
}

/// When nothing is left at a steady pace, of which `at_once` comes back at once. What this pace spends comes back too.
fn runs_out(budget: &Budget, at: Timestamp, known: &[(Timestamp, u64)], pace: f64, at_once: u64) -> Option<Timestamp> {
    // Below one pull in a hundred days there is no pace to speak of.
    if !(pace.is_finite() && pace > 1e-5) {
        return None;
    }
    let minutes = |span: Duration| span.as_secs_f64() / 60.0;
    #[expect(clippy::cast_precision_loss, reason = "a forecast needs no more than 52 bits")]
    let float = |count: u64| count as f64;
    let mut left = float(u64::try_from(budget.remaining).unwrap_or(0)) + float(at_once);
    let Some(window) = budget.window() else {
        return Some(at.plus(Duration::from_secs_f64(left / pace * 60.0)));
    };
    let end = at.plus(window);
    let mut now = at;
    for (when, count) in known {
        let back = when.plus(window);
        if back <= at {
            continue;
        }
        let spent = minutes(back.since(now)) * pace;
        if spent >= left {
            return Some(now.plus(Duration::from_secs_f64(left / pace * 60.0)));
        }
        left += float(*count) - spent;
        now = back;
    }
    // A window from the start on as much comes back as is spent.
    let spent = minutes(end.since(now)) * pace;
    (spent >= left).then(|| now.plus(Duration::from_secs_f64(left / pace * 60.0)))
}
