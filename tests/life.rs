//! One service's trouble as people hear it, on virtual time, by all the real rooms: observations in, writes to Docker and
//! the requests of receivers out. However it ends, and whoever leads or is killed on the way, it is one incident.

#[path = "telling/listener.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod listener;
#[path = "support/simulated_world.rs"]
#[allow(dead_code, unreachable_pub, reason = "a test binary has no public face, and uses a part of it")]
mod simulated_world;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use listener::Listener;
use serde_json::{Value, json};
use simulated_world::receivers::{Got, Receivers, ways};
use simulated_world::swarm::{BASE, Extent, Shape};
use simulated_world::{Deed, Size, What, World};
use squall::model::{Action, Step, Timestamp};
use squall::notify::{Courier, Filter, Receiver, Sender, Way};
use squall::respond::RESPONSE_LABEL;

const SEC: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// When the service begins to fail.
const FAILS_AT: Duration = MINUTE;
/// By then each manager has found the storm.
const DETECTED_BY: Duration = Duration::from_secs(65);
/// When somebody does something about it.
const DEED_AT: Duration = Duration::from_secs(360);
/// The distance between the first two messages of a conversation doubles so often.
const DOUBLINGS: usize = 4;

/// How the trouble ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It is mended, and squall gives the service back.
    ComesBack,
    /// Somebody deploys an image that does not fail, while squall holds it.
    Deployed,
    /// Somebody gives it another number of replicas while squall holds it; it fails for a while longer.
    Scaled,
    /// It is mended, and somebody releases it.
    Released,
    /// Somebody releases it before it is mended.
    ReleasedTooSoon,
    /// Somebody removes it while squall holds it.
    Removed,
    /// Nobody has asked squall to hold it, and it is mended.
    Unheld,
}

const ENDINGS: [Ending; 7] = [
    Ending::ComesBack,
    Ending::Deployed,
    Ending::Scaled,
    Ending::Released,
    Ending::ReleasedTooSoon,
    Ending::Removed,
    Ending::Unheld,
];

impl Ending {
    /// How long the service fails.
    fn lasts(self) -> Duration {
        match self {
            Self::Released => DEED_AT - FAILS_AT - 5 * SEC,
            Self::Scaled | Self::ReleasedTooSoon => 20 * MINUTE,
            _ => 9 * MINUTE,
        }
    }

    fn deed(self) -> Option<Deed> {
        match self {
            Self::ComesBack | Self::Unheld => None,
            Self::Deployed => Some(Deed::Deploy),
            Self::Scaled => Some(Deed::Scale(3)),
            Self::Released | Self::ReleasedTooSoon => Some(Deed::Release),
            Self::Removed => Some(Deed::Remove),
        }
    }
}

/// Upsets on the way.
#[derive(Clone, Debug, Default)]
struct Upset {
    happens: Vec<(Duration, What)>,
    fatal: Option<(u64, bool)>,
}

impl Upset {
    fn of(happens: impl IntoIterator<Item = (Duration, What)>) -> Self {
        Self { happens: happens.into_iter().collect(), fatal: None }
    }
}

/// The life of one service that three managers watch, of which the first leads.
fn life(ending: Ending, upset: &Upset) -> World {
    life_of(ending, ending.lasts(), 2 * HOUR, upset)
}

fn life_of(ending: Ending, lasts: Duration, length: Duration, upset: &Upset) -> World {
    let size = Size { services: 1, length, storms: 0, edits: 0, upsets: 0, mishaps: false };
    let mut world = World::empty(1, size);
    let labels = if ending == Ending::Unheld { json!({}) } else { json!({RESPONSE_LABEL: "backoff"}) };
    let spec = json!({"Name": "shop_api", "Labels": labels, "Mode": {"Replicated": {"Replicas": 2}},
        "TaskTemplate": {"ContainerSpec": {"Image": "r.example/shop/api:1"}, "ForceUpdate": 0,
            "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000}}});
    world.add("api", spec, SEC);
    world.watch();
    world.receivers = Some(Receivers::at("https://example.com"));
    let shape = Shape::Rejected("invalid mount config for type \"bind\": bind source path does not exist: /data");
    world.strike_later(0, shape, Extent::All, FAILS_AT, lasts, ending == Ending::Deployed);
    if let Some(deed) = ending.deed() {
        world.at(BASE.plus(DEED_AT), What::Person { service: 0, deed });
    }
    for (after, what) in &upset.happens {
        world.at(BASE.plus(*after), *what);
    }
    world.fatal = upset.fatal;
    world.run();
    world
}

/// Moments within each phase and just after each step and message: the first watched attempts and the last stand for all.
fn moments(ending: Ending) -> Vec<Duration> {
    let world = life(ending, &Upset::default());
    let mut steps: Vec<Timestamp> = Vec::new();
    let is_try = |step: Step| matches!(step, Step::Tried | Step::AttemptFailed);
    let tries = world.steps.iter().filter(|(_, step)| is_try(*step)).count();
    let mut nth = 0;
    for (at, step) in &world.steps {
        nth += usize::from(is_try(*step));
        if !is_try(*step) || nth <= 2 || nth + 2 > tries {
            steps.push(*at);
        }
    }
    steps.extend(world.told.iter().map(|alert| alert.at));
    steps.push(BASE.plus(FAILS_AT));
    steps.push(BASE.plus(DEED_AT));
    steps.sort_unstable();
    let mut moments: BTreeSet<Duration> = steps.iter().map(|at| at.since(BASE) + SEC).collect();
    moments.extend(steps.windows(2).map(|pair| pair[0].since(BASE) + pair[1].since(pair[0]) / 2));
    moments.into_iter().collect()
}

/// The requests that tell an alert, each once: a new leader may say again what the one before it has just said.
fn once<'a>(got: impl Iterator<Item = &'a Got>) -> Vec<&'a Got> {
    let mut known = BTreeSet::new();
    got.filter(|got| got.alert.as_ref().is_none_or(|alert| known.insert(alert.clone()))).collect()
}

fn time(value: &Value) -> Timestamp {
    Timestamp::parse(value.as_str().expect("a text")).expect("a time")
}

/// One incident: it is triggered, and resolved once, at the end.
fn check_pagerduty(receivers: &Receivers) -> Result<(), String> {
    let got = once(receivers.of("pagerduty"));
    let keys: BTreeSet<Option<&str>> = got.iter().map(|got| got.body["dedup_key"].as_str()).collect();
    let actions: Vec<&str> = got.iter().filter_map(|got| got.body["event_action"].as_str()).collect();
    let (last, before) = actions.split_last().ok_or("PagerDuty: nothing")?;
    let is_one = keys.len() == 1 && !before.is_empty() && before.iter().all(|action| *action == "trigger");
    if is_one && *last == "resolve" { Ok(()) } else { Err(format!("PagerDuty: {keys:?} {actions:?}")) }
}

/// One alert: it fires until it ends, and does not fire again.
fn check_alertmanager(receivers: &Receivers) -> Result<(), String> {
    let got = once(receivers.of("alertmanager"));
    let told: Vec<(&Got, &Value)> =
        got.iter().flat_map(|got| got.body.as_array().into_iter().flatten().map(|told| (*got, told))).collect();
    let (_, first) = told.first().ok_or("Alertmanager: nothing")?;
    let mut fires_until: Option<Timestamp> = None;
    let mut ended: Option<Timestamp> = None;
    for (got, told) in &told {
        let (at, ends) = (got.at, time(&told["endsAt"]));
        let fail = |what: &str| {
            let [is, was] = [*told, *first].map(|one| format!("{} {}", one["startsAt"], one["labels"]));
            Err(format!("Alertmanager after {} s: {what}: {is}, at first {was}", at.since(BASE).as_secs()))
        };
        if got.path != "/alertmanager/api/v2/alerts" {
            return fail("another path");
        }
        if told["labels"] != first["labels"] {
            return fail("other labels");
        }
        // Alertmanager keeps the earliest: a process that found it later may say so.
        if time(&told["startsAt"]) < time(&first["startsAt"]) {
            return fail("an earlier start");
        }
        if fires_until.is_some_and(|until| until < at) && ended.is_none() {
            return fail("it was taken for over");
        }
        match ended {
            Some(_) if ends > at => return fail("it fires again"),
            Some(before) if before != ends => return fail("it ends again"),
            _ if ends <= at => ended = Some(ends),
            _ => fires_until = Some(ends),
        }
    }
    ended.map(drop).ok_or_else(|| "Alertmanager: it does not end".to_owned())
}

/// Messages keep a doubling distance; only the last one says that it is over, and comes as soon as that is known.
fn check_slack(receivers: &Receivers, is_spaced_by_all: bool) -> Result<(), String> {
    let got = once(receivers.of("slack"));
    let texts: Vec<&str> = got.iter().filter_map(|got| got.body["text"].as_str()).collect();
    let over: Vec<bool> = texts.iter().map(|text| text.starts_with("over: ")).collect();
    let says_over_last = over.last() == Some(&true) && over.iter().filter(|is| **is).count() == 1;
    let apart = |nth: usize| got[nth + 1].at.since(got[nth].at);
    let least = |nth: usize| if nth + 2 == got.len() { 15 * SEC } else { MINUTE * (1 << nth.min(DOUBLINGS)) };
    let is_spaced = !is_spaced_by_all || (0..got.len() - 1).all(|nth| apart(nth) + SEC >= least(nth));
    let when: Vec<u64> = got.iter().map(|got| got.at.since(BASE).as_secs()).collect();
    if says_over_last && is_spaced { Ok(()) } else { Err(format!("Slack: {texts:?} after {when:?} s")) }
}

/// A program hears one conversation, which ends once, and each id of a message stands for one message.
fn check_webhook(receivers: &Receivers) -> Result<(), String> {
    let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut ends = BTreeSet::new();
    let mut conversations = BTreeSet::new();
    for got in receivers.of("webhook") {
        let id = got.alert.as_deref().unwrap_or_default();
        // A manager that was started again says of an onset that it was there at the start, under the same id.
        let kind = got.body["kind"].as_str().unwrap_or_default();
        kinds.entry(id).or_default().insert(if kind == "baseline" { "onset" } else { kind });
        conversations.insert(got.body["conversation"].as_str());
        if got.body["ends"] == true {
            ends.insert(id);
        }
    }
    let is_one = conversations.len() == 1 && ends.len() == 1 && kinds.values().all(|kinds| kinds.len() == 1);
    if is_one { Ok(()) } else { Err(format!("webhook: {conversations:?} end by {ends:?}: {kinds:?}")) }
}

/// Each write follows on the one before it, and none comes twice, whoever makes it.
fn check_writes(ending: Ending, world: &World) -> Result<(), String> {
    use Action::{Probe, Quarantine, Raise, Release};
    let actions: Vec<Action> = world.actions.iter().map(|(_, _, action)| *action).collect();
    let fail = |what: &str| Err(format!("writes: {what}: {:?}", written(world)));
    let (first, last) = (actions.first().copied(), actions.last().copied());
    if ending == Ending::Unheld {
        return if actions.is_empty() { Ok(()) } else { fail("of what nobody asked to be held") };
    }
    if first != Some(Quarantine) {
        return fail("it is not held first");
    }
    // The delay doubles with each watched attempt that failed. A person's deed begins a hold of its own.
    let mut tries = 0;
    let deed_at = BASE.plus(DEED_AT);
    for pair in world.actions.windows(2) {
        let [(before_at, _, before), (at, _, action)] = pair else { continue };
        let is_anew = ending.deed().is_some() && *before_at < deed_at && *at >= deed_at;
        let follows = match (before, action) {
            _ if is_anew => *action == Quarantine,
            (Quarantine, Probe) | (Probe | Raise, Quarantine | Raise | Release) => true,
            _ => false,
        };
        if !follows {
            return fail("one does not follow on the other");
        }
        if is_anew || *action == Raise {
            tries = 0;
        }
        if (*before, *action) == (Quarantine, Probe) {
            if at.since(*before_at) < (10 * SEC * 2_u32.pow(tries)).min(30 * MINUTE) {
                return fail("tried too soon");
            }
            tries = (tries + 1).min(16);
        }
    }
    let after_deed = world.actions.iter().any(|(at, _, _)| *at >= deed_at);
    match ending {
        Ending::ComesBack if last != Some(Release) => fail("it is not given back"),
        Ending::Scaled | Ending::ReleasedTooSoon if !after_deed || last != Some(Release) => {
            fail("it is not held again and given back")
        }
        Ending::Deployed | Ending::Released | Ending::Removed if after_deed => fail("after a person's deed"),
        _ => Ok(()),
    }
}

/// The writes, with the seconds after which they came and the manager.
fn written(world: &World) -> Vec<String> {
    let text = |(at, manager, action): &(Timestamp, usize, Action)| {
        format!("{} s {manager} {action}", at.since(BASE).as_secs())
    };
    world.actions.iter().map(text).collect()
}

/// All that is wrong with a life; `is_spaced` if the distance between messages has to be kept.
fn faults(ending: Ending, world: &World, is_spaced: bool) -> Vec<String> {
    let receivers = world.receivers.as_ref().expect("they are there");
    let checks = [
        check_pagerduty(receivers),
        check_alertmanager(receivers),
        check_slack(receivers, is_spaced),
        check_webhook(receivers),
        check_writes(ending, world),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

/// Lives in which something comes in between at each moment; panics with all that is wrong with them.
#[track_caller]
fn check_each(upset: impl Fn(Duration) -> Upset) {
    check_from(Duration::ZERO, true, upset);
}

/// The same from a moment on.
#[track_caller]
fn check_from(from: Duration, is_spaced: bool, upset: impl Fn(Duration) -> Upset) {
    let mut found = Vec::new();
    let mut lives = 0;
    for ending in ENDINGS {
        for moment in moments(ending).into_iter().filter(|moment| *moment >= from) {
            lives += 1;
            let world = life(ending, &upset(moment));
            let faults = faults(ending, &world, is_spaced);
            found.extend(faults.into_iter().map(|fault| format!("{ending:?}, upset after {moment:?}: {fault}")));
        }
    }
    assert!(found.is_empty(), "{} faults in {lives} lives:\n{}", found.len(), found.join("\n"));
}

#[test]
fn however_it_ends_it_is_one_incident() {
    for ending in ENDINGS {
        let world = life(ending, &Upset::default());
        assert_eq!(faults(ending, &world, true), [""; 0], "{ending:?}");
    }
}

#[test]
fn another_leader_in_any_phase_goes_on_with_the_incident() {
    check_each(|moment| Upset::of([(moment, What::Lead { manager: 1 })]));
}

#[test]
fn a_leading_node_that_dies_in_any_phase_leaves_one_incident() {
    check_each(|moment| Upset::of([(moment, What::Kill { manager: 0 })]));
}

#[test]
fn a_squall_that_is_killed_in_any_phase_goes_on_with_the_incident() {
    check_each(|moment| Upset::of([(moment, What::Crash { manager: 0 })]));
}

#[test]
fn a_squall_that_was_killed_in_any_phase_and_then_leads_goes_on_with_the_incident() {
    // A process that was killed before it found the storm finds a younger one in the tasks that are left, and no process
    // knows when another one told its last message.
    check_from(DETECTED_BY, false, |moment| {
        Upset::of([(moment, What::Crash { manager: 1 }), (moment + 30 * SEC, What::Lead { manager: 1 })])
    });
}

#[test]
fn a_squall_that_is_killed_just_before_or_after_a_write_repeats_nothing() {
    let mut found = Vec::new();
    for ending in ENDINGS.into_iter().filter(|ending| *ending != Ending::Unheld) {
        let writes = life(ending, &Upset::default()).actions.len();
        for write in 1..=writes {
            for is_after in [false, true] {
                let fatal = Some((u64::try_from(write).expect("few"), is_after));
                let world = life(ending, &Upset { fatal, ..Upset::default() });
                let faults = faults(ending, &world, true);
                found.extend(faults.into_iter().map(|fault| format!("{ending:?}, killed at {fatal:?}: {fault}")));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_service_that_is_held_for_days_is_told_of_once_a_day() {
    let world = life_of(Ending::ComesBack, 60 * HOUR, 64 * HOUR, &Upset::default());
    assert_eq!(faults(Ending::ComesBack, &world, true), [""; 0]);
    assert!(world.counts["probe"] > 100, "attempts were tried, and failed: {:?}", world.counts);
    let kinds: Vec<&str> = world.told.iter().map(|alert| alert.kind.as_str()).collect();
    assert_eq!(kinds, ["onset", "repeat", "repeat", "subsided"]);
    assert!(world.told[2].storms[0].answer.contains("watched attempts failed"), "{}", world.told[2].storms[0].answer);
}

/// The virtual receivers get the requests that a courier sends.
#[tokio::test]
async fn a_courier_sends_what_the_virtual_receivers_got() {
    let listener = Listener::start();
    let quota = Quota::per_minute(NonZeroU32::new(600).expect("not zero"));
    let receiver = |way: Way| Receiver { name: way.as_str().to_owned(), way, filter: Filter::default(), quota };
    let receivers = ways(listener.url("").trim_end_matches('/')).into_iter().map(receiver).collect();
    let courier = Courier::new(receivers, None, Vec::new(), Sender::new().expect("a sender"), || BASE);
    for ending in ENDINGS {
        let world = life(ending, &Upset::default());
        for alert in &world.told {
            courier.post(alert, &BTreeMap::new()).await;
            courier.flush(MINUTE).await;
        }
        let told = |got: &&Got| got.alert.is_some();
        for kind in ["pagerduty", "alertmanager", "slack", "webhook"] {
            let virtually: Vec<(String, Value)> = world
                .receivers
                .as_ref()
                .expect("they are there")
                .of(kind)
                .filter(told)
                .map(|got| (got.path.clone(), got.body.clone()))
                .collect();
            let really: Vec<(String, Value)> =
                listener.got(kind).iter().map(|got| (got.path.clone(), got.json())).collect();
            let last = really.len() - virtually.len();
            assert!(!virtually.is_empty() && really[last..] == virtually[..], "{ending:?}: {kind}: {really:#?}");
        }
    }
}
