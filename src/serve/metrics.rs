//! The metrics, made of one [`Status`]: nothing is counted here.
//!
//! Every member of a closed set is there, also at zero. Labels are closed sets and, up to a cap, the names of services,
//! registries and receivers; what is above a cap is counted. Label values are cut, and made one-lined by the encoder.

mod exposition;

use std::collections::BTreeMap;

use crate::model::{Action, Cause, DeliveryOutcome, Outcome, Refusal, Status, StormState, Timestamp};

use exposition::{Family, Kind, Sample, Value, encode, text};

/// How many storming services have a series of their own; those above it are in `squall_storms_unlabelled`.
pub const METRICS_STORMS_MAX: usize = 100;
/// How many registries have.
pub const METRICS_REGISTRIES_MAX: usize = 50;
/// How many receivers have; a configuration has a handful.
const RECEIVERS_MAX: usize = 100;
/// How long the value of a label is, in characters.
const LABEL_CHARS_MAX: usize = 200;
/// The phases of a quarantine, as [`crate::model::QuarantineStatus::phase`] spells them.
const PHASES: [&str; 4] = ["held", "probation", "returning", "let-go"];

/// The metrics as the text format 0.0.4 writes them.
pub fn metrics(status: &Status) -> String {
    text(&encode(families(status)))
}

/// The metrics as OpenMetrics 1.0 writes them.
pub fn openmetrics(status: &Status) -> String {
    encode(families(status))
}

fn families(status: &Status) -> Vec<Family> {
    let mut families = daemon(status);
    families.extend(storms(status));
    families.extend(responses(status));
    families.extend(alerts(status));
    families.extend(registries(status));
    families
}

fn daemon(status: &Status) -> Vec<Family> {
    let totals = &status.totals;
    let mut build =
        Family::new("squall_build_info", Kind::Gauge, "A constant 1, with squall's version and the engine's");
    build.add(&[("version", &status.version), ("engine", &status.engine)], Value::Count(1));
    let lag = Family::new("squall_event_lag_seconds", Kind::Gauge, "How long after its time the last event came");
    vec![
        build,
        gauge("squall_start_time_seconds", "When the daemon began to watch, since 1970", secs(status.started)),
        gauge("squall_status_time_seconds", "When these figures were made, since 1970", secs(status.at)),
        flag("squall_alive", "1 while the daemon's loop turns over", status.health.is_alive),
        flag("squall_ready", "1 while it sees the Swarm and alerts get out", status.health.is_ready),
        // A worker answers for its own containers only.
        flag(
            "squall_leader",
            "1 on the node that leads the Swarm: the one that acts and alerts",
            status.leads && status.role != "worker",
        ),
        flag("squall_acting", "1 where squall acts, 0 where it only says what it would have done", status.acts),
        checks(status),
        counter("squall_observations", "Observations that were taken in", totals.observations),
        counter("squall_skipped", "Lines and objects that could not be read", totals.skipped),
        counter("squall_gaps", "Spans that nobody watched", totals.gaps),
        counter("squall_forgotten_subjects", "Subjects that were forgotten for want of room", totals.forgotten),
        counter("squall_news_dropped", "News for alerts that were dropped for want of room", totals.news_dropped),
        sweeps(status),
        lag.with(totals.event_lag_secs.map(Value::Number)),
    ]
}

fn checks(status: &Status) -> Family {
    let mut family = Family::new("squall_check_ok", Kind::Gauge, "1 where this condition of health is well");
    let mut oks: BTreeMap<String, bool> = BTreeMap::new();
    for check in status.health.checks.iter().take(RECEIVERS_MAX) {
        *oks.entry(label(&check.name)).or_insert(true) &= check.is_ok;
    }
    for (name, is_ok) in oks {
        family.add(&[("check", &name)], Value::Count(is_ok.into()));
    }
    family
}

fn sweeps(status: &Status) -> Family {
    let totals = &status.totals;
    let mut family =
        Family::new("squall_sweep_duration_seconds", Kind::Histogram, "How long a look at all tasks takes");
    let buckets = totals.sweep_secs.clone();
    family.samples.push(Sample {
        labels: Vec::new(),
        value: Value::Histogram { sum: totals.sweep_secs_sum, count: totals.sweeps, buckets },
    });
    family
}

fn storms(status: &Status) -> Vec<Family> {
    let totals = &status.totals;
    let mut now: BTreeMap<Cause, u64> = BTreeMap::new();
    // Two subjects may have one name, of different kinds: a series must not be there twice.
    let mut services: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    let mut unlabelled = status.storms_left_out;
    for storm in &status.storms {
        *now.entry(storm.cause).or_default() += 1;
        let name = label(&storm.subject.name);
        if services.len() == METRICS_STORMS_MAX && !services.contains_key(&name) {
            unlabelled += 1;
            continue;
        }
        let figures = services.entry(name).or_default();
        // No try is made of what is held.
        figures.0 += if storm.state == StormState::Quarantined { 0.0 } else { storm.attempts_per_min };
        figures.1 += storm.failed;
    }
    let mut pace =
        Family::new("squall_storm_attempts_per_minute", Kind::Gauge, "Failed tries a minute of a storming service");
    let mut failed = Family::new("squall_storm_failed_attempts", Kind::Gauge, "Failed tries of a storm so far");
    for (service, figures) in services {
        pace.add(&[("service", &service)], Value::Number(figures.0));
        failed.add(&[("service", &service)], Value::Count(figures.1));
    }
    let by_cause = |counts: &BTreeMap<Cause, u64>| counted("cause", Cause::ALL, |cause| cause.as_str(), counts);
    vec![
        Family::new("squall_storms", Kind::Gauge, "Storms that go on or are held, by cause").of(by_cause(&now)),
        gauge("squall_storms_unlabelled", "Storms beyond the cap of series by service", count(unlabelled)),
        pace,
        failed,
        gauge("squall_calm_subjects", "Subjects that were judged and found calm", count(status.calm)),
        gauge(
            "squall_findings",
            "What waits and ought not to, and registries in trouble",
            count(status.findings.len() as u64),
        ),
        counter("squall_attempts", "Attempts that ended", totals.attempts),
        counter("squall_failed_attempts", "Attempts that failed", totals.failed),
        Family::new(
            "squall_storms_detected",
            Kind::Counter,
            "Storms that were detected, by the cause that they had then",
        )
        .of(by_cause(&totals.storms)),
    ]
}

fn responses(status: &Status) -> Vec<Family> {
    let totals = &status.totals;
    let mut held = Family::new("squall_quarantined", Kind::Gauge, "Services that squall holds or has let go, by phase");
    let in_phase = |phase: &str| status.quarantines.iter().filter(|held| held.phase == phase).count() as u64;
    for phase in PHASES {
        held.add(&[("phase", phase)], Value::Count(in_phase(phase)));
    }
    vec![
        held,
        Family::new("squall_actions_permitted", Kind::Counter, "Permits given, by action").of(counted(
            "action",
            Action::ALL,
            |action| action.as_str(),
            &totals.permitted,
        )),
        Family::new("squall_refusals", Kind::Counter, "Proposals refused, by reason").of(counted(
            "reason",
            Refusal::ALL,
            |reason| reason.as_str(),
            &totals.refused,
        )),
        Family::new("squall_actions_settled", Kind::Counter, "Permits that were used, by how that ended").of(counted(
            "outcome",
            Outcome::ALL,
            |outcome| outcome.as_str(),
            &totals.settled,
        )),
        counter("squall_let_go", "How often somebody else changed what was held", totals.let_go),
    ]
}

fn alerts(status: &Status) -> Vec<Family> {
    let mut sent = Family::new("squall_alerts", Kind::Counter, "Deliveries of alerts, by receiver and how they ended");
    let mut waiting = Family::new("squall_alerts_waiting", Kind::Gauge, "Alerts that wait for a receiver");
    let mut oldest = Family::new(
        "squall_alert_oldest_waiting_seconds",
        Kind::Gauge,
        "How long the oldest alert waits for a receiver; 0 where none does",
    );
    let receivers: BTreeMap<String, _> =
        status.receivers.iter().map(|receiver| (label(&receiver.name), receiver)).take(RECEIVERS_MAX).collect();
    for (name, receiver) in receivers {
        for outcome in DeliveryOutcome::ALL {
            let times = receiver.outcomes.get(outcome).copied().unwrap_or(0);
            sent.add(&[("receiver", &name), ("outcome", outcome.as_str())], Value::Count(times));
        }
        waiting.add(&[("receiver", &name)], Value::Count(receiver.waiting));
        let age = receiver.oldest.map_or(0.0, |since| status.at.since(since).as_secs_f64());
        oldest.add(&[("receiver", &name)], Value::Number(age));
    }
    vec![sent, waiting, oldest]
}

fn registries(status: &Status) -> Vec<Family> {
    let mut storms = Family::new("squall_registry_storms", Kind::Gauge, "Storms that ask a registry");
    let mut pace =
        Family::new("squall_registry_attempts_per_minute", Kind::Gauge, "Tries a minute of storms that ask a registry");
    let mut limit =
        Family::new("squall_registry_pull_limit", Kind::Gauge, "Pulls that a registry allows in its window, if known");
    let mut left =
        Family::new("squall_registry_pull_remaining", Kind::Gauge, "Pulls that are left in that window, if known");
    let mut own =
        Family::new("squall_registry_pulls_own", Kind::Gauge, "Pulls of the last window that squall accounts for");
    let mut others = Family::new(
        "squall_registry_pulls_others",
        Kind::Gauge,
        "Pulls of the window that squall cannot explain: of others behind the same address, if known",
    );
    let mut requests = Family::new(
        "squall_registry_requests_per_minute",
        Kind::Gauge,
        "Requests of any kind a minute, over the last ten minutes",
    );
    let mut requests_max = Family::new(
        "squall_registry_requests_per_minute_limit",
        Kind::Gauge,
        "Requests of any kind that a registry lets pass in a minute, if known",
    );
    let mut gone = Family::new(
        "squall_registry_exhausted_timestamp_seconds",
        Kind::Gauge,
        "When the pulls run out at the earliest, since 1970, if that is known",
    );
    let named: BTreeMap<String, _> = status
        .registries
        .iter()
        .take(METRICS_REGISTRIES_MAX)
        .map(|registry| (label(&registry.registry), registry))
        .collect();
    let unlabelled = status.registries.len() - named.len();
    for (name, registry) in named {
        let labels = [("registry", &*name)];
        storms.add(&labels, Value::Count(registry.storms));
        pace.add(&labels, Value::Number(registry.attempts_per_min));
        if let Some(allowed) = registry.limit() {
            limit.add(&labels, Value::Count(allowed));
        }
        if let Some(remaining) = registry.remaining() {
            left.add(&labels, Value::Signed(remaining));
        }
        let Some(budget) = &registry.budget else { continue };
        own.add(&labels, Value::Count(budget.own));
        requests.add(&labels, Value::Number(budget.requests_per_min));
        budget.others.into_iter().for_each(|count| others.add(&labels, Value::Count(count)));
        budget.requests_per_min_max.into_iter().for_each(|count| requests_max.add(&labels, Value::Count(count)));
        registry.exhausted().and_then(secs).into_iter().for_each(|at| gone.add(&labels, at));
    }
    let beyond = gauge("squall_registries_unlabelled", "Registries beyond the cap of series", count(unlabelled as u64));
    vec![storms, pace, limit, left, own, others, requests, requests_max, gone, beyond]
}

fn counted<T: Copy + Ord>(
    label: &'static str,
    all: &[T],
    word: fn(T) -> &'static str,
    counts: &BTreeMap<T, u64>,
) -> Vec<Sample> {
    all.iter()
        .map(|member| Sample {
            labels: vec![(label, word(*member).to_owned())],
            value: Value::Count(counts.get(member).copied().unwrap_or(0)),
        })
        .collect()
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
    Family::new(name, Kind::Counter, help).with(count(value))
}

fn gauge(name: &'static str, help: &'static str, value: Option<Value>) -> Family {
    Family::new(name, Kind::Gauge, help).with(value)
}

fn flag(name: &'static str, help: &'static str, is_so: bool) -> Family {
    gauge(name, help, count(is_so.into()))
}

fn count(value: u64) -> Option<Value> {
    Some(Value::Count(value))
}

#[expect(clippy::cast_precision_loss, reason = "a double holds today's seconds to the microsecond")]
fn secs(at: Timestamp) -> Option<Value> {
    Some(Value::Number(at.as_nanos() as f64 / 1e9))
}

fn label(text: &str) -> String {
    text.chars().take(LABEL_CHARS_MAX).collect()
}
