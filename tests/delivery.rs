//! How an alert reaches a receiver that refuses it: hours on a clock of the test's own, requests on loopback.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

#[path = "telling/listener.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod listener;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;
use listener::{Listener, Say};
use squall::model::{Alert, AlertKind, Severity, Timestamp};
use squall::notify::receiver::{Kind, PagerDuty, Webhook};
use squall::notify::{Content, Courier, Filter, Outbox, Receiver, Sender, Way};
use tempfile::TempDir;

const SEC: Duration = Duration::from_secs(1);
const MIN: Duration = Duration::from_secs(60);
/// Each request takes some milliseconds; the rest is for a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// The time in seconds. A test's runtime has one thread.
    static CLOCK: Cell<u64> = const { Cell::new(1_795_248_000) };
}

fn clock() -> Timestamp {
    Timestamp::default().plus(Duration::from_secs(CLOCK.get()))
}

fn pass(span: Duration) {
    CLOCK.set(CLOCK.get() + span.as_secs());
}

fn alert(id: &str) -> Alert {
    Alert {
        id: id.to_owned(),
        conversation: "conversation".to_owned(),
        kind: AlertKind::Onset,
        severity: Severity::Warning,
        at: clock(),
        node: "node1".to_owned(),
        title: "shop_web storms".to_owned(),
        lines: Vec::new(),
        storms: Vec::new(),
        storms_left_out: 0,
        next_step: String::new(),
        ends: false,
        part_of: None,
    }
}

/// A courier to one receiver, which is named `ops` and listens at the path `ops`.
struct Stand {
    listener: Listener,
    dir: TempDir,
    is_pagerduty: bool,
}

impl Stand {
    fn new(is_pagerduty: bool) -> Self {
        Self { listener: Listener::start(), dir: tempfile::tempdir().unwrap(), is_pagerduty }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As a process that starts: with what an earlier one has left.
    fn courier(&self) -> Courier {
        let url = self.listener.url("ops");
        let kind = if self.is_pagerduty {
            Kind::PagerDuty(PagerDuty { url, routing_key: "key".into() })
        } else {
            Kind::Webhook(Webhook { url: url.into(), headers: Vec::new(), template: None, signing_key: None })
        };
        let receiver = Receiver {
            name: "ops".to_owned(),
            way: Way::Http(Box::new(kind)),
            filter: Filter::default(),
            quota: Quota::per_minute(NonZeroU32::new(600).unwrap()),
        };
        let outbox = Outbox::open(self.dir()).unwrap();
        let left = outbox.load().waiting;
        Courier::new(vec![receiver], Some(Arc::new(outbox)), left, Sender::new().unwrap(), clock)
    }

    fn answer(&self, status: u16) {
        self.listener.refuse("ops", status);
    }

    fn left(&self) -> (usize, usize) {
        let Content { waiting, asked_for, dead, .. } = Outbox::read(self.dir());
        (waiting.len() + asked_for.len(), dead.len())
    }
}

/// What waits is tried once.
async fn try_now(courier: &Courier) {
    courier.flush(PATIENCE).await;
}

/// Delivers until so many alerts wait and so many are dead letters.
async fn until_left(stand: &Stand, courier: &Courier, left: (usize, usize)) {
    let is_left = async {
        while stand.left() != left {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = courier.run() => unreachable!("it delivers for as long as it is polled"),
        in_time = tokio::time::timeout(PATIENCE, is_left) => in_time.unwrap(),
    }
}

#[tokio::test]
async fn an_alert_arrives_though_a_proxy_answers_404_for_fourteen_minutes_and_squall_is_restarted() {
    for status in [401, 403, 404] {
        let stand = Stand::new(false);
        stand.answer(status);
        let courier = stand.courier();
        courier.post(&alert("a"), &BTreeMap::new()).await;
        try_now(&courier).await;
        pass(14 * MIN);
        try_now(&courier).await;
        assert_eq!((stand.listener.got("ops").len(), stand.left()), (2, (1, 0)), "{status}");
        drop(courier);
        let courier = stand.courier();
        stand.answer(200);
        try_now(&courier).await;
        assert_eq!((stand.listener.got("ops").len(), stand.left()), (3, (0, 0)), "{status}");
    }
}

#[tokio::test]
async fn an_alert_is_a_dead_letter_once_404_was_the_only_answer_for_a_quarter_of_an_hour() {
    let stand = Stand::new(false);
    stand.answer(404);
    let courier = stand.courier();
    courier.post(&alert("a"), &BTreeMap::new()).await;
    try_now(&courier).await;
    drop(courier);
    // The first refusal counts, not the restart.
    pass(10 * MIN);
    let courier = stand.courier();
    try_now(&courier).await;
    assert_eq!(stand.left(), (1, 0));
    pass(5 * MIN);
    try_now(&courier).await;
    assert_eq!(stand.left(), (0, 1));
    let dead = &Outbox::read(stand.dir()).dead[0];
    assert!(dead.trouble.contains("404"), "{dead:?}");
    assert_eq!(dead.tries, 3);
}

#[tokio::test]
async fn another_answer_begins_the_quarter_of_an_hour_again_and_a_bad_payload_has_none() {
    let stand = Stand::new(false);
    let courier = stand.courier();
    courier.post(&alert("a"), &BTreeMap::new()).await;
    for (status, left) in [(404, (1, 0)), (503, (1, 0)), (404, (1, 0)), (404, (0, 1))] {
        stand.answer(status);
        try_now(&courier).await;
        assert_eq!(stand.left(), left);
        pass(15 * MIN);
    }
    for status in [400, 410, 413, 422] {
        let before = stand.left().1;
        stand.answer(status);
        courier.post(&alert(&status.to_string()), &BTreeMap::new()).await;
        try_now(&courier).await;
        assert_eq!(stand.left(), (0, before + 1), "{status}");
    }
}

#[tokio::test]
async fn a_dead_letter_that_is_asked_for_arrives_under_its_own_id_though_it_is_days_old() {
    let stand = Stand::new(false);
    stand.answer(400);
    let courier = stand.courier();
    for id in ["a", "b", "c"] {
        courier.post(&alert(id), &BTreeMap::new()).await;
        pass(SEC);
    }
    try_now(&courier).await;
    assert_eq!(stand.left(), (0, 3));
    pass(3000 * MIN);
    stand.answer(200);
    let dead = Outbox::read(stand.dir()).dead;
    for delivery in &dead[..2] {
        Outbox::ask_again(stand.dir(), delivery).unwrap();
    }
    assert_eq!(stand.left(), (2, 1), "it waits until it is taken up");
    let before = stand.listener.got("ops").len();
    until_left(&stand, &courier, (0, 1)).await;
    assert!(dead.iter().all(|delivery| !Outbox::is_asked_for(stand.dir(), delivery)));
    // If no squall runs, the next one takes it up.
    drop(courier);
    Outbox::ask_again(stand.dir(), &dead[2]).unwrap();
    Outbox::ask_again(stand.dir(), &dead[2]).unwrap_err();
    pass(3000 * MIN);
    until_left(&stand, &stand.courier(), (0, 0)).await;
    let got = stand.listener.got("ops").split_off(before);
    let ids: Vec<_> = got.iter().map(|request| request.header("x-squall-delivery").unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[tokio::test]
async fn an_incident_that_is_over_is_not_opened_again_by_its_dead_letter() {
    let stand = Stand::new(true);
    stand.answer(400);
    let courier = stand.courier();
    courier.post(&alert("a"), &BTreeMap::new()).await;
    courier.post(&Alert { conversation: "another".to_owned(), ..alert("b") }, &BTreeMap::new()).await;
    try_now(&courier).await;
    assert_eq!(stand.left(), (0, 2));
    stand.listener.say("ops", Say::Status(202, String::new(), "ok".to_owned()));
    courier.post(&Alert { kind: AlertKind::Subsided, ends: true, ..alert("c") }, &BTreeMap::new()).await;
    try_now(&courier).await;
    let left = Outbox::read(stand.dir()).dead;
    assert_eq!(left.iter().map(|dead| &*dead.alert.id).collect::<Vec<_>>(), ["b"]);
}
