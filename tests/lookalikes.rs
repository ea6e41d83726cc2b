//! Storms, and what only looks like one: each test tells a service's life and says what squall has to make of it.

#[path = "support/scenario.rs"]
mod scenario;

use scenario::{
    DIGEST, EVENT_VIEWS, HOUR, MIN, SEC, Scenario, Service, TASK_VIEWS, Task, View, check, check_calm, check_calm_in,
    check_in,
};
use serde_json::json;
use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, read_line};
use squall::model::{Cause, FindingKind, Notice, StormState, SubjectKind, Timestamp};

const QUOTA: &str =
    "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating";
const BIND: &str = r#"invalid mount config for type "bind": bind source path does not exist: /data/x"#;

/// Replaces each task, one after another, by one of `service`, as a rolling update does.
fn roll(s: &mut Scenario, service: &Service, tasks: &mut [Task], at: i64, exit: i32, start_first: bool) -> i64 {
    s.order(service, at, "update", &[]);
    let mut at = at + 100;
    for task in tasks {
        let node = task.node.clone();
        if start_first {
            let new = s.run(service, task.slot, &node, at);
            s.stop(task, at + SEC, exit, "shutdown");
            *task = new;
        } else {
            s.stop(task, at, exit, "shutdown");
            *task = s.run(service, task.slot, &node, at + 2 * SEC);
        }
        at += 4 * SEC;
    }
    s.order(service, at, "update", &[("updatestate.new", "completed"), ("updatestate.old", "updating")]);
    at
}

fn replicas(s: &mut Scenario, service: &Service, count: u64, at: i64) -> Vec<Task> {
    (1..=count).map(|slot| s.run(service, slot, &format!("node{}", slot % 3 + 1), at)).collect()
}

// --- what somebody ordered ---------------------------------------------------------------------------

#[test]
fn forced_updates_one_after_another_are_calm() {
    for (exit, start_first) in [(143, false), (137, false), (143, true), (137, true), (0, false)] {
        let mut s = Scenario::new();
        let mut web = Service::new("web").replicas(3).delay(SEC);
        s.service(&web, 0);
        let mut tasks = replicas(&mut s, &web, 3, 0);
        let mut at = 10 * SEC;
        for _ in 0..9 {
            web = web.forced();
            at = roll(&mut s, &web, &mut tasks, at, exit, start_first) + SEC;
        }
        s.idle(at, at + 5 * MIN);
        check_calm(&s);
    }
}

/// Eight deployments, each of which comes when the container of the one before has been made and not started.
fn deployments_broken_off() -> Scenario {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let running = s.run(&web, 1, "node1", 0);
    let mut at = 10 * SEC;
    s.order(&web, at, "update", &[]);
    s.stop(&running, at, 143, "shutdown");
    for tag in 2..10 {
        // Its container has been made when the next deployment comes.
        let new = web.deployed(tag);
        s.order(&new, at, "update", &[("image.new", "x"), ("image.old", "y")]);
        let task = s.task(&new, 1, "node1", at + 100);
        s.create(&task, at + 500);
        at += 3 * SEC;
        s.list(&task, at, "ready", "shutdown", "", None);
        s.list(&task, at + 100, "shutdown", "shutdown", "", None);
        s.destroy(&task, at + 200);
    }
    let last = web.deployed(10);
    s.order(&last, at, "update", &[]);
    s.run(&last, 1, "node1", at);
    s.idle(at, at + 5 * MIN);
    s
}

#[test]
fn deployments_that_each_break_off_the_one_before_are_calm() {
    check_calm_in(&deployments_broken_off(), &TASK_VIEWS);
}

#[test]
fn deployments_that_each_break_off_the_one_before_are_calm_by_their_orders_alone() {
    check_calm_in(&deployments_broken_off(), &[View::Events, View::EventsAndLogs]);
}

#[test]
fn pulls_that_a_new_deployment_cancels_are_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let mut at = 0;
    for tag in 2..12 {
        let new = web.deployed(tag);
        s.order(&new, at, "update", &[]);
        let task = s.task(&new, 1, "node1", at + 50);
        at += 3 * SEC;
        s.list(&task, at, "preparing", "shutdown", "", None);
        s.pull_failed(&task, at + 10, "context canceled");
        s.reject(&task, at + 20, "context canceled");
    }
    s.idle(at, at + 5 * MIN);
    check_calm(&s);
}

#[test]
fn scaling_up_and_down_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").delay(SEC);
    s.service(&web, 0);
    s.run(&web, 1, "node1", 0);
    for round in 0..6 {
        let at = 10 * SEC + round * 20 * SEC;
        s.order(&web, at, "update", &[("replicas.new", "20"), ("replicas.old", "1")]);
        let more: Vec<Task> = (2..=20).map(|slot| s.run(&web, slot, &format!("node{}", slot % 3 + 1), at)).collect();
        s.order(&web, at + 10 * SEC, "update", &[("replicas.new", "1"), ("replicas.old", "20")]);
        for task in &more {
            s.stop(task, at + 10 * SEC, 137, "remove");
            s.destroy(task, at + 13 * SEC);
        }
    }
    s.idle(2 * MIN, 7 * MIN);
    check_calm(&s);
}

#[test]
fn a_drain_that_moves_20_replicas_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(20);
    s.service(&web, 0);
    let mut tasks: Vec<Task> = (1..=20).map(|slot| s.run(&web, slot, "node1", 0)).collect();
    // To and fro, as one does who patches one node after another.
    for (round, (from, to)) in [("node1", "node2"), ("node2", "node3"), ("node3", "node1")].into_iter().enumerate() {
        let at = MIN + i64::try_from(round).unwrap_or(0) * 30 * SEC;
        s.event("node1", at, "node", "update", from, &[("availability.new", "drain"), ("availability.old", "active")]);
        for task in &mut tasks {
            s.stop(task, at, 137, "shutdown");
            *task = s.run(&web, task.slot, to, at + 100);
        }
    }
    s.idle(3 * MIN, 8 * MIN);
    check_calm(&s);
}

#[test]
fn tasks_that_a_constraint_evicts_are_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(20);
    s.service(&web, 0);
    for slot in 1..=20 {
        let task = s.run(&web, slot, "node1", 0);
        s.list(&task, 20 * SEC, "rejected", "shutdown", "assigned node no longer meets constraints", None);
        s.container_event(&task, 20 * SEC, "kill", &[("signal", "15")]);
        s.container_event(&task, 20 * SEC + 200, "die", &[("exitCode", "143")]);
        s.run(&web, slot, "node2", 20 * SEC + 100);
    }
    s.idle(MIN, 6 * MIN);
    check_calm(&s);
}

#[test]
fn a_node_that_goes_down_and_comes_back_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(20);
    s.service(&web, 0);
    let tasks: Vec<Task> = (1..=20).map(|slot| s.run(&web, slot, "node2", 0)).collect();
    let lost = 10 * MIN;
    s.event("node1", lost, "node", "update", "node2", &[("state.new", "down"), ("state.old", "ready")]);
    for task in &tasks {
        s.list_since(task, lost, SEC, "running", "shutdown", "", Some(0));
        s.run(&web, task.slot, "node1", lost + 100);
    }
    // The node was rebooted: its engine finds the containers dead.
    let back = 20 * MIN;
    for task in &tasks {
        s.container_event(task, back, "die", &[("exitCode", "255")]);
        s.fatal(task, back + 50, "task: non-zero exit (255)");
        s.list(task, back + 100, "failed", "shutdown", "task: non-zero exit (255)", Some(255));
    }
    s.idle(back, 40 * MIN);
    check_calm(&s);
}

#[test]
fn a_node_that_stays_away_leaves_orphans_which_are_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(20);
    s.service(&web, 0);
    for slot in 1..=20 {
        let task = s.run(&web, slot, "node2", 0);
        s.list_since(&task, 10 * MIN, SEC, "running", "shutdown", "", Some(0));
        s.run(&web, slot, "node1", 10 * MIN + 100);
        s.list(&task, 24 * HOUR, "orphaned", "shutdown", "", None);
    }
    s.idle(24 * HOUR, 24 * HOUR + 5 * MIN);
    check_calm(&s);
}

#[test]
fn a_dockerd_restart_that_loses_every_container_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(30).delay(SEC);
    s.service(&web, 0);
    let mut tasks: Vec<Task> = (1..=30).map(|slot| s.run(&web, slot, "node1", 0)).collect();
    for round in 1..=3 {
        let at = round * 5 * MIN;
        s.log("node1", at - 10 * SEC, "level=info msg=\"Processing signal 'terminated'\"");
        for task in &tasks {
            s.container_event(task, at - 9 * SEC, "kill", &[("signal", "15")]);
            s.container_event(task, at - 8 * SEC, "die", &[("exitCode", "143")]);
        }
        s.log("node1", at, "level=info msg=\"Daemon has completed initialization\"");
        for task in &mut tasks {
            let error = format!("No such container: web.{}.{}", task.slot, task.id);
            s.fatal(task, at + 500, &error);
            s.list(task, at + 600, "failed", "shutdown", &error, None);
            *task = s.run(&web, task.slot, "node1", at + SEC);
        }
    }
    s.idle(15 * MIN, 25 * MIN);
    check_calm(&s);
}

#[test]
fn a_dockerd_restart_whose_containers_end_by_sigterm_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(30).delay(SEC);
    s.service(&web, 0);
    let mut tasks: Vec<Task> = (1..=30).map(|slot| s.run(&web, slot, "node1", 0)).collect();
    for round in 1..=3 {
        let at = round * 5 * MIN;
        for task in &mut tasks {
            s.container_event(task, at, "kill", &[("signal", "15")]);
            s.die(task, at + 200, 143);
            s.container_event(task, at + 210, "stop", &[]);
            *task = s.run(&web, task.slot, "node1", at + 10 * SEC);
        }
    }
    s.idle(15 * MIN, 25 * MIN);
    check_calm(&s);
}

/// Each is complete within seconds, as a loop of exits 0 would be; that they were told to stop is in the events only.
#[test]
fn dockerd_restarts_whose_containers_stop_well_are_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(8).delay(SEC);
    s.service(&web, 0);
    let mut tasks: Vec<Task> = (1..=8).map(|slot| s.run(&web, slot, "node1", 0)).collect();
    for round in 1..=20 {
        let at = round * 20 * SEC;
        for task in &mut tasks {
            s.container_event(task, at, "kill", &[("signal", "15")]);
            s.die(task, at + 200, 0);
            s.container_event(task, at + 210, "stop", &[]);
            *task = s.run(&web, task.slot, "node1", at + 8 * SEC);
        }
    }
    s.idle(400 * SEC, 15 * MIN);
    check_calm_in(&s, &EVENT_VIEWS);
}

/// That each was made is seen; its start came while nobody looked, as dockerd was restarted.
#[test]
fn containers_whose_start_was_missed_in_a_gap_are_calm() {
    let onsets = |is_blind: bool| {
        let mut detector = Detector::new(Settings::default());
        for turn in 0..12_i64 {
            let (secs, id) = (1_800_000_000 + 10 * turn, format!("{turn:0>64}"));
            let event = json!({
                "Type": "container", "Action": "create", "scope": "local", "time": secs, "timeNano": secs * 1_000_000_000,
                "Actor": {"ID": id, "Attributes": {
                    "image": "app:1", "name": "web.1.x", "com.docker.swarm.service.id": "web",
                    "com.docker.swarm.service.name": "web", "com.docker.swarm.task.id": format!("{turn:0>25}"),
                    "com.docker.swarm.task.name": "web.1.x", "com.docker.swarm.node.id": "node1",
                }},
            });
            let line = event.to_string();
            let Reading::Observation(observation) = read_line(&line, 0) else { panic!("not read: {line}") };
            detector.observe(&observation);
            if is_blind {
                detector.blind(Timestamp::from_secs(secs + 5));
            }
        }
        detector.finish(Timestamp::from_secs(1_800_000_120));
        detector.storms().len()
    };
    assert_eq!((onsets(true), onsets(false)), (0, 1), "storms with gaps, and of what is watched");
}

/// The storm is over for want of failures, and the tries that fail since look like a slow loop: to the slow quota, and in
/// the tasks that Swarm keeps.
#[test]
fn tries_of_a_held_service_are_no_storm_of_their_own() {
    const BEGAN: i64 = 1_800_000_000;
    let stamp = |secs: i64| Timestamp::from_secs(BEGAN + secs).to_string();
    let onsets = |labels: serde_json::Value| {
        let service = json!({
            "ID": "web", "Version": {"Index": 7}, "CreatedAt": stamp(0), "UpdatedAt": stamp(0), "Endpoint": {"Spec": {}},
            "Spec": {"Name": "web", "Labels": labels, "TaskTemplate": {"ContainerSpec": {"Image": "app:1"}},
                "Mode": {"Replicated": {"Replicas": 1}}},
        });
        let tasks = (1..9).map(|turn| {
            let secs = turn * 320;
            json!({
                "ID": format!("{secs:0>25}"), "Version": {"Index": secs}, "CreatedAt": stamp(secs), "ServiceID": "web",
                "UpdatedAt": stamp(secs + 1), "Slot": 1, "NodeID": "node1", "DesiredState": "shutdown",
                "Spec": {"ContainerSpec": {"Image": "app:1"}},
                "Status": {"Timestamp": stamp(secs + 1), "State": "failed", "Err": "task: non-zero exit (1)"},
            })
        });
        let mut detector = Detector::new(Settings::default());
        for line in std::iter::once(service).chain(tasks).map(|line| line.to_string()) {
            let Reading::Observation(observation) = read_line(&line, 0) else { panic!("not read: {line}") };
            detector.take(&observation);
        }
        let now = Timestamp::from_secs(BEGAN + 8 * 320 + 10);
        detector.advance(now);
        detector.judge_history(now);
        detector.storms().len()
    };
    let held = json!({"squall.quarantine": "held by backoff"});
    assert_eq!((onsets(held), onsets(json!({}))), (0, 1), "storms of what is held, and of what is not");
}

#[test]
fn an_update_that_fails_and_rolls_back_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(3);
    s.service(&web, 0);
    let tasks = replicas(&mut s, &web, 3, 0);
    let bad = web.deployed(2);
    s.order(&bad, MIN, "update", &[("image.new", "shop/web:2"), ("image.old", "shop/web:1")]);
    s.stop(&tasks[0], MIN, 143, "shutdown");
    let at = s.crash_loop(&bad, 1, MIN + SEC, 2, SEC, 1);
    s.order(&web, at, "update", &[("updatestate.new", "rollback_started"), ("updatestate.old", "updating")]);
    s.run(&web, 1, "node2", at);
    s.idle(at, at + 10 * MIN);
    check_calm(&s);
}

// --- what runs once, or again and again on purpose ---------------------------------------------------

#[test]
fn a_job_that_completes_is_calm() {
    for condition in [None, Some("on-failure"), Some("any")] {
        let mut s = Scenario::new();
        let mode = json!({"ReplicatedJob": {"MaxConcurrent": 3, "TotalCompletions": 60}});
        let job = Service { condition, ..Service::new("job").mode(mode) };
        s.service(&job, 0);
        for slot in 0..60 {
            let at = i64::try_from(slot).unwrap_or(0) * SEC;
            let task = s.task(&job, slot, "node1", at);
            s.create(&task, at + 200);
            s.start(&task, at + 400);
            s.die(&task, at + 800, 0);
        }
        s.idle(MIN, 6 * MIN);
        check_calm(&s);
    }
}

#[test]
fn a_job_that_fails_for_ever_is_a_storm() {
    let mut s = Scenario::new();
    let mode = json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}});
    let job = Service { condition: None, ..Service::new("job").mode(mode) };
    s.service(&job, 0);
    // Slot 0 of a job comes without a Slot field.
    s.crash_loop(&job, 0, 0, 20, SEC, 1);
    check(&s, &["job: app-exit ongoing 20/20"]);
}

#[test]
fn a_global_job_that_is_run_again_is_calm() {
    let mut s = Scenario::new();
    let mut job = Service { condition: None, ..Service::new("sweep").mode(json!({"GlobalJob": {}})) };
    s.service(&job, 0);
    for run in 0..10 {
        let at = run * 10 * SEC;
        s.order(&job, at, "update", &[]);
        job = job.forced();
        for node in ["node1", "node2", "node3"] {
            let task = s.task(&job, 0, node, at + 50);
            s.create(&task, at + 300);
            s.start(&task, at + 600);
            s.die(&task, at + 900, 0);
        }
    }
    s.idle(2 * MIN, 7 * MIN);
    check_calm(&s);
}

#[test]
fn a_cron_like_service_is_calm() {
    for every in [10 * SEC, MIN, HOUR] {
        let mut s = Scenario::new();
        let mut cron = Service::new("cron").condition("none");
        s.service(&cron, 0);
        for run in 0..60 {
            let at = run * every;
            cron = cron.forced();
            s.order(&cron, at, "update", &[]);
            let task = s.task(&cron, 1, "node1", at + 50);
            s.create(&task, at + 300);
            s.start(&task, at + 600);
            s.die(&task, at + 3 * SEC, 0);
        }
        s.idle(60 * every, 60 * every + 5 * MIN);
        check_calm(&s);
    }
}

#[test]
fn a_cron_like_service_that_fails_every_time_is_one_storm_at_the_most() {
    let mut s = Scenario::new();
    let mut cron = Service::new("cron").condition("none");
    s.service(&cron, 0);
    for run in 0..60 {
        let at = run * MIN;
        cron = cron.forced();
        s.order(&cron, at, "update", &[]);
        s.crash(&cron, 1, "node1", at, SEC, 1);
    }
    for view in scenario::VIEWS {
        let verdict = s.replay(view);
        assert!(verdict.storms.len() <= 1, "{view:?}: {:?}", verdict.notice_lines());
    }
}

#[test]
fn a_program_that_ends_well_and_is_started_again_at_once_for_ever_is_a_storm() {
    let mut s = Scenario::new();
    let web = Service::new("web").delay(SEC);
    s.service(&web, 0);
    s.crash_loop(&web, 1, 0, 60, 100, 0);
    check_in(&s, &TASK_VIEWS, &["web: app-exit ongoing 60/60"]);
}

#[test]
fn a_service_without_a_restart_policy_has_swarms_default_of_any() {
    let mut s = Scenario::new();
    let web = Service { condition: None, ..Service::new("web") };
    s.service(&web, 0);
    s.crash_loop(&web, 1, 0, 30, 100, 0);
    check_in(&s, &TASK_VIEWS, &["web: app-exit ongoing 30/30"]);
}

#[test]
fn a_program_that_ends_well_under_on_failure_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").condition("on-failure").replicas(20);
    s.service(&web, 0);
    for slot in 1..=20 {
        s.crash(&web, slot, "node1", 0, SEC, 0);
    }
    s.idle(MIN, 6 * MIN);
    check_calm(&s);
}

#[test]
fn a_periodic_service_that_ends_well_every_10_minutes_is_calm() {
    for (delay, life) in [(10 * MIN, SEC), (5 * SEC, 10 * MIN)] {
        let mut s = Scenario::new();
        let backup = Service::new("backup").delay(delay);
        s.service(&backup, 0);
        let at = s.crash_loop(&backup, 1, 0, 36, life, 0);
        s.idle(at, at + 5 * MIN);
        check_calm(&s);
    }
}

#[test]
fn a_service_that_gives_up_is_calm() {
    for (max_attempts, condition) in [(2, "any"), (5, "any"), (10, "any"), (5, "on-failure")] {
        let mut s = Scenario::new();
        let web = Service::new("web").delay(SEC).condition(condition).max_attempts(max_attempts, 0);
        s.service(&web, 0);
        let at = s.crash_loop(&web, 1, 0, max_attempts + 1, 100, 1);
        s.idle(at, at + 10 * MIN);
        let views = if max_attempts < 5 { scenario::VIEWS.as_slice() } else { TASK_VIEWS.as_slice() };
        check_calm_in(&s, views);
    }
}

#[test]
fn every_replica_of_a_service_may_give_up() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(20).delay(SEC).max_attempts(3, 0);
    s.service(&web, 0);
    for slot in 1..=20 {
        s.crash_loop(&web, slot, 0, 4, 100, 1);
    }
    s.idle(MIN, 10 * MIN);
    check_calm_in(&s, &TASK_VIEWS);
}

#[test]
fn a_service_that_would_give_up_but_for_its_window_is_a_storm() {
    let mut s = Scenario::new();
    // The window is over before the next attempt: swarmkit#2936.
    let web = Service::new("web").max_attempts(3, 2 * SEC);
    s.service(&web, 0);
    s.crash_loop(&web, 1, 0, 20, 100, 1);
    check(&s, &["web: app-exit ongoing 20/20"]);
}

// --- failures that are no loop -----------------------------------------------------------------------

#[test]
fn a_service_that_fails_four_times_until_its_database_is_up_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 4, SEC, 1);
    s.run(&web, 1, "node1", at);
    s.idle(at, at + HOUR);
    check_calm(&s);
}

#[test]
fn a_hundred_replicas_that_each_crash_every_4_hours_are_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(100);
    s.service(&web, 0);
    for slot in 1..=100 {
        let first = i64::try_from(slot).unwrap_or(0) * 144 * SEC;
        s.crash_loop(&web, slot, first, 6, 4 * HOUR, 1);
    }
    check_calm(&s);
}

#[test]
fn a_dependency_that_takes_all_replicas_down_at_once_is_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(30);
    s.service(&web, 0);
    for slot in 1..=30 {
        let next = s.crash(&web, slot, "node1", 0, 30 * MIN, 1);
        s.run(&web, slot, "node2", next);
    }
    s.idle(31 * MIN, 90 * MIN);
    check_calm(&s);
}

// --- storms ------------------------------------------------------------------------------------------

#[test]
fn an_exit_loop_is_found_at_its_sixth_failure() {
    let mut s = Scenario::new();
    let web = Service { stack: Some("shop".to_owned()), ..Service::new("shop_web") };
    s.service(&web, 0);
    s.crash_loop(&web, 1, 0, 20, SEC, 3);
    check(&s, &["shop_web: app-exit ongoing 20/20"]);
    for view in scenario::VIEWS {
        let storm = &s.replay(view).storms[0];
        assert_eq!(storm.detected_after_failures, 6, "{view:?}");
        assert_eq!(storm.subject.kind, SubjectKind::SwarmService);
        assert_eq!((&*storm.subject.id, storm.subject.stack.as_deref()), (&*web.id, Some("shop")));
        assert_eq!((&*storm.image, &*storm.registry, storm.pinned), ("shop/shop_web:1", "docker.io", false));
        assert!(storm.pulls);
    }
}

#[test]
fn a_pinned_image_costs_no_pull() {
    let mut s = Scenario::new();
    let web = Service { image: format!("ghcr.io/shop/web:1@{DIGEST}"), ..Service::new("web") };
    s.service(&web, 0);
    s.crash_loop(&web, 1, 0, 20, SEC, 1);
    for view in scenario::VIEWS {
        let storm = &s.replay(view).storms[0];
        assert_eq!((storm.pinned, storm.pulls, &*storm.registry), (true, false, "ghcr.io"), "{view:?}");
    }
}

#[test]
fn a_missing_mount_makes_no_container_event_and_is_a_storm() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    s.reject_loop(&web, 1, 0, 30, BIND);
    check_in(&s, &[View::All, View::Tasks, View::EventsAndLogs], &["web: mount ongoing 30/30"]);
    let storm = &s.replay(View::All).storms[0];
    assert_eq!((&*storm.detail, storm.nodes.len(), storm.attempts_per_min), (BIND, 3, 12.0));
}

#[test]
fn a_global_service_storms_as_one() {
    let mut s = Scenario::new();
    let agent = Service::new("agent").mode(json!({"Global": {}}));
    s.service(&agent, 0);
    for node in ["node1", "node2", "node3"] {
        for attempt in 0..10 {
            let task = s.task(&agent, 0, node, attempt * 5 * SEC);
            s.reject(&task, attempt * 5 * SEC + 300, BIND);
        }
    }
    check_in(&s, &[View::All, View::Tasks, View::EventsAndLogs], &["agent: mount ongoing 30/30"]);
}

#[test]
fn a_start_failure_makes_no_die_and_is_a_storm() {
    let error = r#"starting container failed: OCI runtime create failed: runc create failed: unable to start container process: exec: "/no": stat /no: no such file or directory: unknown"#;
    let mut s = Scenario::new();
    let web = Service::new("web").delay(SEC);
    s.service(&web, 0);
    let mut at = 0;
    for attempt in 0..20 {
        let task = s.task(&web, 1, &format!("node{}", attempt % 3 + 1), at);
        s.create(&task, at + 200);
        s.fatal(&task, at + SEC, error);
        s.list(&task, at + SEC + 50, "failed", "shutdown", error, Some(127));
        at += 2 * SEC;
    }
    check_in(&s, &[View::All, View::Tasks, View::EventsAndLogs], &["web: entrypoint ongoing 20/20"]);
    // The last one is not known to have failed: nothing was made after it.
    check_in(&s, &[View::Events], &["web: unknown ongoing 19/20"]);
}

#[test]
fn a_loop_of_one_failure_each_10_minutes_is_a_storm_within_90_minutes() {
    for (delay, life) in [(5 * SEC, 595 * SEC), (10 * MIN, SEC)] {
        let mut s = Scenario::new();
        let web = Service::new("web").delay(delay);
        s.service(&web, 0);
        let at = s.crash_loop(&web, 1, 0, 9, life, 1);
        let running = s.run(&web, 1, "node1", at);
        s.idle(at, at + 29 * MIN);
        check(&s, &["web: app-exit ongoing 9/10"]);
        let found = s.replay(View::All).detected_secs()[0];
        assert!(found <= 90 * 60, "found after {found} s");
        // Three periods without failure are over 30 minutes after the last.
        s.idle(at + 30 * MIN, at + 31 * MIN);
        s.list_since(&running, at + 31 * MIN, at + 700, "running", "running", "", Some(0));
        check(&s, &["web: app-exit subsided 9/10"]);
    }
}

#[test]
fn a_loop_that_is_killed_for_memory_is_told_from_an_exit() {
    for (limit, oom_events) in [(0, true), (64 << 20, true), (64 << 20, false)] {
        let mut s = Scenario::new();
        let web = Service::new("web").memory_limit(limit);
        s.service(&web, 0);
        let mut at = 0;
        for attempt in 0..20 {
            let task = s.task(&web, 1, "node1", at);
            s.create(&task, at + 200);
            s.start(&task, at + 5 * SEC);
            // Four of five have the event, and some after the die.
            if oom_events && attempt % 5 > 0 {
                s.container_event(&task, at + 6 * SEC + if attempt % 2 == 0 { 5 } else { -5 }, "oom", &[]);
            }
            s.die(&task, at + 6 * SEC, 137);
            at += 7 * SEC;
        }
        let views: &[View] = match (limit, oom_events) {
            (0, _) => &[View::All],
            (_, false) => &TASK_VIEWS,
            _ => &scenario::VIEWS,
        };
        check_in(&s, views, &["web: oom ongoing 20/20"]);
    }
}

#[test]
fn a_loop_that_a_health_check_kills_is_told_from_a_stop() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let mut at = 0;
    for _ in 0..20 {
        let task = s.task(&web, 1, "node1", at);
        s.create(&task, at + 200);
        s.start(&task, at + 5 * SEC);
        let dead = at + 8 * SEC;
        s.container_event(&task, dead - 1500, "health_status: unhealthy", &[]);
        s.container_event(&task, dead - 1400, "kill", &[("signal", "15")]);
        s.container_event(&task, dead - 100, "kill", &[("signal", "9")]);
        s.container_event(&task, dead - 50, "stop", &[]);
        s.container_event(&task, dead, "die", &[("exitCode", "137")]);
        let error = "task: non-zero exit (137): dockerexec: unhealthy container";
        s.fatal(&task, dead + 50, error);
        s.list(&task, dead + 100, "failed", "shutdown", error, Some(137));
        at = dead + 300;
    }
    check(&s, &["web: health-check ongoing 20/20"]);
}

#[test]
fn a_storm_that_goes_on_for_another_reason_says_so_once() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let at = s.reject_loop(&web, 1, 0, 20, BIND);
    let mut next = at;
    for _ in 0..30 {
        let task = s.task(&web, 1, "node1", next);
        s.pull_failed(&task, next + 150, QUOTA);
        s.reject(&task, next + 200, "No such image: shop/web:1");
        next += 5 * SEC;
    }
    for (verdict, of) in [(s.replay(View::All), "replay"), (s.live(View::All), "live")] {
        let changes: Vec<_> = verdict
            .notices
            .iter()
            .filter_map(|(_, notice)| match notice {
                Notice::CauseChanged { from, to, .. } => Some((*from, *to)),
                _ => None,
            })
            .collect();
        assert_eq!(changes, [(Cause::Mount, Cause::RegistryQuota)], "{of}: {:?}", verdict.notice_lines());
        assert_eq!(verdict.storm_lines(), ["web: registry-quota ongoing 50/50"], "{of}");
    }
    // Without the log, the task alone tells.
    check_in(&s, &[View::Tasks], &["web: pull-failed ongoing 50/50"]);
}

#[test]
fn a_storm_does_not_end_at_the_first_running() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 20, SEC, 1);
    let healthy = s.run(&web, 1, "node1", at);
    s.idle(at, at + 50 * SEC);
    check(&s, &["web: app-exit ongoing 20/21"]);
    s.idle(at + 60 * SEC, at + 80 * SEC);
    s.list_since(&healthy, at + 80 * SEC, at + 700, "running", "running", "", Some(0));
    check(&s, &["web: app-exit subsided 20/21"]);
    for view in scenario::VIEWS {
        let verdict = s.replay(view);
        let storm = &verdict.storms[0];
        assert_eq!(storm.state, StormState::Subsided);
        let ended = storm.ended.expect("it has ended");
        assert!(ended >= storm.detected && ended.since(storm.onset).as_secs() >= 100, "{view:?} {ended}");
        assert_eq!(verdict.notice_lines().len(), 2, "{view:?}: {:?}", verdict.notice_lines());
    }
}

#[test]
fn lucky_runs_within_a_storm_are_one_storm() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let mut at = 0;
    for _ in 0..10 {
        at = s.crash_loop(&web, 1, at, 6, SEC, 1);
        // Now and then it lives for 40 s.
        at = s.crash(&web, 1, "node1", at, 40 * SEC, 1);
    }
    check(&s, &["web: app-exit ongoing 70/70"]);
}

#[test]
fn a_storm_of_a_service_that_is_removed_has_ended() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 20, SEC, 1);
    s.order(&web, at, "remove", &[]);
    // It may come back under its name.
    s.idle(at, at + 5 * SEC);
    check_in(&s, &EVENT_VIEWS, &["web: app-exit ongoing 20/20"]);
    s.idle(at + 10 * SEC, at + 2 * MIN);
    check(&s, &["web: app-exit subsided 20/20"]);
}

#[test]
fn a_single_failure_after_a_storm_has_ended_is_no_new_storm() {
    let mut s = Scenario::new();
    let at = s.mended_loop(&Service::new("web"), 40 * MIN);
    s.idle(at + MIN, at + 10 * MIN);
    check(&s, &["web: app-exit subsided 20/21"]);
}

#[test]
fn a_storm_that_comes_back_is_another_one() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 20, SEC, 1);
    let healthy = s.run(&web, 1, "node1", at);
    s.idle(at, at + 20 * MIN);
    let again = at + 20 * MIN;
    s.die(&healthy, again, 1);
    s.crash_loop(&web, 1, again + 300, 20, SEC, 1);
    for view in scenario::VIEWS {
        let verdict = s.replay(view);
        assert_eq!(
            verdict.storm_lines(),
            ["web: app-exit ongoing 21/21", "web: app-exit subsided 20/21"],
            "{view:?} {:?}",
            verdict.notice_lines()
        );
        assert_ne!(verdict.storms[0].id, verdict.storms[1].id);
        assert_eq!(verdict.storms[0].id, s.replay(View::All).storms[0].id, "the same id in {view:?}");
    }
}

#[test]
fn a_storm_that_is_mended_by_a_deployment_ends() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 20, SEC, 1);
    let good = web.deployed(2);
    s.order(&good, at, "update", &[("image.new", "shop/web:2"), ("image.old", "shop/web:1")]);
    s.run(&good, 1, "node1", at);
    s.idle(at, at + 5 * MIN);
    check(&s, &["web: app-exit subsided 20/21"]);
}

// --- waiting -----------------------------------------------------------------------------------------

#[test]
fn a_task_that_no_node_takes_is_found_after_two_minutes_and_is_no_storm() {
    let error = "no suitable node (scheduling constraints not satisfied on 3 nodes)";
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(2);
    s.service(&web, 0);
    s.pending(&web, 1, 0, error);
    s.pending(&web, 2, 0, error);
    s.idle(SEC, 115 * SEC);
    check_calm(&s);
    s.idle(2 * MIN, 3 * MIN);
    for view in TASK_VIEWS {
        let verdict = s.replay(view);
        assert!(verdict.storms.is_empty());
        let finding = &verdict.findings[0];
        assert_eq!((finding.kind, finding.cause, finding.tasks), (FindingKind::Pending, Cause::Unschedulable, 2));
        assert_eq!((&*finding.detail, &*finding.subject.name), (error, "web"));
        assert_eq!(verdict.notices.len(), 1, "it is said once: {:?}", verdict.notice_lines());
    }
}

#[test]
fn a_pull_that_hangs_is_found_after_five_minutes_and_is_no_storm() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let task = s.task(&web, 1, "node1", 0);
    s.list(&task, 100, "preparing", "running", "", None);
    s.idle(SEC, 290 * SEC);
    check_calm(&s);
    s.idle(5 * MIN, 6 * MIN);
    for view in TASK_VIEWS {
        let verdict = s.replay(view);
        assert!(verdict.storms.is_empty());
        let finding = &verdict.findings[0];
        assert_eq!(
            (finding.kind, finding.tasks, &*finding.nodes),
            (FindingKind::HangingPull, 1, &["node1".to_owned()][..])
        );
    }
    // It goes through in the end.
    s.create(&task, 6 * MIN);
    s.start(&task, 6 * MIN + SEC);
    s.idle(6 * MIN + 2 * SEC, 7 * MIN);
    assert_eq!(s.replay(View::All).findings, []);
}

#[test]
fn a_service_scaled_to_zero_leaves_nothing_that_waits() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let task = s.pending(&web, 1, 0, "no suitable node (insufficient resources on 3 nodes)");
    s.list(&task, MIN, "pending", "remove", "no suitable node (insufficient resources on 3 nodes)", None);
    s.idle(MIN, 10 * MIN);
    check_calm(&s);
}

// --- plain Docker, compose, ECS ----------------------------------------------------------------------

#[test]
fn containers_that_are_removed_at_their_end_are_calm() {
    for fixed in [true, false] {
        let mut s = Scenario::new();
        for run in 0..100 {
            let name = if fixed { "nightly".to_owned() } else { format!("sleepy_turing{run}") };
            let container = s.container(&name, &[]);
            let at = run * 2 * SEC;
            s.plain(&container, at, "create", &[]);
            s.plain(&container, at + 100, "start", &[]);
            s.plain(&container, at + 900, "die", &[("exitCode", "1")]);
            s.plain(&container, at + 950, "destroy", &[]);
        }
        check_calm_in(&s, &EVENT_VIEWS);
    }
}

#[test]
fn somebody_who_restarts_a_container_again_and_again_is_calm() {
    for exit in ["143", "137", "0"] {
        let mut s = Scenario::new();
        let container = s.container("db", &[]);
        s.plain(&container, 0, "create", &[]);
        s.plain(&container, 100, "start", &[]);
        for round in 1..=30 {
            let at = round * 4 * SEC;
            s.plain(&container, at, "kill", &[("signal", "15")]);
            s.plain(&container, at + 400, "die", &[("exitCode", exit)]);
            s.plain(&container, at + 410, "stop", &[]);
            s.plain(&container, at + 700, "start", &[]);
            s.plain(&container, at + 710, "restart", &[]);
        }
        s.idle(3 * MIN, 8 * MIN);
        check_calm_in(&s, &EVENT_VIEWS);
    }
}

#[test]
fn a_container_that_somebody_stops_and_starts_is_calm() {
    let mut s = Scenario::new();
    let container = s.container("db", &[]);
    s.plain(&container, 0, "create", &[]);
    for round in 0..30 {
        let at = round * 5 * SEC;
        s.plain(&container, at, "start", &[]);
        s.plain(&container, at + 2 * SEC, "kill", &[("signal", "15")]);
        s.plain(&container, at + 3 * SEC, "stop", &[]);
        s.plain(&container, at + 3 * SEC + 1, "die", &[("exitCode", "143")]);
    }
    check_calm_in(&s, &EVENT_VIEWS);
}

/// A container that its engine starts again: 100 ms doubling to a minute. Returns how many deaths were followed by a
/// start.
fn back_off(s: &mut Scenario, labels: &[(&str, &str)], deaths: u32) -> i64 {
    let container = s.container("crasher", labels);
    s.plain(&container, 0, "create", &[]);
    let mut at = 100;
    for death in 0..deaths {
        s.plain(&container, at, "start", &[]);
        s.plain(&container, at + 50, "die", &[("exitCode", "1"), ("execDuration", "0")]);
        at += 50 + (100 << death.min(20)).min(MIN);
    }
    s.plain(&container, at, "start", &[]);
    at
}

#[test]
fn a_container_that_its_engine_restarts_is_a_storm_despite_the_back_off() {
    let mut s = Scenario::new();
    let at = back_off(&mut s, &[], 20);
    check_in(&s, &EVENT_VIEWS, &["crasher: app-exit ongoing 20/21"]);
    let storm = &s.replay(View::Events).storms[0];
    assert_eq!((storm.subject.kind, storm.pulls), (SubjectKind::Container, false));
    assert_eq!(storm.detected_after_failures, 6);
    // It runs well from then on: three periods of a minute.
    s.idle(at, at + 4 * MIN);
    check_in(&s, &EVENT_VIEWS, &["crasher: app-exit subsided 20/21"]);
}

#[test]
fn a_compose_service_storms_under_its_projects_name() {
    let mut s = Scenario::new();
    let labels = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "api")];
    back_off(&mut s, &labels, 15);
    check_in(&s, &EVENT_VIEWS, &["shop/api: app-exit ongoing 15/16"]);
    let subject = &s.replay(View::Events).storms[0].subject;
    assert_eq!((subject.kind, subject.stack.as_deref()), (SubjectKind::ComposeService, Some("shop")));
}

#[test]
fn a_compose_project_that_is_made_anew_again_and_again_is_calm() {
    let mut s = Scenario::new();
    let labels = [("com.docker.compose.project", "ci"), ("com.docker.compose.service", "test")];
    for (run, exit) in (0..40).zip(["137", "143", "1", "0"].into_iter().cycle()) {
        let at = run * 3 * SEC;
        let container = s.container("ci-test-1", &labels);
        s.plain(&container, at, "create", &[]);
        s.plain(&container, at + 100, "start", &[]);
        // Either it ends by itself, as a test does, or somebody recreates it.
        if exit.starts_with("1") && exit.len() == 3 {
            s.plain(&container, at + SEC, "kill", &[("signal", "15")]);
        }
        s.plain(&container, at + SEC + 300, "die", &[("exitCode", exit)]);
        s.plain(&container, at + SEC + 400, "destroy", &[]);
    }
    check_calm_in(&s, &EVENT_VIEWS);
}

#[test]
fn health_checks_that_fail_and_change_nothing_are_calm() {
    let mut s = Scenario::new();
    let container = s.container("db", &[]);
    s.plain(&container, 0, "create", &[]);
    s.plain(&container, 100, "start", &[]);
    for probe in 0..200 {
        let at = SEC + probe * 2 * SEC;
        s.plain(&container, at, "exec_create: /bin/sh -c false", &[("execID", "e")]);
        s.plain(&container, at + 1, "exec_start: /bin/sh -c false", &[("execID", "e")]);
        s.plain(&container, at + 90, "exec_die", &[("execID", "e"), ("exitCode", "1")]);
        s.plain(
            &container,
            at + 91,
            if probe % 2 == 0 { "health_status: unhealthy" } else { "health_status: healthy" },
            &[],
        );
    }
    check_calm_in(&s, &EVENT_VIEWS);
}

#[test]
fn an_ecs_deployment_is_calm() {
    let mut s = Scenario::new();
    let labels = [("com.amazonaws.ecs.container-name", "api"), ("com.amazonaws.ecs.task-definition-family", "shop")];
    for run in 0..20 {
        let container = s.container(&format!("ecs-shop-{run}-api-x"), &labels);
        let at = run * 5 * SEC;
        s.plain(&container, at, "create", &[]);
        s.plain(&container, at + 200, "start", &[]);
        s.plain(&container, at + 4 * SEC, "kill", &[("signal", "15")]);
        s.plain(&container, at + 5 * SEC, "die", &[("exitCode", if run % 2 == 0 { "137" } else { "143" })]);
        s.plain(&container, at + 5 * SEC, "stop", &[]);
        s.plain(&container, at + 100 * SEC, "destroy", &[]);
    }
    check_calm_in(&s, &EVENT_VIEWS);
}

#[test]
fn an_ecs_family_storms_over_its_containers() {
    let mut s = Scenario::new();
    for run in 0..15 {
        let arn = format!("arn:aws:ecs:eu-central-1:1:task/{run}");
        let labels = [
            ("com.amazonaws.ecs.container-name", "api"),
            ("com.amazonaws.ecs.task-arn", arn.as_str()),
            ("com.amazonaws.ecs.task-definition-family", "shop"),
            ("com.amazonaws.ecs.task-definition-version", "3"),
        ];
        let container = s.container(&format!("ecs-shop-3-api-{run:020x}"), &labels);
        let at = run * 15 * SEC;
        s.plain(&container, at, "create", &[]);
        s.plain(&container, at + 200, "start", &[]);
        s.plain(&container, at + 2 * SEC, "die", &[("exitCode", "1")]);
        s.plain(&container, at + 100 * SEC, "destroy", &[]);
    }
    s.idle(0, 5 * MIN);
    check_in(&s, &EVENT_VIEWS, &["shop/api: app-exit subsided 15/15"]);
    assert_eq!(s.replay(View::Events).storms[0].subject.kind, SubjectKind::EcsFamily);
}

// --- what the stream does to them --------------------------------------------------------------------

#[test]
fn two_daemons_whose_clocks_differ_by_90_seconds_tell_one_storm() {
    for ahead in [90 * SEC, -90 * SEC] {
        let mut s = Scenario::new();
        s.skew("node2", ahead);
        let web = Service::new("web");
        s.service(&web, 0);
        let mut at = 0;
        for attempt in 0..60 {
            at = s.crash(&web, 1, &format!("node{}", attempt % 2 + 1), at, SEC, 1);
        }
        for view in scenario::VIEWS {
            let live = s.live(view);
            assert_eq!(live.storm_lines(), ["web: app-exit ongoing 60/60"], "live {view:?} {ahead}");
            // At the end of a recording it depends on whose clock one asks whether the storm goes on.
            let replay = s.replay(view);
            let lines: Vec<String> =
                replay.storm_lines().iter().map(|line| line.replace("subsided", "ongoing")).collect();
            assert_eq!(lines, ["web: app-exit ongoing 60/60"], "{view:?} {ahead}: {:?}", replay.notice_lines());
        }
    }
}

#[test]
fn two_daemons_whose_clocks_differ_by_90_seconds_make_no_storm_of_updates() {
    for ahead in [90 * SEC, -90 * SEC] {
        let mut s = Scenario::new();
        s.skew("node2", ahead);
        let mut web = Service::new("web").replicas(6);
        s.service(&web, 0);
        let mut tasks = replicas(&mut s, &web, 6, 0);
        let mut at = 10 * SEC;
        for _ in 0..9 {
            web = web.forced();
            at = roll(&mut s, &web, &mut tasks, at, 137, false) + SEC;
        }
        s.idle(at, at + 5 * MIN);
        check_calm(&s);
        for view in scenario::VIEWS {
            assert_eq!(s.live(view).storm_lines(), [""; 0], "{view:?}");
        }
    }
}

#[test]
fn log_lines_that_come_30_seconds_late_still_tell_the_cause() {
    let mut s = Scenario::new();
    s.log_arrives_after = 30 * SEC;
    let web = Service::new("web");
    s.service(&web, 0);
    for attempt in 0..40 {
        let at = attempt * 5 * SEC;
        let task = s.task(&web, 1, "node1", at);
        s.pull_failed(&task, at + 150, QUOTA);
        s.reject(&task, at + 200, "No such image: shop/web:1");
    }
    let verdict = s.live(View::All);
    assert_eq!(verdict.storm_lines(), ["web: registry-quota ongoing 40/40"]);
    let notices = verdict.notice_lines();
    assert_eq!(notices[0], "onset of web by pull-failed at 30");
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[1].starts_with("web from pull-failed to registry-quota"), "{notices:?}");
    assert_eq!(s.replay(View::All).storm_lines(), ["web: registry-quota ongoing 40/40"]);
}

#[test]
fn a_log_line_that_comes_before_its_task_is_listed_leaves_the_storms_end_as_it_is() {
    let mut s = Scenario::new();
    let web = Service::new("web").delay(20 * SEC);
    s.service(&web, 0);
    for attempt in 0..30 {
        let at = attempt * 20 * SEC;
        // Every tenth time the node is quicker than the poll.
        let is_quick = attempt % 10 == 9;
        let task = if is_quick { s.unlisted(&web, 1, "node1", at) } else { s.task(&web, 1, "node1", at) };
        s.reject(&task, at + 200, BIND);
    }
    let last = 29 * 20 * SEC;
    s.idle(last, last + 2 * MIN);
    // Three periods of 20 s after the last failure.
    for view in [View::All, View::Tasks, View::EventsAndLogs] {
        let verdict = s.replay(view);
        assert_eq!(verdict.storm_lines(), ["web: mount subsided 30/30"], "{view:?}: {:?}", verdict.notice_lines());
    }
}

#[test]
fn a_task_that_is_listed_a_hundred_times_is_one_attempt() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    s.crash_loop(&web, 1, 0, 20, SEC, 1);
    let calm = Service::new("calm");
    s.service(&calm, 0);
    s.crash_loop(&calm, 1, 0, 3, SEC, 1);
    s.relist(100);
    for view in TASK_VIEWS {
        assert_eq!(s.replay(view).storm_lines(), ["web: app-exit ongoing 20/20"], "{view:?}");
        assert_eq!(s.live(view).storm_lines(), ["web: app-exit ongoing 20/20"], "{view:?}");
    }
}

#[test]
fn a_storm_is_found_though_swarm_keeps_but_five_tasks_a_slot() {
    let mut s = Scenario::new();
    let web = Service::new("web").delay(SEC);
    s.service(&web, 0);
    let mut kept: Vec<Task> = Vec::new();
    for attempt in 0..40_i64 {
        let at = attempt * 2 * SEC;
        let task = s.task(&web, 1, "node1", at);
        s.create(&task, at + 200);
        s.start(&task, at + SEC);
        s.container_event(&task, at + 1200, "die", &[("exitCode", "1")]);
        kept.push(task);
        if kept.len() > 5 {
            s.destroy(&kept.remove(0), at + 300);
        }
        // Polled every 4 s: what is there is listed, all of it.
        if attempt % 2 == 1 {
            for task in &kept {
                s.list_since(
                    task,
                    at + 1500,
                    task.created + 1250,
                    "failed",
                    "shutdown",
                    "task: non-zero exit (1)",
                    Some(1),
                );
            }
        }
    }
    check(&s, &["web: app-exit ongoing 40/40"]);
}

#[test]
fn a_single_listing_of_five_tasks_a_slot_tells_the_storms_that_run() {
    let mut s = Scenario::new();
    let storm = Service::new("storm");
    let updated = Service::new("updated");
    let periodic = Service::new("periodic").delay(10 * MIN);
    let mended = Service::new("mended");
    let mut rest = Scenario::new();
    for attempt in 0..4 {
        // Each task as the listing shows it last.
        let made = attempt * 6 * SEC;
        let task = rest.task(&storm, 1, "node1", made);
        s.list_since(&task, made + 5500, made + 5500, "failed", "shutdown", "task: non-zero exit (1)", Some(1));
        let task = rest.task(&mended, 1, "node1", made - HOUR);
        s.list_since(
            &task,
            made - HOUR + 5500,
            made - HOUR + 5500,
            "failed",
            "shutdown",
            "task: non-zero exit (1)",
            Some(1),
        );
        let task = rest.task(&updated, 1, "node1", made);
        s.list_since(&task, made + 5500, made + 5500, "shutdown", "shutdown", "", Some(137));
        let made = (attempt - 3) * 10 * MIN;
        let task = rest.task(&periodic, 1, "node1", made);
        s.list_since(&task, made + 5500, made + 5500, "complete", "shutdown", "", Some(0));
    }
    for service in [&storm, &updated, &mended] {
        let task = rest.task(service, 1, "node1", 24 * SEC);
        s.list_since(&task, 26 * SEC, 26 * SEC, "running", "running", "", Some(0));
    }
    let verdict = s.replay(View::Tasks);
    assert_eq!(verdict.storm_lines().len(), 1, "{:?}", verdict.storm_lines());
    assert!(verdict.storm_lines()[0].starts_with(&format!("{}: app-exit ongoing 4/5", storm.id)));
}

/// A busy manager lists its tasks late: till then the log tells of a failure, without its slot.
fn rejected_and_listed_late(s: &mut Scenario, service: &Service, slot: u64, at: i64) {
    let task = s.unlisted(service, slot, "node1", at);
    s.fatal(&task, at + 200, BIND);
    s.list_since(&task, at + 20 * SEC, at + 200, "rejected", "shutdown", BIND, None);
}

#[test]
fn a_slow_loop_whose_tasks_are_listed_late_now_and_then_is_found_at_its_sixth_failure() {
    let mut s = Scenario::new();
    let web = Service::new("web").delay(50 * SEC);
    s.service(&web, 0);
    for attempt in 0..6 {
        let at = attempt * 50 * SEC;
        if attempt % 2 == 0 {
            rejected_and_listed_late(&mut s, &web, 1, at);
        } else {
            let task = s.task(&web, 1, "node1", at);
            s.reject(&task, at + 200, BIND);
        }
    }
    let last = 5 * 50 * SEC;
    s.idle(last, last + MIN);
    let verdict = s.replay(View::All);
    assert_eq!(verdict.storm_lines(), ["web: mount ongoing 6/6"], "{:?}", verdict.notice_lines());
}

#[test]
fn replicas_that_fail_once_each_are_calm_though_their_tasks_are_listed_late() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(8);
    s.service(&web, 0);
    for (slot, at) in (1..=8).zip((1..).map(|minute| minute * MIN)) {
        rejected_and_listed_late(&mut s, &web, slot, at);
        s.run(&web, slot, "node1", at + 5 * SEC);
    }
    s.idle(8 * MIN, 10 * MIN);
    let verdict = s.replay(View::All);
    assert_eq!(verdict.storm_lines(), [""; 0], "{:?}", verdict.notice_lines());
}
