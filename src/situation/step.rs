//! One case's way from phase to phase.

use std::sync::Arc;

use super::Input;
use crate::model::{
    Case, CauseCounts, HoldChange, HoldEnd, ImageRef, Labels, Phase, Quarantine, Step, Storm, StormState, SubjectKind,
    Timestamp, fnv_64,
};

/// The case after an input; `None` where the input says nothing about it.
pub(super) fn next(
    before: Option<&Case>,
    recalled: Option<Arc<Storm>>,
    now: Timestamp,
    input: Input,
    labels: &Labels,
) -> Option<Case> {
    let mut case = match (before, &input) {
        (Some(case), _) => case.clone(),
        (None, Input::Storm(storm)) => {
            let recalled = recalled.filter(|known| continues(known, storm));
            begun(now, recalled.unwrap_or_else(|| Arc::clone(storm)))
        }
        (None, Input::Hold(HoldChange::Held(held))) => begun(now, held_storm(held, recalled)),
        // It is over already, or never was a case.
        (None, Input::Calm(_) | Input::Hold(HoldChange::Ended(..)) | Input::Refused { .. }) => return None,
    };
    if !labels.is_empty() {
        case.labels.clone_from(labels);
    }
    let enter = |case: &mut Case, phase: Phase| {
        if case.phase != phase {
            (case.phase, case.since) = (phase, now);
        }
        if matches!(phase, Phase::Storming | Phase::Over) {
            case.hold = None;
        }
    };
    match input {
        Input::Storm(storm) => match case.phase {
            // A watched attempt that fails is no storm of its own: the quarantine tells what becomes of it.
            Phase::Held | Phase::Probation | Phase::Returning => {}
            Phase::Storming | Phase::LetGo | Phase::Over => {
                // Failures that came before it was let go are no sign that it still fails.
                let is_new = case.phase == Phase::Over || storm.onset > case.since;
                case.storm = since_onset_of(&case, storm);
                if is_new {
                    enter(&mut case, Phase::Storming);
                }
            }
        },
        Input::Calm(storm) => match case.phase {
            Phase::Held | Phase::Probation | Phase::Returning => {
                if case.storm.id == storm.id {
                    // It fails no more because squall holds it.
                    let held = Storm { state: StormState::Quarantined, ended: None, ..(*storm).clone() };
                    case.storm = Arc::new(held);
                }
            }
            Phase::Storming => {
                case.storm = since_onset_of(&case, storm);
                enter(&mut case, Phase::Over);
            }
            // It is over when the hold-down since it was let go has passed, too.
            Phase::LetGo => case.storm = since_onset_of(&case, storm),
            Phase::Over => {}
        },
        Input::Hold(HoldChange::Held(held)) => {
            if !held.storm.is_empty() {
                case.id = held.storm;
            }
            enter(&mut case, held.phase);
            case.hold = Some(held.hold);
            (case.refusal, case.why) = (None, String::new());
        }
        Input::Hold(HoldChange::Ended(_, end)) => match end {
            HoldEnd::Returned => {
                case.why = "squall has given it back as it was".to_owned();
                end_at(&mut case, now);
            }
            HoldEnd::Gone => {
                case.why = "it was removed".to_owned();
                end_at(&mut case, now);
            }
            HoldEnd::LetGo(why) if case.phase.is_held() => {
                case.why = why;
                if case.storm.ended.is_none() {
                    // If it still fails, its storm as it is now says so.
                    Arc::make_mut(&mut case.storm).ended = Some(now);
                }
                enter(&mut case, Phase::LetGo);
            }
            HoldEnd::LetGo(_) => {}
        },
        Input::Refused { refusal, response, .. } => {
            if case.phase == Phase::Storming {
                case.refusal = Some((refusal, response));
            }
        }
    }
    Some(case)
}

/// What tells a case from the case that it was before; `None` where nothing does.
pub(super) fn difference(before: Option<&Case>, after: &Case) -> Option<Step> {
    let Some(before) = before else { return Some(Step::Began) };
    let tries = |case: &Case| case.hold.as_ref().map_or(0, |hold| hold.tries);
    match after.phase {
        Phase::Held if before.phase.is_held() && tries(after) > tries(before) => Some(Step::AttemptFailed),
        phase if phase != before.phase => Some(match phase {
            Phase::Storming => Step::Resumed,
            Phase::Held => Step::Held,
            Phase::Probation => Step::Tried,
            Phase::Returning => Step::Returning,
            Phase::LetGo => Step::LetGo,
            Phase::Over => Step::Over,
        }),
        Phase::Storming if before.storm.cause != after.storm.cause => Some(Step::CauseChanged),
        _ => (before != after).then_some(Step::Updated),
    }
}

/// Holds in debug builds what is so by construction: phases change only as drawn, and a quarantine is in force in the
/// phases that say so.
pub(super) fn assert_drawn(before: Option<&Case>, after: &Case) {
    use Phase::{Held, LetGo, Over, Probation, Returning, Storming};
    let is_drawn = match (before.map(|case| case.phase), after.phase) {
        (None, phase) => matches!(phase, Storming | Held | Probation | Returning),
        (Some(from), to) if from == to => true,
        (Some(Storming), to) => matches!(to, Held | Probation | Returning | Over),
        (Some(Held | Probation | Returning), to) => matches!(to, Held | Probation | Returning | LetGo | Over),
        (Some(LetGo), to) => matches!(to, Storming | Held | Probation | Returning | Over),
        (Some(Over), _) => false,
    };
    debug_assert!(is_drawn, "{:?} to {}", before.map(|case| case.phase), after.phase);
    let has_hold = after.phase.is_held() || after.phase == LetGo;
    debug_assert_eq!(has_hold, after.hold.is_some(), "{}: {}", after.storm.subject.name, after.phase);
    debug_assert!(before.is_none_or(|case| case.id == after.id || after.phase.is_held()), "an id is for life");
}

fn begun(now: Timestamp, storm: Arc<Storm>) -> Case {
    Case {
        id: storm.id.clone(),
        phase: Phase::Storming,
        since: now,
        storm,
        hold: None,
        refusal: None,
        why: String::new(),
        labels: Labels::new(),
    }
}

fn end_at(case: &mut Case, now: Timestamp) {
    (case.phase, case.since, case.hold) = (Phase::Over, now, None);
    if case.storm.ended.is_none() {
        Arc::make_mut(&mut case.storm).ended = Some(now);
    }
    Arc::make_mut(&mut case.storm).state = StormState::Subsided;
}

/// Whether a storm that was found may be one that went on when the process before this one ended. If its beginning is known,
/// and is later, it is another.
fn continues(known: &Storm, found: &Storm) -> bool {
    !found.exact || found.id == known.id || found.onset <= known.detected
}

/// A storm of a case that may have begun with an earlier one.
fn since_onset_of(case: &Case, storm: Arc<Storm>) -> Arc<Storm> {
    let onset = case.storm.onset;
    if storm.onset <= onset { storm } else { Arc::new((*storm).clone().since(onset)) }
}

/// The storm of a quarantine that was there before this process.
fn held_storm(held: &Quarantine, recalled: Option<Arc<Storm>>) -> Arc<Storm> {
    match recalled {
        Some(storm) => Arc::new(Storm { state: StormState::Quarantined, ended: None, ..(*storm).clone() }),
        None => Arc::new(storm_of(held)),
    }
}

/// A quarantine whose storm nobody has seen: one that a person began, or that was there when squall started.
fn storm_of(held: &Quarantine) -> Storm {
    let since = held.hold.since;
    let id = match &*held.storm {
        "" => {
            let at = since.as_nanos().to_be_bytes();
            format!("{:016x}", fnv_64([held.subject.kind.as_str().as_bytes(), held.subject.name.as_bytes(), &at]))
        }
        id => id.to_owned(),
    };
    let image = ImageRef::parse(&held.image).ok();
    let pinned = image.as_ref().is_some_and(ImageRef::is_pinned);
    let asks_again = image.is_some() && !pinned && held.subject.kind == SubjectKind::SwarmService;
    Storm {
        id,
        subject: held.subject.clone(),
        state: StormState::Quarantined,
        cause: held.cause,
        causes: CauseCounts::default(),
        detail: String::new(),
        onset: since,
        exact: false,
        updated: None,
        detected: since,
        ended: None,
        detected_after_failures: 0,
        attempts: 0,
        failed: 0,
        attempts_per_min: 0.0,
        registry: image.map(|image| image.registry.to_owned()).unwrap_or_default(),
        image: held.image.clone(),
        pinned,
        pulls: held.cause.is_pull() || asks_again,
        nodes: Vec::new(),
        slots: Vec::new(),
        replicas: None,
        spend: None,
        advice: format!("squall release {} gives it back as it was", held.subject.name),
    }
}
