//! The journal keeps what it said it kept, and no disk stops it: killed, full, read-only, damaged, shared.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use squall::journal::{Entry, FILE, History, HistoryError, Journal, Medium, Opened, QUEUE_MAX, Settings};
use squall::model::{
    Action, AttemptCount, Author, Cause, CauseCounts, Decision, Gap, LetGo, Outcome, Refusal, Response, Settlement,
    Span, Storm, StormState, Subject, SubjectKind, TaskRecord, Timestamp,
};
use tempfile::TempDir;

/// 2026-11-20T20:00:00Z.
const START_SECS: i64 = 1_795_204_800;
const DAY_SECS: i64 = 24 * 3600;
/// Tells a child of a test what to do, and where.
const CHILD: &str = "SQUALL_JOURNAL_CHILD";

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(START_SECS + secs)
}

fn always() -> Span {
    Span { from: Timestamp::from_nanos(i64::MIN), to: Timestamp::from_nanos(i64::MAX) }
}

fn service(name: &str) -> Subject {
    let id = format!("id-of-{name}");
    Subject { kind: SubjectKind::SwarmService, name: name.to_owned(), id, stack: Some("shop".to_owned()) }
}

fn container(name: &str) -> Subject {
    Subject { kind: SubjectKind::Container, name: name.to_owned(), id: name.to_owned(), stack: None }
}

fn storm(id: &str, onset_secs: i64, failed: u64) -> Storm {
    let mut causes = CauseCounts::default();
    (0..failed).for_each(|number| causes.add(if number == 0 { Cause::Oom } else { Cause::RegistryQuota }));
    Storm {
        id: id.to_owned(),
        subject: service("web"),
        state: StormState::Ongoing,
        cause: Cause::RegistryQuota,
        causes,
        detail: "toomanyrequests".to_owned(),
        onset: at(onset_secs),
        exact: true,
        updated: None,
        detected: at(onset_secs + 30),
        ended: None,
        detected_after_failures: 5,
        attempts: failed + 1,
        failed,
        attempts_per_min: 11.5,
        image: "shop/web:7".to_owned(),
        registry: "docker.io".to_owned(),
        pinned: false,
        pulls: true,
        nodes: vec!["node1".to_owned(), "node2".to_owned()],
        slots: Vec::new(),
        replicas: None,
        spend: None,
        advice: "log in".to_owned(),
    }
}

fn ended(storm: Storm, ended_secs: i64) -> Entry {
    Entry::Storm(Arc::new(Storm { state: StormState::Subsided, ended: Some(at(ended_secs)), ..storm }))
}

fn permitted(id: &str, secs: i64) -> Decision {
    Decision {
        id: id.to_owned(),
        at: at(secs),
        subject: service("web"),
        storm: "00000000000000aa".to_owned(),
        cause: Cause::RegistryQuota,
        failed: 12,
        by: Author::Breaker,
        action: Action::Quarantine,
        response: Response::Pause,
        instead_of: Some(Response::Backoff),
        refusal: None,
    }
}

fn refused(id: &str, secs: i64) -> Decision {
    Decision { refusal: Some(Refusal::NotEnforced), instead_of: None, ..permitted(id, secs) }
}

fn decided(decision: &Decision, tasks: usize) -> Entry {
    Entry::Decision { decision: decision.clone(), evidence: (0..tasks).map(task).collect() }
}

fn task(number: usize) -> TaskRecord {
    TaskRecord {
        id: format!("task{number}"),
        slot: number as u64,
        node_id: "node".to_owned(),
        created: at(-60),
        state: "rejected".to_owned(),
        exit_code: (number > 0).then_some(137),
        error: "No such image: shop/web:7".to_owned(),
    }
}

fn settled(decision: &str, secs: i64, outcome: Outcome) -> Settlement {
    Settlement { decision: decision.to_owned(), at: at(secs), outcome, detail: "replicas 3 to 0".to_owned() }
}

fn attempts(minute_secs: i64, name: &str, count: u64) -> Entry {
    Entry::Attempts(vec![AttemptCount { minute: at(minute_secs), subject: service(name), attempts: count, failed: 1 }])
}

fn let_go(secs: i64) -> LetGo {
    let (storm, template) = ("00000000000000aa".to_owned(), "00000000000000bb".to_owned());
    LetGo { at: at(secs), subject: service("web"), storm, template, why: "an update of its image".to_owned() }
}

fn gap(from_secs: i64, to_secs: i64) -> Gap {
    Gap { from: at(from_secs), to: at(to_secs), why: "the daemon was restarted".to_owned(), open: false }
}

fn hold(name: &str, mark: Option<&str>) -> Entry {
    Entry::Hold { subject: container(name), mark: mark.map(str::to_owned) }
}

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

/// Opens a journal that must be on disk and whole.
#[track_caller]
fn open(dir: &Path) -> Journal {
    let (journal, opened) = Journal::open(Settings::new(dir));
    assert_eq!(opened, Opened::default());
    assert!(journal.state().is_durable());
    journal
}

fn quick(dir: &Path) -> Settings {
    Settings { retry_after: Duration::from_millis(50), ..Settings::new(dir) }
}

async fn keep(journal: &Journal, entries: impl IntoIterator<Item = Entry>) {
    for entry in entries {
        assert!(journal.record(entry).await, "{:?}", journal.state());
    }
}

fn history(dir: &Path) -> History {
    History::open(dir).expect("a history")
}

fn number(dir: &Path, sql: &str) -> i64 {
    let connection = Connection::open(dir.join(FILE)).expect("a database");
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// Waits, at most 10 s.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} within 10 s");
        thread::sleep(Duration::from_millis(10));
    }
}

fn why(journal: &Journal) -> String {
    match journal.state().medium {
        Medium::InMemory { why } => why,
        Medium::Durable => panic!("it is on disk"),
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Runs this file's test `name` again, as a child that does `what`.
fn again(name: &str, what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture"]).env(CHILD, what).stdout(Stdio::null());
    command
}

#[tokio::test]
async fn each_entry_comes_back_as_it_was_written() {
    let dir = directory();
    let journal = open(dir.path());
    let (done, failed, refusal) = (permitted("d1", 10), permitted("d2", 20), refused("d3", 30));
    let by_hand = Decision { by: Author::Hand, subject: container("db"), ..permitted("d4", 40) };
    keep(
        &journal,
        [
            Entry::Storm(Arc::new(storm("aa", 0, 12))),
            decided(&done, 3),
            Entry::Settlement(settled("d1", 11, Outcome::Done)),
            decided(&failed, 0),
            Entry::Settlement(settled("d2", 21, Outcome::Raced)),
            decided(&refusal, 1),
            decided(&by_hand, 0),
            Entry::LetGo(let_go(50)),
            Entry::Gap { origin: "manager1".to_owned(), gap: gap(5, 9) },
            attempts(0, "web", 4),
            attempts(0, "web", 2),
            attempts(60, "api", 1),
            hold("db", Some("exited 0")),
            hold("cache", Some("exited 1")),
            hold("cache", None),
        ],
    )
    .await;
    let done_then = (done.clone(), settled("d1", 11, Outcome::Done));
    assert_eq!(journal.unsettled().await, std::slice::from_ref(&by_hand));
    assert_eq!(journal.done_since(at(11)).await, std::slice::from_ref(&done_then));
    assert_eq!(journal.done_since(at(12)).await, []);
    assert_eq!(journal.let_goes_since(at(50)).await, [let_go(50)]);
    assert_eq!(journal.let_goes_since(at(51)).await, []);
    assert_eq!(journal.holds().await, [(container("db"), "exited 0".to_owned())]);
    journal.close().await;
    assert_eq!(names_in(dir.path()), [FILE], "the log is in the file");

    let history = history(dir.path());
    let decisions = history.decisions(always()).expect("decisions");
    let expected = [
        (done, Some(done_then.1)),
        (failed, Some(settled("d2", 21, Outcome::Raced))),
        (refusal, None),
        (by_hand.clone(), None),
    ];
    assert_eq!(decisions, expected);
    assert_eq!(history.decisions(Span { from: at(20), to: at(30) }).expect("decisions").len(), 2);
    assert_eq!(history.evidence("d1").expect("tasks"), [task(0), task(1), task(2)]);
    assert_eq!(history.evidence("d2").expect("tasks"), []);
    assert_eq!(history.gaps(always()).expect("gaps"), [("manager1".to_owned(), gap(5, 9))]);
    assert_eq!(history.gaps(Span { from: at(10), to: at(20) }).expect("gaps"), []);
    assert_eq!(history.holds().expect("holds"), [(container("db"), "exited 0".to_owned())]);
    let storms = history.storms(always()).expect("storms");
    let expected = storm("aa", 0, 12);
    assert_eq!(storms.len(), 1);
    assert_eq!((&storms[0].id, &storms[0].subject, storms[0].cause), (&expected.id, &expected.subject, expected.cause));
    assert_eq!(
        storms[0].causes.iter().map(|(cause, count)| (*cause, *count)).collect::<Vec<_>>(),
        [(Cause::Oom, 1), (Cause::RegistryQuota, 11)]
    );
    assert_eq!((storms[0].onset, storms[0].detected, storms[0].ended), (at(0), at(30), None));
    assert_eq!((storms[0].attempts, storms[0].failed, storms[0].attempts_per_min), (13, 12, 11.5));
    assert_eq!((&storms[0].nodes, storms[0].pinned, storms[0].pulls), (&expected.nodes, false, true));
    let services = history.services(always()).expect("services");
    let web = services.iter().find(|service| service.subject.name == "web").expect("web");
    assert_eq!((web.attempts, web.failed, web.by_minute, web.storms), (6, 2, true, 1));
    assert_eq!((web.cause, web.refusals, web.done.get(&Action::Quarantine)), (Some(Cause::RegistryQuota), 1, Some(&1)));
    assert_eq!((web.first_storm, web.last_storm), (Some(at(0)), Some(at(0))));
    assert_eq!(services.len(), 3);
    assert_eq!(history.unread(), 0);
}

#[tokio::test]
async fn a_storm_is_one_row_for_as_long_as_it_goes_on_and_another_when_its_id_comes_again() {
    let dir = directory();
    let journal = open(dir.path());
    keep(&journal, [Entry::Storm(Arc::new(storm("aa", 0, 5))), Entry::Storm(Arc::new(storm("aa", 0, 50)))]).await;
    journal.close().await;

    // The next process sees less of the storm's past.
    let journal = open(dir.path());
    keep(&journal, [Entry::Storm(Arc::new(storm("aa", 300, 8)))]).await;
    let storms = history(dir.path()).storms(always()).expect("storms");
    assert_eq!(storms.len(), 1);
    assert_eq!((storms[0].onset, storms[0].failed, storms[0].causes[&Cause::RegistryQuota]), (at(0), 50, 49));
    keep(&journal, [ended(storm("aa", 300, 70), 400), ended(storm("aa", 300, 70), 400)]).await;
    // Its first episode after another start has the same id.
    keep(&journal, [Entry::Storm(Arc::new(storm("aa", 4000, 5)))]).await;
    let storms = history(dir.path()).storms(always()).expect("storms");
    let told: Vec<_> = storms.iter().map(|storm| (storm.onset, storm.ended, storm.failed, storm.state)).collect();
    assert_eq!(told, [(at(0), Some(at(400)), 70, StormState::Subsided), (at(4000), None, 5, StormState::Ongoing)]);
    let early = Span { from: at(-9), to: at(3999) };
    assert_eq!(history(dir.path()).storms(early).expect("storms").len(), 1);
    let services = history(dir.path()).services(early).expect("services");
    assert_eq!((services[0].attempts, services[0].failed, services[0].by_minute), (71, 70, false));
}

#[tokio::test]
async fn storms_that_an_earlier_process_left_are_ended_by_name() {
    let dir = directory();
    let journal = open(dir.path());
    keep(&journal, ["aa", "bb", "cc"].map(|id| Entry::Storm(Arc::new(storm(id, 0, 5))))).await;
    assert!(journal.close_storms_not_in(&["bb".to_owned()], at(900)).await);
    let storms = history(dir.path()).storms(always()).expect("storms");
    let ends: Vec<_> = storms.iter().map(|storm| storm.ended).collect();
    assert_eq!(ends, [Some(at(900)), None, Some(at(900))]);
    // One that turns up after all goes on.
    keep(&journal, [Entry::Storm(Arc::new(storm("aa", 600, 9)))]).await;
    let storms = history(dir.path()).storms(always()).expect("storms");
    assert_eq!((storms.len(), storms[0].ended), (3, None));
}

#[tokio::test]
async fn an_entry_that_comes_twice_is_kept_once() {
    let dir = directory();
    let journal = open(dir.path());
    let decision = permitted("d1", 0);
    keep(&journal, [decided(&decision, 2), Entry::Settlement(settled("d1", 1, Outcome::Done)), decided(&decision, 3)])
        .await;
    keep(&journal, [Entry::Settlement(settled("nobody", 1, Outcome::Done))]).await;
    for to in [9, 30, 20] {
        keep(&journal, [Entry::Gap { origin: "m".to_owned(), gap: gap(5, to) }]).await;
    }
    assert_eq!(journal.unsettled().await, []);
    assert_eq!(history(dir.path()).evidence("d1").expect("tasks").len(), 2);
    assert_eq!(history(dir.path()).gaps(always()).expect("gaps"), [("m".to_owned(), gap(5, 30))]);
}

#[tokio::test]
async fn only_the_last_day_is_unsettled() {
    let dir = directory();
    let journal = open(dir.path());
    let [old, new, newest] =
        [("old", 0), ("new", DAY_SECS), ("newest", DAY_SECS + 1)].map(|(id, secs)| permitted(id, secs));
    keep(&journal, [decided(&old, 0), decided(&new, 0), decided(&newest, 0)]).await;
    assert_eq!(journal.unsettled().await, [new, newest]);
}

#[tokio::test]
async fn a_name_replaces_an_id_and_not_the_other_way_round() {
    let dir = directory();
    let journal = open(dir.path());
    let known = service("web");
    let unknown = Subject { name: known.id.clone(), stack: None, ..known.clone() };
    for subject in [&unknown, &known, &unknown] {
        let decision = Decision { subject: subject.clone(), ..permitted(&subject.name, 0) };
        keep(&journal, [decided(&decision, 0)]).await;
    }
    let decisions = history(dir.path()).decisions(always()).expect("decisions");
    assert!(decisions.iter().all(|(decision, _)| decision.subject == known), "{decisions:?}");
}

#[tokio::test]
async fn a_word_of_a_later_version_or_a_damaged_one_costs_no_more_than_its_row() {
    let dir = directory();
    let journal = open(dir.path());
    keep(&journal, ["d1", "d2", "d3", "d4", "d5"].map(|id| decided(&permitted(id, 0), 1))).await;
    keep(&journal, [Entry::Storm(Arc::new(storm("aa", 0, 5)))]).await;
    let connection = Connection::open(dir.path().join(FILE)).expect("a database");
    connection
        .execute_batch(
            "UPDATE decisions SET cause = 'gremlins' WHERE id = 'd1';
             UPDATE decisions SET action = 'transmogrify' WHERE id = 'd2';
             UPDATE decisions SET refusal = 'full-moon' WHERE id = 'd3';
             UPDATE decisions SET storm = CAST(x'fffe' AS TEXT) WHERE id = 'd5';
             UPDATE storms SET causes = '{\"gremlins\":2,\"oom\":1,\"unknown\":3}'",
        )
        .expect("updates");
    let history = history(dir.path());
    let decisions = history.decisions(always()).expect("decisions");
    let told: Vec<_> = decisions.iter().map(|(decision, _)| (&*decision.id, decision.cause)).collect();
    assert_eq!(told, [("d1", Cause::Unknown), ("d4", Cause::RegistryQuota)]);
    assert_eq!(history.unread(), 3);
    let storms = history.storms(always()).expect("storms");
    assert_eq!((storms[0].causes[&Cause::Unknown], storms[0].causes[&Cause::Oom]), (5, 1));
    assert_eq!(journal.unsettled().await.len(), 2);
    assert_eq!(journal.state().unread, 2);
}

#[tokio::test]
async fn what_is_out_of_range_is_kept_within_it() {
    let dir = directory();
    let journal = open(dir.path());
    let odd = Storm {
        attempts_per_min: f64::NAN,
        attempts: u64::MAX,
        detail: "é\0".repeat(100_000),
        onset: Timestamp::from_nanos(i64::MIN),
        ..storm("aa", 0, 1)
    };
    keep(&journal, [Entry::Storm(Arc::new(odd)), decided(&permitted("d1", 0), 5000)]).await;
    let storms = history(dir.path()).storms(always()).expect("storms");
    assert_eq!(storms[0].attempts_per_min, 0.0);
    assert!(storms[0].attempts > 1 << 60);
    assert_eq!(storms[0].detail.len(), 4095, "cut between characters");
    assert_eq!(history(dir.path()).evidence("d1").expect("tasks").len(), 200);
}

#[tokio::test]
async fn nobody_else_reads_the_file() {
    let dir = directory();
    let (made, there) = (dir.path().join("deep/state"), dir.path().join("there"));
    fs::create_dir(&there).expect("made");
    fs::set_permissions(&there, Permissions::from_mode(0o750)).expect("set");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    for dir in [&made, &there] {
        let journal = open(dir);
        keep(&journal, [attempts(0, "web", 1)]).await;
        for name in names_in(dir) {
            assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
        }
        assert_eq!(names_in(dir).len(), 3);
    }
    assert_eq!((mode(&made), mode(&there)), (0o700, 0o750));
}

/// Not a test by itself: what is killed.
#[tokio::test]
async fn child_that_is_killed() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (dir, round) = what.split_once('|').expect("two words");
    let dir = Path::new(dir);
    let mut acknowledged = OpenOptions::new().append(true).create(true).open(dir.join("acknowledged")).expect("a file");
    // In one write, which the kill cannot cut.
    let mut acknowledge = |line: String| acknowledged.write_all(line.as_bytes()).expect("written");
    let (journal, opened) = Journal::open(Settings::new(dir));
    assert_eq!(opened, Opened::default());
    let round: i64 = round.parse().expect("a number");
    for number in 0.. {
        let id = format!("{round}-{number}");
        for other in 0..number % 7 {
            journal.note(attempts(60 * other, "web", 1));
        }
        if journal.record(decided(&permitted(&id, round * 1000 + number), 3)).await {
            acknowledge(format!("decided {id}\n"));
        }
        if journal.record(Entry::Settlement(settled(&id, round * 1000 + number, Outcome::Done))).await {
            acknowledge(format!("settled {id}\n"));
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    const ROUNDS: u64 = 20;
    let dir = directory();
    let list = dir.path().join("acknowledged");
    let lines = || fs::read_to_string(&list).unwrap_or_default().lines().count();
    let mut pause = 12_345_u64;
    for round in 0..ROUNDS {
        let before = lines();
        let what = format!("{}|{round}", dir.path().display());
        let mut child = again("child_that_is_killed", &what).spawn().expect("a child");
        until("an acknowledgement", || lines() > before);
        pause = pause.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_micros(pause >> 50));
        child.kill().expect("killed");
        child.wait().expect("ended");

        let (journal, opened) = Journal::open(Settings::new(dir.path()));
        assert_eq!(opened, Opened::default(), "round {round}");
        drop(journal);
        let history = history(dir.path());
        let decisions = history.decisions(always()).expect("decisions");
        let there: std::collections::BTreeMap<&str, bool> =
            decisions.iter().map(|(decision, settlement)| (&*decision.id, settlement.is_some())).collect();
        for line in fs::read_to_string(&list).expect("a list").lines() {
            match line.split_once(' ') {
                Some(("decided", id)) => assert!(there.contains_key(id), "{line} of round {round}"),
                Some(("settled", id)) => assert!(there[id], "{line} of round {round}"),
                _ => panic!("{line}"),
            }
        }
        let whole = "SELECT count(*) FROM decisions AS d
                     WHERE 3 != (SELECT count(*) FROM evidence AS e WHERE e.decision = d.key)";
        assert_eq!(number(dir.path(), whole), 0, "a half-written entry in round {round}");
    }
    assert_eq!(number(dir.path(), "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check != 'ok'"), 0);
    eprintln!("{} acknowledgements in {ROUNDS} rounds", lines());
}

/// Whether this is a child with mounts of its own, which end with it. If not, it starts that child and waits for it.
fn has_own_mounts(name: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let unshare = || Command::new("unshare");
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let works =
        |way: &&&[&str]| unshare().args(**way).arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    let Some(way) = ways.iter().find(works) else {
        eprintln!("{name} is not run: unshare may not make a mount namespace");
        return false;
    };
    let program = std::env::current_exe().expect("this program");
    let output = unshare()
        .args(*way)
        .args(["--propagation", "private"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "mounts")
        .output()
        .expect("unshare runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[track_caller]
fn mount(dir: &Path, options: &str) {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir);
    assert!(command.status().expect("mount runs").success(), "{options}");
}

#[tokio::test]
async fn a_full_disk_is_said_and_written_when_there_is_room_again() {
    if !has_own_mounts("a_full_disk_is_said_and_written_when_there_is_room_again") {
        return;
    }
    let dir = directory();
    mount(dir.path(), "size=1m");
    let (journal, opened) = Journal::open(quick(dir.path()));
    assert_eq!(opened, Opened::default());
    keep(&journal, [hold("db", Some("m")), decided(&permitted("first", 0), 0)]).await;
    let mut on_disk = 0;
    while journal.record(decided(&permitted(&format!("d{on_disk}"), 1), 50)).await {
        on_disk += 1;
        assert!(on_disk < 1000, "1 MiB is full");
    }
    assert!(why(&journal).contains("database or disk is full"), "{}", why(&journal));
    assert!(why(&journal).contains(&*dir.path().to_string_lossy()));
    assert_eq!(journal.trouble(), Some(why(&journal)));
    assert!(!journal.record(Entry::Settlement(settled("first", 2, Outcome::Done))).await);
    assert!(!journal.record(hold("cache", Some("n"))).await);
    assert_eq!(journal.state().pending, 3);
    // What is on disk and what waits are one answer.
    assert_eq!(journal.done_since(at(0)).await, [(permitted("first", 0), settled("first", 2, Outcome::Done))]);
    assert_eq!(journal.unsettled().await.len(), on_disk + 1);
    assert_eq!(journal.holds().await.len(), 2);

    mount(dir.path(), "remount,size=8m");
    until("durable", || journal.state().is_durable() && journal.state().pending == 0);
    assert_eq!(journal.trouble(), None);
    keep(&journal, [decided(&permitted("last", 3), 0)]).await;
    assert_eq!(journal.state().dropped, 0);
    assert_eq!(journal.holds().await.len(), 2);
    let decisions = history(dir.path()).decisions(always()).expect("decisions");
    assert_eq!(decisions.len(), on_disk + 3);
    assert_eq!(decisions[0].1, Some(settled("first", 2, Outcome::Done)));
    assert_eq!(history(dir.path()).evidence(&format!("d{on_disk}")).expect("tasks").len(), 50);
    journal.close().await;
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start_hides_nothing_that_is_on_it() {
    if !has_own_mounts("a_disk_that_is_full_from_the_start_hides_nothing_that_is_on_it") {
        return;
    }
    let dir = directory();
    mount(dir.path(), "size=1m");
    let journal = open(dir.path());
    keep(&journal, [hold("db", Some("m"))]).await;
    journal.close().await;
    let filler = dir.path().join("filler");
    let _ = fs::write(&filler, vec![0; 2 << 20]).expect_err("the disk is full");
    let (journal, _) = Journal::open(quick(dir.path()));
    assert_eq!(journal.holds().await, [(container("db"), "m".to_owned())]);
    assert!(!journal.record(hold("cache", Some("n"))).await);
    assert_eq!(journal.holds().await.len(), 2);
    fs::remove_file(filler).expect("removed");
    until("durable", || journal.state().is_durable() && journal.state().pending == 0);
    journal.close().await;
    assert_eq!(history(dir.path()).holds().expect("holds").len(), 2);
}

#[tokio::test]
async fn a_read_only_disk_is_read_and_written_later() {
    if !has_own_mounts("a_read_only_disk_is_read_and_written_later") {
        return;
    }
    let dir = directory();
    mount(dir.path(), "size=4m");
    let journal = open(dir.path());
    keep(&journal, [hold("db", Some("m")), decided(&permitted("first", 0), 2)]).await;
    journal.close().await;
    mount(dir.path(), "remount,ro,size=4m");
    assert_eq!(history(dir.path()).holds().expect("holds").len(), 1);

    let (journal, opened) = Journal::open(quick(dir.path()));
    assert!(opened.memory.is_some(), "{opened:?}");
    assert!(why(&journal).contains("cannot write"), "{}", why(&journal));
    assert_eq!(journal.holds().await, [(container("db"), "m".to_owned())]);
    assert_eq!(journal.unsettled().await, [permitted("first", 0)]);
    assert!(!journal.record(Entry::Settlement(settled("first", 1, Outcome::NotDone))).await);
    assert_eq!(journal.unsettled().await, []);
    mount(dir.path(), "remount,rw,size=4m");
    until("durable", || journal.state().is_durable() && journal.state().pending == 0);
    journal.close().await;
    let decisions = history(dir.path()).decisions(always()).expect("decisions");
    assert_eq!(decisions, [(permitted("first", 0), Some(settled("first", 1, Outcome::NotDone)))]);
}

#[tokio::test]
async fn a_log_that_was_left_on_a_read_only_disk_is_read_or_named() {
    if !has_own_mounts("a_log_that_was_left_on_a_read_only_disk_is_read_or_named") {
        return;
    }
    let (dir, copy) = (directory(), directory());
    let journal = open(dir.path());
    keep(&journal, [hold("db", Some("m"))]).await;
    mount(copy.path(), "size=4m");
    for name in names_in(dir.path()) {
        fs::copy(dir.path().join(&name), copy.path().join(&name)).expect("copied");
    }
    mount(copy.path(), "remount,ro,size=4m");
    assert_eq!(history(copy.path()).holds().expect("holds").len(), 1, "by the index that is beside the log");
    mount(copy.path(), "remount,rw,size=4m");
    fs::remove_file(copy.path().join(format!("{FILE}-shm"))).expect("removed");
    mount(copy.path(), "remount,ro,size=4m");
    let error = History::open(copy.path()).expect_err("what is in the log would be missing");
    assert!(matches!(error, HistoryError::Unwritable { .. }), "{error}");
    assert!(error.to_string().contains("copy the two files"), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_makes_a_journal_in_memory() {
    let dir = directory();
    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").expect("written");
    let state = in_the_way.join("state");
    let (journal, opened) = Journal::open(quick(&state));
    let said = opened.memory.expect("in memory");
    assert!(said.contains("cannot make") && said.contains(&*state.to_string_lossy()), "{said}");
    assert!(!journal.record(decided(&permitted("d1", 0), 0)).await);
    assert!(!journal.record(hold("db", Some("m"))).await);
    journal.note(Entry::LetGo(let_go(5)));
    assert_eq!(journal.unsettled().await, [permitted("d1", 0)]);
    assert_eq!(journal.holds().await.len(), 1);
    assert_eq!(journal.let_goes_since(at(0)).await, [let_go(5)]);
    fs::remove_file(&in_the_way).expect("removed");
    until("durable", || journal.state().is_durable() && journal.state().pending == 0);
    assert_eq!(history(&state).holds().expect("holds").len(), 1);
    assert!(journal.record(hold("db", None)).await);
    journal.close().await;
    assert_eq!(history(&state).holds().expect("holds"), []);
}

#[tokio::test]
async fn what_waits_is_written_when_the_journal_is_closed() {
    let dir = directory();
    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").expect("written");
    let (journal, _) = Journal::open(Settings::new(in_the_way.join("state")));
    assert!(!journal.record(hold("db", Some("m"))).await);
    fs::remove_file(&in_the_way).expect("removed");
    journal.close().await;
    assert_eq!(history(&in_the_way.join("state")).holds().expect("holds").len(), 1);
}

/// A closed journal of some MiB.
async fn large(dir: &Path) -> u64 {
    let journal = open(dir);
    for number in 0..400 {
        journal.note(decided(&permitted(&format!("d{number}"), number), 60));
    }
    keep(&journal, [hold("db", Some("m"))]).await;
    journal.close().await;
    fs::metadata(dir.join(FILE)).expect("a file").len()
}

fn overwrite(path: &Path, from: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).expect("a file");
    file.seek(SeekFrom::Start(from)).expect("a place");
    file.write_all(bytes).expect("written");
}

/// A damaged file is set aside whole, and a new one takes what comes.
async fn check_set_aside(damage: impl FnOnce(&Path, u64)) {
    let dir = directory();
    let bytes = large(dir.path()).await;
    damage(&dir.path().join(FILE), bytes);
    let damaged = fs::read(dir.path().join(FILE)).expect("a file");
    let error = History::open(dir.path()).and_then(|history| history.decisions(always()).map(|_| ()));
    if let Err(error) = error {
        assert!(matches!(error, HistoryError::Damaged { .. }), "{error}");
    }
    let (journal, opened) = Journal::open(Settings::new(dir.path()));
    assert_eq!(opened.memory, None);
    let aside = opened.set_aside.expect("set aside");
    assert!(aside.to_string_lossy().contains("journal.db.damaged-20"), "{}", aside.display());
    assert_eq!(fs::read(&aside).expect("it is there"), damaged);
    assert_eq!(journal.holds().await, []);
    keep(&journal, [hold("db", Some("m"))]).await;
    let state = journal.state();
    assert_eq!((state.set_aside, state.set_aside_count), (Some(aside), 1));
    journal.close().await;
    assert_eq!(history(dir.path()).holds().expect("holds").len(), 1);
}

#[tokio::test]
async fn a_damaged_header_is_set_aside() {
    check_set_aside(|path, _| overwrite(path, 0, &[0xAA; 100])).await;
}

#[tokio::test]
async fn a_damaged_page_in_the_middle_is_set_aside() {
    check_set_aside(|path, bytes| overwrite(path, bytes / 2 / 4096 * 4096, &[0xAA; 4096])).await;
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_set_aside() {
    check_set_aside(|path, bytes| {
        OpenOptions::new().write(true).open(path).expect("a file").set_len(bytes / 2).expect("cut");
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside() {
    check_set_aside(|path, _| fs::write(path, "not a database, and long enough to be read\n".repeat(200)).expect("w"))
        .await;
}

#[tokio::test]
async fn the_log_of_an_empty_file_is_set_aside_too() {
    let dir = directory();
    fs::write(dir.path().join(FILE), "").expect("written");
    fs::write(dir.path().join(format!("{FILE}-wal")), "what is left").expect("written");
    let (journal, opened) = Journal::open(Settings::new(dir.path()));
    let aside = opened.set_aside.expect("set aside");
    let log = PathBuf::from(format!("{}-wal", aside.display()));
    assert_eq!(fs::read_to_string(log).expect("it is there"), "what is left");
    assert!(journal.state().is_durable());
}

#[tokio::test]
async fn damage_that_shows_while_it_is_used_is_set_aside() {
    let dir = directory();
    let bytes = large(dir.path()).await;
    let journal = open(dir.path());
    let bytes = usize::try_from(bytes).expect("a size");
    overwrite(&dir.path().join(FILE), 4096, &vec![0xAA; bytes - 4096]);
    let mut number = 0;
    while journal.state().set_aside_count == 0 {
        number += 1;
        assert!(number < 1000, "it shows");
        journal.unsettled().await;
        keep(&journal, [decided(&permitted(&format!("new{number}"), number), 2)]).await;
    }
    keep(&journal, [hold("cache", Some("n"))]).await;
    journal.close().await;
    assert_eq!(history(dir.path()).holds().expect("holds"), [(container("cache"), "n".to_owned())]);
    assert!(!history(dir.path()).decisions(always()).expect("decisions").is_empty());
}

#[tokio::test]
async fn two_damaged_files_of_one_second_are_both_kept_and_many_are_not_made() {
    let dir = directory();
    let file = dir.path().join(FILE);
    for number in 0..5 {
        fs::write(&file, format!("damaged {number}").repeat(100)).expect("written");
        let (journal, opened) = Journal::open(Settings::new(dir.path()));
        assert!(opened.set_aside.is_some());
        journal.close().await;
        fs::remove_file(&file).expect("removed");
    }
    assert_eq!(names_in(dir.path()).len(), 5);
    fs::write(&file, "damaged again".repeat(100)).expect("written");
    let (_journal, opened) = Journal::open(Settings::new(dir.path()));
    assert!(opened.memory.expect("in memory").contains("5 damaged files are there already"));
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "damaged again".repeat(100));
}

#[tokio::test]
async fn a_file_of_a_newer_squall_or_of_another_program_is_not_touched() {
    for (sql, word) in [("PRAGMA user_version = 99", "newer"), ("PRAGMA application_id = 1", "not a journal")] {
        let dir = directory();
        large(dir.path()).await;
        Connection::open(dir.path().join(FILE)).expect("a database").execute_batch(sql).expect("set");
        let before = fs::read(dir.path().join(FILE)).expect("a file");
        let (journal, opened) = Journal::open(quick(dir.path()));
        assert!(opened.memory.as_deref().is_some_and(|why| why.contains(word)), "{opened:?}");
        assert_eq!(opened.set_aside, None);
        assert!(!journal.record(hold("cache", Some("n"))).await);
        assert_eq!(journal.holds().await, [(container("cache"), "n".to_owned())]);
        journal.close().await;
        assert!(before == fs::read(dir.path().join(FILE)).expect("a file"), "it is as it was");
        let error = History::open(dir.path()).expect_err("it cannot be read");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_directory_without_a_journal_says_so() {
    let dir = directory();
    let path = dir.path().join(FILE);
    let said = || History::open(dir.path()).expect_err("none").to_string();
    assert_eq!(said(), format!("there is no journal at {}", path.display()));
    fs::write(&path, "").expect("written");
    assert_eq!(said(), format!("there is no journal at {}", path.display()));
    fs::write(&path, "words".repeat(1000)).expect("written");
    assert_eq!(said(), format!("{} is damaged: file is not a database", path.display()));
}

#[tokio::test]
async fn a_path_with_the_signs_of_a_uri_is_a_path() {
    let dir = directory();
    let odd = dir.path().join("a?mode=rw#b%20 ü");
    let journal = open(&odd);
    keep(&journal, [hold("db", Some("m"))]).await;
    assert_eq!(history(&odd).holds().expect("holds").len(), 1, "beside the writer");
    assert_eq!(names_in(dir.path()).len(), 1);
}

#[tokio::test]
async fn old_history_goes_in_steps_and_what_is_held_stays() {
    let dir = directory();
    let (journal, _) =
        Journal::open(Settings { keep: Duration::from_secs(2 * 24 * 3600), ..Settings::new(dir.path()) });
    for minute in 0..500 {
        let names = (0..10).map(|name| format!("s{name}"));
        let counts =
            names.map(|name| AttemptCount { minute: at(minute), subject: service(&name), attempts: 1, failed: 1 });
        journal.note(Entry::Attempts(counts.collect()));
    }
    keep(
        &journal,
        [
            hold("db", Some("m")),
            decided(&permitted("settled", 0), 3),
            Entry::Settlement(settled("settled", 1, Outcome::Done)),
            decided(&permitted("unsettled", 0), 1),
            decided(&refused("refused", 0), 2),
            ended(storm("bb", 0, 3), 10),
            Entry::Storm(Arc::new(Storm { subject: service("api"), ..storm("aa", 0, 3) })),
            Entry::LetGo(let_go(0)),
            Entry::Gap { origin: "m".to_owned(), gap: gap(0, 1) },
        ],
    )
    .await;
    let rows = || number(dir.path(), "SELECT count(*) FROM attempts");
    // A step deletes as many more as were written since the last: that is now.
    keep(&journal, [attempts(600, "new", 1)]).await;
    assert_eq!((rows(), journal.state().pruned), (5001, 0));
    // One time that is far ahead deletes nothing: a clock was wrong.
    keep(&journal, [attempts(3000 * DAY_SECS, "odd", 1)]).await;
    assert_eq!((rows(), journal.state().pruned), (5002, 0));
    let mut before = 5002;
    for minute in 0..12 {
        // The first is not believed yet.
        keep(&journal, [attempts(5 * DAY_SECS + minute * 60, "new", 1)]).await;
        // An entry is acknowledged before the step; what is asked is answered after it.
        journal.holds().await;
        let now = rows();
        assert!(before - now <= 1010, "{before} to {now} in one step");
        before = now;
    }
    assert_eq!(rows(), 13, "those of the last minutes, and one that is ahead");
    let history = history(dir.path());
    assert_eq!(history.decisions(always()).expect("decisions"), []);
    assert_eq!(number(dir.path(), "SELECT count(*) FROM evidence"), 0);
    assert_eq!(history.gaps(always()).expect("gaps"), []);
    assert_eq!(journal.let_goes_since(at(0)).await, []);
    let storms = history.storms(always()).expect("storms");
    assert_eq!(storms.iter().map(|storm| &*storm.id).collect::<Vec<_>>(), ["aa"], "it goes on");
    assert_eq!(history.holds().expect("holds"), [(container("db"), "m".to_owned())]);
    let subjects = "SELECT group_concat(name, ' ') FROM (SELECT name FROM subjects ORDER BY name)";
    let connection = Connection::open(dir.path().join(FILE)).expect("a database");
    let names: String = connection.query_row(subjects, [], |row| row.get(0)).expect("names");
    assert_eq!(names, "api db new odd");
    assert!(journal.state().pruned >= 5000);
}

#[tokio::test]
async fn a_journal_that_is_too_large_loses_its_oldest_minutes_first_and_never_what_a_restart_needs() {
    const BYTES_MAX: u64 = 2 << 20;
    let dir = directory();
    let (journal, _) = Journal::open(Settings { bytes_max: BYTES_MAX, ..Settings::new(dir.path()) });
    keep(&journal, [hold("db", Some("m")), decided(&permitted("unsettled", 0), 1), decided(&permitted("d", 0), 1)])
        .await;
    keep(&journal, [Entry::Settlement(settled("d", 0, Outcome::Done)), Entry::LetGo(let_go(0))]).await;
    let bytes = || {
        let size = |name: &str| fs::metadata(dir.path().join(name)).map_or(0, |file| file.len());
        size(FILE) + size(&format!("{FILE}-wal"))
    };
    let mut largest = 0;
    for minute in 0..1000 {
        let counts = (0..200).map(|name| AttemptCount {
            minute: at(minute * 60),
            subject: service(&format!("s{name}")),
            attempts: 3,
            failed: 3,
        });
        keep(&journal, [Entry::Attempts(counts.collect())]).await;
        largest = largest.max(bytes());
    }
    assert!(largest < BYTES_MAX + BYTES_MAX / 2, "{largest}");
    assert!(journal.state().pruned > 100_000, "{:?}", journal.state());
    let rows = |sql: &str| number(dir.path(), sql);
    assert_eq!(rows("SELECT max(minute) FROM attempts"), at(999 * 60).as_nanos());
    assert!(rows("SELECT count(*) FROM attempts") > 10_000, "it is not emptied");
    assert_eq!(journal.unsettled().await.len(), 1);
    assert_eq!(journal.holds().await.len(), 1);
    assert_eq!(journal.done_since(at(0)).await.len(), 1);
    assert_eq!(journal.let_goes_since(at(0)).await.len(), 1);
    // The evidence of refusals comes next, when the minutes are gone.
    for number in 0..2000 {
        keep(&journal, [decided(&refused(&format!("r{number}"), 60_000 + number * 61), 30)]).await;
        largest = largest.max(bytes());
    }
    assert!(largest < BYTES_MAX + BYTES_MAX / 2, "{largest}");
    assert_eq!(rows("SELECT count(*) FROM attempts"), 0);
    assert_eq!(journal.unsettled().await.len(), 1);
    let tasks = rows("SELECT count(*) FROM evidence");
    assert!((1000..40_000).contains(&tasks), "{tasks}");
    assert_eq!(history(dir.path()).evidence("r1999").expect("tasks").len(), 30, "the newest is whole");
    journal.close().await;
    eprintln!("at most {largest} bytes of {BYTES_MAX}; {} after it is closed", bytes());
}

/// Not a test by itself: a second squall.
#[tokio::test]
async fn child_that_writes() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (dir, name) = what.split_once('|').expect("two words");
    let (journal, opened) = Journal::open(Settings::new(dir));
    assert_eq!(opened, Opened::default());
    for number in 0..300 {
        keep(&journal, [decided(&permitted(&format!("{name}-{number}"), number), 3), attempts(0, "web", 1)]).await;
    }
    journal.close().await;
}

#[tokio::test]
async fn two_processes_write_and_a_third_reads() {
    let dir = directory();
    // They start together, in an empty directory.
    let mut children: Vec<Child> = ["a", "b"]
        .map(|name| again("child_that_writes", &format!("{}|{name}", dir.path().display())).spawn().expect("a child"))
        .into();
    let mut looks = 0;
    while children.iter_mut().any(|child| child.try_wait().expect("a child").is_none()) {
        if let Ok(history) = History::open(dir.path()) {
            history.services(always()).expect("services");
            looks += 1;
        }
    }
    for mut child in children {
        assert!(child.wait().expect("a child").success());
    }
    assert!(looks > 0);
    let history = history(dir.path());
    assert_eq!(history.decisions(always()).expect("decisions").len(), 600);
    let services = history.services(always()).expect("services");
    assert_eq!((services[0].attempts, services[0].failed), (600, 600));
}

#[tokio::test]
async fn a_file_that_is_taken_away_is_begun_anew() {
    let dir = directory();
    let journal = open(dir.path());
    keep(&journal, [hold("db", Some("m"))]).await;
    for name in names_in(dir.path()) {
        fs::remove_file(dir.path().join(name)).expect("removed");
    }
    keep(&journal, [hold("cache", Some("n"))]).await;
    assert_eq!(journal.state().replaced, 1);
    assert_eq!(history(dir.path()).holds().expect("holds"), [(container("cache"), "n".to_owned())]);
    journal.close().await;
    assert_eq!(history(dir.path()).holds().expect("holds").len(), 1);
}

#[tokio::test]
async fn the_queue_is_bounded_and_says_what_it_dropped() {
    const NOTES: u64 = 3 * QUEUE_MAX;
    let dir = directory();
    let journal = open(dir.path());
    let other = Connection::open(dir.path().join(FILE)).expect("a database");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    let begun = Instant::now();
    (0..NOTES).for_each(|_| journal.note(attempts(0, "web", 1)));
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits");
    let state = journal.state();
    assert_eq!((state.pending, state.dropped), (QUEUE_MAX, NOTES - QUEUE_MAX));
    other.execute_batch("COMMIT").expect("the lock is given back");
    keep(&journal, [hold("db", Some("m"))]).await;
    assert_eq!(journal.state().pending, 0);
    let services = history(dir.path()).services(always()).expect("services");
    assert_eq!(services[0].attempts, QUEUE_MAX);
}

#[tokio::test]
async fn a_lock_that_is_not_given_back_is_waited_out_in_memory() {
    let dir = directory();
    let (journal, _) = Journal::open(quick(dir.path()));
    let other = Connection::open(dir.path().join(FILE)).expect("a database");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    assert!(!journal.record(hold("db", Some("m"))).await);
    assert!(why(&journal).contains("database is locked"), "{}", why(&journal));
    other.execute_batch("COMMIT").expect("the lock is given back");
    until("durable", || journal.state().is_durable() && journal.state().pending == 0);
    assert_eq!(history(dir.path()).holds().expect("holds").len(), 1);
}

#[tokio::test]
async fn a_journal_that_is_closed_keeps_nothing_more() {
    let dir = directory();
    let journal = open(dir.path());
    let other = journal.clone();
    journal.close().await;
    assert!(!other.record(hold("db", Some("m"))).await);
    other.note(hold("db", Some("m")));
    assert_eq!(other.holds().await, []);
    assert_eq!(other.state().dropped, 2);
    assert_eq!(other.trouble(), Some("it is closed".to_owned()));
}

#[tokio::test]
#[ignore = "measures, and holds nothing"]
async fn measures() {
    let dir = directory();
    let journal = open(dir.path());
    let begun = Instant::now();
    let (minutes, services) = (2000, 500);
    for minute in 0..minutes {
        let counts = (0..services).map(|name| AttemptCount {
            minute: at(minute * 60),
            subject: service(&format!("service-{name}")),
            attempts: 12,
            failed: 12,
        });
        keep(&journal, [Entry::Attempts(counts.collect())]).await;
    }
    let rows = minutes * services;
    let bytes = fs::metadata(dir.path().join(FILE)).expect("a file").len();
    eprintln!("counts by the minute, {services} a commit: {:.0} rows/s", rows as f64 / begun.elapsed().as_secs_f64());
    eprintln!("bytes a row: {:.1}", bytes as f64 / rows as f64);
    let mut taken = Vec::new();
    for number in 0..5000 {
        let begun = Instant::now();
        keep(&journal, [decided(&permitted(&format!("d{number}"), minutes * 60 + number), 5)]).await;
        taken.push(begun.elapsed());
    }
    taken.sort();
    let at = |share: usize| taken[(taken.len() * share / 1000).min(taken.len() - 1)];
    eprintln!(
        "record() of a decision with 5 tasks: median {:?}, 99% {:?}, 99.9% {:?}, worst {:?}",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    let begun = Instant::now();
    (0..4000).for_each(|number| journal.note(attempts(number * 60, "web", 1)));
    keep(&journal, [hold("db", Some("m"))]).await;
    eprintln!("4,000 notes of one count: {:?}", begun.elapsed());
    let begun = Instant::now();
    history(dir.path()).services(always()).expect("services");
    eprintln!("services of all {rows} rows: {:?}", begun.elapsed());
    journal.close().await;
    let bytes = fs::metadata(dir.path().join(FILE)).expect("a file").len();
    let begun = Instant::now();
    open(dir.path()).close().await;
    eprintln!("open and close of {} MiB: {:?}", bytes >> 20, begun.elapsed());
}
