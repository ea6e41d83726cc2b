//! States of a daemon, as rich as they come, for what shows them.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a test binary has no public face")]

use std::collections::BTreeMap;
use std::time::Duration;

use squall::model::{
    Action, Basis, BudgetStanding, Cause, CauseCounts, Check, DeliveryOutcome, Exhaustion, Finding, FindingKind, Gap,
    Health, HistoryBucket, Outcome, QuarantineStatus, ReceiverStatus, Refusal, RegistryStatus, Requests, STATUS_SCHEMA,
    Spend, Status, Storm, StormState, Subject, SubjectKind, Timestamp, Totals,
};

/// The time on this machine's clock.
pub fn now() -> Timestamp {
    Timestamp::from_nanos(i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("before 2262"))
}

fn mins(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// A storm that began so many minutes before `at`.
pub fn storm(at: Timestamp, name: &str, cause: Cause, failed: u64, per_min: f64, age_min: u64) -> Storm {
    let mut causes = CauseCounts::default();
    (0..failed).for_each(|_| causes.add(cause));
    Storm {
        id: format!("{:016x}", squall::model::fnv_64([name.as_bytes()])),
        subject: Subject {
            kind: SubjectKind::SwarmService,
            name: name.to_owned(),
            id: format!("id-{name}"),
            stack: name.split_once('_').map(|parts| parts.0.to_owned()),
        },
        state: StormState::Ongoing,
        cause,
        causes,
        detail: "task: non-zero exit (1)".to_owned(),
        onset: at.minus(mins(age_min)),
        exact: true,
        updated: None,
        detected: at.minus(mins(age_min.saturating_sub(1))),
        ended: None,
        detected_after_failures: 5,
        attempts: failed + 3,
        failed,
        attempts_per_min: per_min,
        image: format!("registry.example:5000/{name}:7"),
        registry: "registry.example:5000".to_owned(),
        pinned: false,
        pulls: cause.is_pull(),
        nodes: vec!["worker-1".to_owned()],
        slots: Vec::new(),
        replicas: None,
        spend: cause.is_pull().then(|| {
            let kinds = Requests { checks: 1, manifest_heads: 1, manifest_gets: 1, ..Requests::default() };
            Spend::of(kinds * (failed + 3), 0, Basis::Measured).at_pace(failed + 3, per_min)
        }),
        advice: "look at its log: docker service logs NAME".to_owned(),
    }
}

/// A bad night.
pub fn rich(at: Timestamp) -> Status {
    Status {
        schema: STATUS_SCHEMA.to_owned(),
        at,
        version: "0.1.0".to_owned(),
        started: at.minus(mins(3 * 24 * 60 + 4 * 60)),
        node: "manager-1".to_owned(),
        engine: "29.1.2".to_owned(),
        role: "manager".to_owned(),
        leads: true,
        acts: true,
        storms: storms(at),
        storms_left_out: 0,
        quarantines: quarantines(at),
        findings: findings(at),
        gaps: gaps(at),
        calm: 41,
        registries: registries(at),
        receivers: receivers(at),
        history: history(at),
        health: Health { is_alive: true, is_ready: true, checks: checks() },
        totals: totals(),
    }
}

/// A good one.
pub fn calm(at: Timestamp) -> Status {
    let history = history(at);
    Status {
        storms: Vec::new(),
        quarantines: Vec::new(),
        findings: Vec::new(),
        gaps: Vec::new(),
        registries: Vec::new(),
        history: history.iter().map(|bucket| HistoryBucket { at: bucket.at, ..HistoryBucket::default() }).collect(),
        ..rich(at)
    }
}

fn storms(at: Timestamp) -> Vec<Storm> {
    let mut shop = storm(at, "shop_api", Cause::Mount, 212, 5.3, 40);
    shop.image = "docker.io/shop/api:7".to_owned();
    shop.registry = "docker.io".to_owned();
    shop.pulls = true;
    shop.nodes = ["worker-1", "worker-2", "worker-3"].map(str::to_owned).to_vec();
    shop.causes.add(Cause::Unknown);
    shop.detail = "invalid mount config for type \"bind\": bind source path does not exist: /data/x".to_owned();
    shop.advice =
        "create /data/x on worker-1, worker-2 and worker-3, or pin the service to the node that has it; each \
                   try asks docker.io because the image is not pinned by a digest"
            .to_owned();
    let mut quota = storm(at, "media_transcode", Cause::RegistryQuota, 1_482, 61.0, 95);
    quota.image = "docker.io/media/transcode:latest".to_owned();
    quota.registry = "docker.io".to_owned();
    quota.nodes = (1..=9).map(|node| format!("worker-{node}")).collect();
    quota.detail = "toomanyrequests: You have reached your unauthenticated pull rate limit. \
                    https://www.docker.com/increase-rate-limit"
        .to_owned();
    quota.advice = "log in to docker.io and deploy with --with-registry-auth, or pull from a mirror".to_owned();
    let mut crash = storm(at, "billing_worker", Cause::AppExit, 96, 3.2, 30);
    crash.pinned = true;
    let mut held = storm(at, "search_indexer", Cause::ImageMissing, 640, 0.0, 180);
    held.state = StormState::Quarantined;
    held.detail = "No such image: registry.example:5000/search_indexer:7".to_owned();
    let mut oom = storm(at, "reports_nightly-aggregation-of-everything", Cause::Oom, 23, 0.4, 61);
    oom.detail = "task: non-zero exit (137): OOMKilled".to_owned();
    vec![quota, held, shop, crash, oom]
}

fn quarantines(at: Timestamp) -> Vec<QuarantineStatus> {
    vec![
        QuarantineStatus {
            service: "search_indexer".to_owned(),
            phase: "held".to_owned(),
            response: "backoff".to_owned(),
            storm: "a1b2c3d4e5f60718".to_owned(),
            cause: Cause::ImageMissing,
            since: at.minus(mins(22)),
            until: Some(at.plus(mins(18))),
            tries: 2,
            next: "one replica is tried; if it stays up for 5 min the others come back".to_owned(),
        },
        QuarantineStatus {
            service: "edge_cache".to_owned(),
            phase: "returning".to_owned(),
            response: "pause".to_owned(),
            storm: String::new(),
            cause: Cause::Port,
            since: at.minus(mins(190)),
            until: None,
            tries: 0,
            next: "stays held until a person runs: squall release edge_cache".to_owned(),
        },
    ]
}

fn findings(at: Timestamp) -> Vec<Finding> {
    vec![Finding {
        kind: FindingKind::Pending,
        subject: Subject {
            kind: SubjectKind::SwarmService,
            name: "gpu_render".to_owned(),
            id: "idgpu".to_owned(),
            stack: Some("gpu".to_owned()),
        },
        cause: Cause::Unschedulable,
        since: at.minus(mins(17)),
        tasks: 2,
        detail: "no suitable node (scheduling constraints not satisfied on 4 nodes)".to_owned(),
        nodes: vec!["worker-2".to_owned()],
    }]
}

fn gaps(at: Timestamp) -> Vec<Gap> {
    let gap = |from, to, why: &str| Gap {
        from: at.minus(mins(from)),
        to: at.minus(mins(to)),
        why: why.to_owned(),
        open: false,
    };
    vec![
        gap(310, 282, "the event stream ended and came back: unexpected EOF"),
        gap(1100, 1085, "squall was not running"),
    ]
}

fn registries(at: Timestamp) -> Vec<RegistryStatus> {
    vec![
        RegistryStatus {
            registry: "docker.io".to_owned(),
            storms: 2,
            attempts_per_min: 66.3,
            spenders: vec![("media_transcode".to_owned(), 61.0), ("shop_api".to_owned(), 5.3)],
            budget: Some(BudgetStanding {
                registry: "docker.io".to_owned(),
                limit: Some(200),
                remaining: Some(31),
                own: 111,
                others: Some(58),
                requests_per_min: 198.9,
                requests_per_min_max: Some(2000),
                without_image: Some((6, vec!["shop_search".to_owned()])),
                exhaustion: Some(Exhaustion::Between { from: at.plus(mins(6)), to: None }),
                ..BudgetStanding::default()
            }),
        },
        RegistryStatus {
            registry: "registry.example:5000".to_owned(),
            storms: 1,
            attempts_per_min: 0.0,
            spenders: vec![("search_indexer".to_owned(), 0.0)],
            budget: None,
        },
    ]
}

fn receivers(at: Timestamp) -> Vec<ReceiverStatus> {
    let outcomes = |delivered, retried, dead| {
        let mut outcomes: BTreeMap<_, _> = DeliveryOutcome::ALL.iter().map(|outcome| (*outcome, 0)).collect();
        outcomes.insert(DeliveryOutcome::Delivered, delivered);
        outcomes.insert(DeliveryOutcome::Retried, retried);
        outcomes.insert(DeliveryOutcome::Dead, dead);
        outcomes
    };
    vec![
        ReceiverStatus {
            name: "ops-chat".to_owned(),
            kind: "slack".to_owned(),
            waiting: 0,
            oldest: None,
            delivered_at: Some(at.minus(mins(3))),
            trouble: String::new(),
            outcomes: outcomes(58, 2, 0),
        },
        ReceiverStatus {
            name: "pager".to_owned(),
            kind: "webhook".to_owned(),
            waiting: 4,
            oldest: Some(at.minus(mins(12))),
            delivered_at: None,
            trouble: "https://pager.example/v2: connection refused; tried again in 40 s".to_owned(),
            outcomes: outcomes(0, 9, 1),
        },
    ]
}

fn history(at: Timestamp) -> Vec<HistoryBucket> {
    let first = Timestamp::from_secs(at.as_nanos() / 1_000_000_000 / 900 * 900).minus(mins(95 * 15));
    (0..96_u64)
        .map(|bucket| {
            let wave = 6 + (bucket * 7 + bucket * bucket / 5) % 9;
            let failed = match bucket {
                30..=37 => 40 + (bucket - 30) * (38 - bucket) * 9,
                88..=95 => 60 + (bucket - 87) * 95 - bucket % 3 * 40,
                _ if bucket % 11 == 0 => 3,
                _ => 0,
            };
            let has_gap = matches!(bucket, 22 | 23 | 75 | 76);
            let quiet = u64::from(!matches!(bucket, 22 | 75 | 76));
            HistoryBucket {
                at: first.plus(mins(bucket * 15)),
                attempts: (wave + failed + failed / 8) * quiet,
                failed: failed * quiet,
                has_gap,
            }
        })
        .collect()
}

fn checks() -> Vec<Check> {
    let check = |name: &str, detail: &str, age_secs| Check {
        name: name.to_owned(),
        is_ok: true,
        detail: detail.to_owned(),
        age_secs,
    };
    let outbox = Check { is_ok: false, ..check("outbox", "pager has not taken an alert for 12 min", Some(720.0)) };
    vec![
        check("events", "the stream of 3 managers is open", Some(0.8)),
        check("sweep", "46 services, 212 tasks in 84 ms", Some(6.1)),
        check("log", "dockerd's journal is read", Some(2.0)),
        check("journal", "/var/lib/squall/journal.db, 14 MB", None),
        outbox,
    ]
}

fn totals() -> Totals {
    Totals {
        storms: Cause::ALL.iter().map(|cause| (*cause, u64::from(*cause == Cause::Mount))).collect(),
        attempts: 9_214,
        failed: 4_480,
        permitted: Action::ALL.iter().map(|action| (*action, 3)).collect(),
        refused: Refusal::ALL.iter().map(|reason| (*reason, 0)).collect(),
        settled: Outcome::ALL.iter().map(|outcome| (*outcome, 2)).collect(),
        let_go: 1,
        gaps: 2,
        observations: 182_004,
        skipped: 3,
        forgotten: 0,
        sweeps: 30,
        sweep_secs_sum: 3.5,
        sweep_secs: vec![(0.05, 4), (0.1, 20), (0.5, 29), (1.0, 30)],
        news_dropped: 0,
        event_lag_secs: Some(0.25),
    }
}
