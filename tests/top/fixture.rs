//! Statuses to look at: an evening as people have them, a calm one, a large one, and a hostile one.

use std::time::Duration;

use squall::model::{
    BudgetStanding, Cause, CauseCounts, Check, DeliveryOutcome, Exhaustion, Finding, FindingKind, Gap, Health,
    HistoryBucket, QuarantineStatus, ReceiverStatus, RegistryStatus, STATUS_SCHEMA, Status, Storm, StormState, Subject,
    SubjectKind, Timestamp,
};

pub const NOW: Timestamp = Timestamp::from_secs(1_795_269_731);

pub fn ago(secs: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(secs))
}

pub fn storm(name: &str, cause: Cause, failed: u32, per_min: f64, secs: u64) -> Storm {
    let mut causes = CauseCounts::default();
    (0..failed).for_each(|_| causes.add(cause));
    Storm {
        id: format!("{:016x}", name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))),
        subject: Subject {
            kind: SubjectKind::SwarmService,
            name: name.to_owned(),
            id: format!("id of {name}"),
            stack: name.split_once('_').map(|(stack, _)| stack.to_owned()),
        },
        state: StormState::Ongoing,
        cause,
        causes,
        detail: "task: non-zero exit (1)".to_owned(),
        onset: ago(secs),
        exact: true,
        updated: None,
        detected: ago(secs.saturating_sub(9)),
        ended: None,
        detected_after_failures: 5,
        attempts: (failed + failed / 9).into(),
        failed: failed.into(),
        attempts_per_min: per_min,
        image: "shop/api:7".to_owned(),
        registry: "docker.io".to_owned(),
        pinned: false,
        pulls: true,
        nodes: vec!["node-1".to_owned()],
        slots: Vec::new(),
        replicas: None,
        spend: None,
        advice: "read the service's log: docker service logs".to_owned(),
    }
}

fn check(name: &str, is_ok: bool, detail: &str, age_secs: Option<f64>) -> Check {
    Check { name: name.to_owned(), is_ok, detail: detail.to_owned(), age_secs }
}

/// A manager that leads, acts, and has found nothing.
pub fn calm() -> Status {
    Status {
        schema: STATUS_SCHEMA.to_owned(),
        at: NOW,
        version: "0.1.0".to_owned(),
        started: ago(90_000),
        node: "swarm-mgr-1".to_owned(),
        engine: "29.1.3".to_owned(),
        role: "manager".to_owned(),
        leads: true,
        acts: true,
        calm: 118,
        health: Health {
            is_alive: true,
            is_ready: true,
            checks: vec![
                check("events", true, "the stream is open", Some(2.0)),
                check("sweep", true, "41 services in 0.2 s", Some(11.0)),
                check("journal", true, "12 MB", None),
            ],
        },
        ..Status::default()
    }
}

/// Several things at once.
pub fn evening() -> Status {
    let mut mount = storm("shop_api", Cause::Mount, 212, 5.3, 2400);
    mount.detail =
        r#"invalid mount config for type "bind": bind source path does not exist: /data/uploads/customers"#.to_owned();
    mount.advice = "make the directory on node-2 and node-3, or constrain the service to nodes that have it".to_owned();
    mount.nodes = ["node-1", "node-2", "node-3"].map(str::to_owned).into();
    (0..14).for_each(|_| mount.causes.add(Cause::AppExit));
    let mut quota = storm("billing_invoice-renderer", Cause::RegistryQuota, 1480, 35.2, 5100);
    quota.detail = "toomanyrequests: You have reached your unauthenticated pull rate limit.".to_owned();
    quota.advice = "log in to docker.io on every node, or pin the image by its digest".to_owned();
    quota.nodes = vec!["node-2".to_owned(), "node-4".to_owned()];
    let mut pinned = storm("metrics_collector", Cause::Oom, 31, 1.0, 1900);
    (pinned.pinned, pinned.pulls, pinned.registry) = (true, false, "ghcr.io".to_owned());
    pinned.detail = "container was killed for memory".to_owned();
    let mut held = storm("mail_sender", Cause::RegistryAuth, 88, 0.0, 4000);
    (held.state, held.registry) = (StormState::Quarantined, "registry.example.com:5000".to_owned());
    held.detail = "no basic auth credentials".to_owned();
    let health = storm("web_frontend", Cause::HealthCheck, 17, 2.1, 420);
    let missing = storm("tools_reindex", Cause::ImageMissing, 42, 12.4, 200);
    let quarantine = QuarantineStatus {
        service: "mail_sender".to_owned(),
        phase: "probation".to_owned(),
        response: "backoff".to_owned(),
        storm: held.id.clone(),
        cause: Cause::RegistryAuth,
        since: ago(3600),
        until: Some(NOW.plus(Duration::from_secs(600))),
        tries: 2,
        next: "1 of 4 replicas is watched".to_owned(),
    };
    let registry = |name: &str, per_min, remaining: Option<i64>| RegistryStatus {
        registry: name.to_owned(),
        storms: 3,
        attempts_per_min: per_min,
        spenders: vec![("billing_invoice-renderer".to_owned(), 35.2), ("tools_reindex".to_owned(), 12.4)],
        budget: remaining.map(|remaining| BudgetStanding {
            registry: name.to_owned(),
            limit: Some(200),
            remaining: Some(remaining),
            exhaustion: Some(Exhaustion::Between { from: NOW.plus(Duration::from_secs(1300)), to: None }),
            ..BudgetStanding::default()
        }),
    };
    let receiver = |name: &str, kind: &str, trouble: &str| ReceiverStatus {
        name: name.to_owned(),
        kind: kind.to_owned(),
        waiting: if trouble.is_empty() { 0 } else { 3 },
        oldest: (!trouble.is_empty()).then(|| ago(95)),
        delivered_at: Some(ago(200)),
        trouble: trouble.to_owned(),
        outcomes: [(DeliveryOutcome::Delivered, 12), (DeliveryOutcome::Retried, 1)].into(),
    };
    let bucket = |at: u64| HistoryBucket {
        at: ago((96 - at) * 900),
        attempts: at * 3,
        failed: if at > 60 { (at - 60) * (at % 5 + 1) } else { at % 7 / 6 },
        has_gap: at == 40,
    };
    Status {
        storms: vec![mount, quota, pinned, held, health, missing],
        quarantines: vec![quarantine],
        findings: vec![Finding {
            kind: FindingKind::Pending,
            subject: storm("gpu_trainer", Cause::Unschedulable, 0, 0.0, 0).subject,
            cause: Cause::Unschedulable,
            since: ago(900),
            tasks: 4,
            detail: "no suitable node (scheduling constraints not satisfied on 5 nodes)".to_owned(),
            nodes: Vec::new(),
        }],
        gaps: vec![Gap { from: ago(7000), to: ago(6900), why: "Docker was restarted".to_owned(), open: false }],
        registries: vec![registry("docker.io", 55.0, Some(31)), registry("registry.example.com:5000", 0.4, None)],
        receivers: vec![receiver("ops", "slack", ""), receiver("pager", "webhook", "connection refused")],
        history: (0..96).map(bucket).collect(),
        ..calm()
    }
}

/// As many storms as a status has, and more.
pub fn many() -> Status {
    let storms = (0..500_u16).map(|n| {
        let cause = Cause::ALL[usize::from(n) % Cause::ALL.len()];
        storm(&format!("stack{}_service-{n:03}", n % 7), cause, u32::from(n), f64::from(n) / 10.0, u64::from(n) * 60)
    });
    Status { storms: storms.collect(), storms_left_out: 1234, ..calm() }
}

/// Names that want to rewrite the terminal, turn it round, or fill it.
pub fn hostile() -> Status {
    let names = [
        "\x1b[2J\x1b[31mred\x07".to_owned(),
        "سلام-خدمة-الدفع".to_owned(),
        "\u{202e}gnitirwer\u{2066}".to_owned(),
        "漢字サービス名前がとても長いので切られる".to_owned(),
        "x".repeat(5000),
        format!("z{}", "\u{301}".repeat(3000)),
        "👩‍👩‍👧‍👦 family\u{200b}\u{feff}".to_owned(),
        "a\nb\tc\r\u{2028}d".to_owned(),
        String::new(),
    ];
    let mut status = calm();
    status.node = "\x1b]0;owned\x07node".to_owned();
    status.storms = names.iter().map(|name| storm(name, Cause::AppExit, 9, 3.0, 60)).collect();
    for (storm, name) in status.storms.iter_mut().zip(&names) {
        storm.detail = format!("\x1b[H{name} {name}");
        storm.nodes = vec![name.clone(); 300];
        storm.advice.clone_from(name);
        storm.registry.clone_from(name);
    }
    status.gaps = vec![Gap { from: ago(9), to: NOW, why: names[0].clone(), open: false }];
    status.receivers = vec![ReceiverStatus { name: names[3].clone(), trouble: names[4].clone(), ..Default::default() }];
    status
}
