//! What an event stream's end, silence and forgetfulness look like to who follows it.

use std::time::{Duration, Instant};

use squall::docker::{Client, Error, Follow, FollowItem, FollowSettings, GapReason};

use super::support::fake_daemon::{Answer, FakeDaemon, container_event};
use super::{client, fake, run};

fn settings() -> FollowSettings {
    FollowSettings {
        ping_every: Duration::from_millis(200),
        ping_limit: Duration::from_millis(300),
        backoff_shortest: Duration::from_millis(20),
        backoff_longest: Duration::from_millis(200),
        replay_limit: Duration::from_millis(300),
        ..FollowSettings::default()
    }
}

/// Follows, and writes what happens as short words.
struct Log {
    follow: Follow,
    words: Vec<String>,
    gaps: Vec<(i64, i64, GapReason)>,
    /// How often a stream that came back gave all that was missed.
    vouched: usize,
    errors: Vec<Error>,
}

impl Log {
    fn new(client: Client, settings: FollowSettings, since: Option<i64>) -> Self {
        let follow = Follow::new(client, settings, since, 7);
        Self { follow, words: Vec::new(), gaps: Vec::new(), vouched: 0, errors: Vec::new() }
    }

    fn take(&mut self, item: FollowItem) {
        let word = match item {
            FollowItem::Event(event) => {
                let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
                event["Actor"]["ID"].as_str().unwrap_or("odd").to_owned()
            }
            FollowItem::Connected { .. } => "connected".to_owned(),
            FollowItem::Vouched => {
                self.vouched += 1;
                return;
            }
            FollowItem::Lost { error, tries } => {
                self.errors.push(error);
                if tries == 0 { "lost" } else { "failed" }.to_owned()
            }
            FollowItem::Gap { from_nanos, to_nanos, why } => {
                self.gaps.push((from_nanos, to_nanos, why));
                format!("gap {}", why.as_str())
            }
        };
        // How often it tries is the clock's business.
        if word != "failed" || self.words.last().is_none_or(|last| last != "failed") {
            self.words.push(word);
        }
    }

    /// Follows until this word; cancels and begins again every few milliseconds, as a `select!` does.
    async fn until(&mut self, word: &str) {
        let started = Instant::now();
        let before = self.words.len();
        while !self.words[before..].iter().any(|seen| seen == word) {
            assert!(started.elapsed() < Duration::from_secs(10), "no `{word}` in {:?}", self.words);
            self.follow_for(Duration::from_millis(3)).await;
        }
    }

    async fn follow_for(&mut self, time: Duration) {
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(item) = tokio::time::timeout_at(deadline, self.follow.next()).await {
            self.take(item);
        }
    }
}

fn follow(daemon: &FakeDaemon) -> Log {
    Log::new(client(daemon), settings(), None)
}

#[test]
fn a_stream_that_ends_is_resumed_without_loss_or_double() {
    let (_dir, daemon) = fake();
    run(async {
        let mut log = follow(&daemon);
        log.until("connected").await;
        daemon.emit_container("create", "a");
        daemon.emit_container("die", "b");
        log.until("b").await;
        daemon.end_streams();
        daemon.emit_container("die", "c");
        log.until("c").await;
        daemon.emit_container("die", "d");
        log.until("d").await;
        log.follow_for(Duration::from_millis(600)).await;
        assert_eq!(log.words, ["connected", "a", "b", "lost", "connected", "c", "d"]);
        assert_eq!(log.follow.doubled(), 2);
        assert_eq!(log.vouched, 1);
    });
    assert!(daemon.writes().is_empty());
}

#[test]
fn an_event_that_comes_twice_at_the_seam_is_given_once() {
    let (_dir, daemon) = fake();
    let (a, b) = (container_event(5, "die", "a"), container_event(5, "die", "b"));
    daemon.on("/events", move |request| match request.parameter("until") {
        Some(_) => Answer::json(""),
        None => Answer::json(format!("{a}\n{a}\n{b}\n{a}\n")).then(super::support::fake_daemon::Step::Hang),
    });
    run(async {
        let mut log = follow(&daemon);
        log.until("b").await;
        log.follow_for(Duration::from_millis(50)).await;
        assert_eq!(log.words, ["connected", "a", "b"]);
    });
}

#[test]
fn a_quiet_daemon_that_ends_the_stream_leaves_no_gap() {
    let (_dir, daemon) = fake();
    run(async {
        // The only event is from before the stream.
        daemon.emit_container("create", "old");
        let mut log = follow(&daemon);
        log.until("connected").await;
        daemon.end_streams();
        log.until("connected").await;
        log.follow_for(Duration::from_millis(700)).await;
        assert_eq!(log.words, ["connected", "lost", "connected"]);
        assert_eq!(log.vouched, 1);
    });
}

#[test]
fn a_ring_overrun_while_away_is_a_gap() {
    let (_dir, mut daemon) = fake();
    run(async {
        let mut log = follow(&daemon);
        log.until("connected").await;
        let last = daemon.emit_container("die", "a");
        log.until("a").await;
        daemon.stop();
        log.until("failed").await;
        let mut first_kept = 0;
        for number in 0..300 {
            let stamp = daemon.emit_container("die", &format!("n{number}"));
            if number == 300 - 256 {
                first_kept = stamp;
            }
        }
        daemon.resume();
        log.until("gap ring-overrun").await;
        log.follow_for(Duration::from_millis(300)).await;
        let (from, to, _) = log.gaps[0];
        assert!(last <= from && from <= to, "{last} {from} {to}");
        assert_eq!(to, first_kept);
        assert!(log.words.contains(&"n299".to_owned()));
        assert!(!log.words.contains(&"n43".to_owned()) && log.words.contains(&"n44".to_owned()));
        assert_eq!(log.gaps.len(), 1);
    });
}

#[test]
fn a_restarted_daemon_is_a_gap_even_when_it_stays_quiet() {
    let (_dir, mut daemon) = fake();
    run(async {
        let mut log = follow(&daemon);
        log.until("connected").await;
        let last = daemon.emit_container("die", "a");
        log.until("a").await;
        daemon.stop();
        daemon.forget_events();
        log.until("failed").await;
        daemon.resume();
        log.until("gap daemon-restarted").await;
        assert_eq!(log.words, ["connected", "a", "lost", "failed", "connected", "gap daemon-restarted"]);
        assert_eq!(log.vouched, 0);
        let (from, to, _) = log.gaps[0];
        assert!(last <= from && from <= to, "{last} {from} {to}");
        assert!(matches!(log.errors[1], Error::NoSocket { .. }), "{}", log.errors[1]);
        daemon.emit_container("die", "b");
        log.until("b").await;
    });
}

#[test]
fn a_half_open_stream_is_found_by_the_ping() {
    let (_dir, daemon) = fake();
    run(async {
        let mut log = follow(&daemon);
        log.until("connected").await;
        daemon.emit_container("die", "a");
        log.until("a").await;
        daemon.set_mute(true);
        daemon.emit_container("die", "b");
        log.until("lost").await;
        assert!(matches!(log.errors[0], Error::Timeout { .. }), "{}", log.errors[0]);
        daemon.set_mute(false);
        log.until("b").await;
        log.follow_for(Duration::from_millis(600)).await;
        assert!(log.gaps.is_empty(), "{:?}", log.words);
        assert!(log.words.contains(&"b".to_owned()));
    });
}

#[test]
fn a_daemon_slow_to_ping_that_still_sends_events_is_not_given_up() {
    let (_dir, daemon) = fake();
    daemon.on("/_ping", |_| Answer::Never);
    run(async {
        let mut log = follow(&daemon);
        log.until("connected").await;
        for number in 0..20 {
            daemon.emit_container("die", &number.to_string());
            log.follow_for(Duration::from_millis(60)).await;
        }
        assert!(!log.words.contains(&"lost".to_owned()), "{:?}", log.words);
        log.until("lost").await;
    });
}

#[test]
fn a_silent_daemon_that_answers_pings_is_left_alone() {
    let (_dir, daemon) = fake();
    run(async {
        let mut log = follow(&daemon);
        log.follow_for(Duration::from_millis(1500)).await;
        assert_eq!(log.words, ["connected"]);
    });
    assert!(daemon.count("/_ping") >= 3);
}

#[test]
fn it_begins_before_its_daemon_does() {
    let (_dir, mut daemon) = fake();
    daemon.stop();
    run(async {
        let mut log = follow(&daemon);
        log.until("failed").await;
        daemon.resume();
        log.until("connected").await;
        assert_eq!(log.words, ["failed", "connected"]);
        assert!(log.gaps.is_empty());
    });
}

#[test]
fn a_former_run_is_resumed_or_the_gap_is_said() {
    let (_dir, daemon) = fake();
    run(async {
        let seen = daemon.emit_container("die", "a");
        daemon.emit_container("die", "b");
        let mut log = Log::new(client(&daemon), settings(), Some(seen));
        log.until("b").await;
        log.follow_for(Duration::from_millis(700)).await;
        assert_eq!(log.words, ["connected", "a", "b"]);

        daemon.forget_events();
        daemon.emit_container("die", "c");
        let mut log = Log::new(client(&daemon), settings(), Some(seen));
        log.until("gap daemon-restarted").await;
        assert_eq!(log.gaps[0].0, seen);
        assert!(log.words.contains(&"c".to_owned()));
    });
}

#[test]
fn an_odd_object_passes_and_is_no_poison() {
    let (_dir, daemon) = fake();
    run(async {
        let mut log = follow(&daemon);
        log.until("connected").await;
        daemon.emit(1, r#"{"Type":"stack","timeNano":"soon"}"#);
        log.until("odd").await;
        daemon.emit_container("die", "a");
        log.until("a").await;
        daemon.end_streams();
        log.until("connected").await;
        daemon.emit_container("die", "b");
        log.until("b").await;
        assert!(log.gaps.is_empty());
    });
}

#[test]
fn it_does_not_storm_a_daemon_that_hangs_up_at_once() {
    let (_dir, daemon) = fake();
    daemon.on("/events", |_| Answer::Close);
    run(async {
        let mut log = follow(&daemon);
        log.follow_for(Duration::from_millis(1500)).await;
    });
    // 20, 40, 80, 160, 200, 200 ... ms, halved by the jitter at most.
    assert!((5..=24).contains(&daemon.count("/events")), "{}", daemon.count("/events"));
}
