//! Findings about registries: one that fails unrelated services, and a budget that this Swarm has spent itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Detector;
use crate::detect::arena::NodeId;
use crate::detect::incident::{Fault, Refused, SERVICES_MIN};
use crate::detect::subject::cut;
use crate::model::{Cause, Finding, FindingKind, RegistryReport, StormState, Subject, SubjectKind, Timestamp};

/// How many services a finding names.
const NAMED_MAX: usize = 5;
/// How many nodes.
const NODES_MAX: usize = 100;
/// Requests in the minute before a refusal by which this Swarm has spent a budget whose size is not known: a limit that
/// is lower than one request a second is none that storms are needed for.
const OWN_REQUESTS_MIN: u64 = 60;

impl Detector {
    /// Whether registries fail, or have had enough, at `now`.
    pub(in crate::detect) fn registry_findings(&self, now: Timestamp) -> Vec<Finding> {
        let found = self.books.incidents.faults(now).filter_map(|(registry, fault)| self.finding(registry, &fault));
        found.collect()
    }

    /// What each registry was asked by storms and others, those that were asked most first.
    pub fn registries(&self) -> Vec<RegistryReport> {
        let mut reports: Vec<RegistryReport> = self
            .books
            .meter
            .totals()
            .filter(|(registry, ..)| !registry.is_empty())
            .map(|total| self.report_of(total))
            .collect();
        reports.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.registry.cmp(&b.registry)));
        reports
    }

    /// Per registry the services that would not come back on a node that is known to lack their image, while the
    /// registry refuses it: how many, and the names of the first `max`. A node that takes no tasks needs none.
    pub fn without_image(&self, max: usize) -> BTreeMap<&str, (u64, Vec<String>)> {
        let is_active = |node: NodeId| self.nodes[node].is_active;
        let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for state in self.subjects.values() {
            let is_used = !(state.open.is_empty() && state.settled.is_empty());
            let is_service = state.subject.kind == SubjectKind::SwarmService;
            if is_service && is_used && self.books.account.is_lacking(state.image_key, is_active) {
                lacking.entry(state.registry()).or_default().push(&state.subject.name);
            }
        }
        let first = |mut names: Vec<&str>| {
            names.sort_unstable();
            (names.len() as u64, names.into_iter().take(max).map(str::to_owned).collect())
        };
        lacking.into_iter().map(|(registry, names)| (registry, first(names))).collect()
    }

    fn report_of(
        &self,
        (registry, pulls, requests, (peak, peak_at)): (&str, u64, u64, (u64, Timestamp)),
    ) -> RegistryReport {
        let of_registry = || self.ongoing().filter(|storm| storm.registry == registry && storm.pulls);
        let refused = self.books.incidents.refused(registry);
        let storms = self.storms().into_iter().filter(|storm| storm.registry == registry && storm.pulls);
        let detected = storms.map(|storm| storm.detected).min();
        RegistryReport {
            registry: registry.to_owned(),
            storms: of_registry().filter(|storm| storm.state == StormState::Ongoing).count() as u64,
            pulls,
            requests,
            requests_per_min_peak: peak,
            peak_at,
            detected,
            refused: refused.map(|refused| refused.at),
            refused_as: refused.map(|refused| refused.cause),
            asked_before_refusal: refused.map(|refused| refused.asked.1),
            is_own: refused.is_some() && self.has_spent(registry),
        }
    }

    fn finding(&self, registry: &str, fault: &Fault) -> Option<Finding> {
        let subjects: Vec<&Subject> =
            fault.subjects.iter().filter_map(|index| Some(&self.subjects.get(*index)?.subject)).collect();
        let is_own = fault.cause.is_too_many() && self.has_spent(registry);
        let are_many = subjects.len() >= SERVICES_MIN && unrelated(subjects.iter().copied()) > 1;
        // What one node cannot reach may be the node's own fault, where there are others.
        let is_wide = fault.nodes.len() > 1 || self.nodes.len() <= 2;
        let kind = match (is_own, are_many && is_wide) {
            (true, _) => FindingKind::BudgetSpent,
            (false, true) => FindingKind::RegistryIncident,
            (false, false) => return None,
        };
        let mut names: Vec<&str> = subjects.iter().map(|subject| &*subject.name).collect();
        names.sort_unstable();
        let mut nodes: Vec<String> = fault.nodes.iter().take(NODES_MAX).map(|node| self.node_name(*node)).collect();
        nodes.sort_unstable();
        Some(Finding {
            kind,
            subject: Subject::registry(registry),
            cause: fault.cause,
            since: self.books.incidents.refused(registry).filter(|_| is_own).map_or(fault.since, |refused| refused.at),
            tasks: fault.tasks,
            detail: self.evidence(registry, fault, &names, kind),
            nodes,
        })
    }

    /// Whether what this Swarm asked is what the registry has had enough of.
    fn has_spent(&self, registry: &str) -> bool {
        let Some(Refused { asked: (pulls, requests), cause, .. }) = self.books.incidents.refused(registry) else {
            return false;
        };
        let terms = self.settings.registries.terms(registry);
        let is_half = |asked: u64, limit: u64| asked.saturating_mul(2) >= limit;
        match (cause, terms.pulls, terms.requests_per_min) {
            (Cause::RegistryQuota, Some((limit, _)), _) => is_half(pulls, limit),
            (_, _, Some(limit)) => is_half(requests, limit),
            (_, _, None) => requests >= OWN_REQUESTS_MIN,
        }
    }

    /// Pulls of the window and requests of the last minute that a registry was asked up to now.
    pub(super) fn asked_of(&self, registry: &str, now: Timestamp) -> (u64, u64) {
        let window = self.settings.registries.terms(registry).pulls.map(|(_, window)| window);
        self.books.meter.asked(registry, window, now)
    }

    fn evidence(&self, registry: &str, fault: &Fault, names: &[&str], kind: FindingKind) -> String {
        let mut text = String::new();
        let services = if names.len() == 1 { "1 service".to_owned() } else { format!("{} services", names.len()) };
        let _ = write!(text, "{services} cannot pull: {}", listed(names));
        if kind == FindingKind::BudgetSpent {
            let requests = self.books.incidents.refused(registry).map_or(0, |refused| refused.asked.1);
            let _ = write!(text, "; this Swarm asked {requests} times in the minute before it was refused");
        }
        let said = fault.subjects.iter().filter_map(|index| self.subjects.get(*index)?.failing.as_ref());
        if let Some(said) = said.map(|failing| failing.detail(fault.cause)).find(|said| !said.is_empty()) {
            let _ = write!(text, "; {said}");
        }
        text.truncate(cut(&text).len());
        text
    }
}

/// The first of the names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let first = names[..names.len().min(NAMED_MAX)].join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// How many of these have nothing to do with one another: a service of no stack is related to no other.
fn unrelated<'a>(subjects: impl Iterator<Item = &'a Subject>) -> usize {
    subjects.map(|subject| subject.stack.as_deref().unwrap_or(&subject.id)).collect::<BTreeSet<_>>().len()
}

/// Services whose pulls hang at one registry are one finding about the registry; `None` where they have something else
/// in common.
pub(in crate::detect) fn hanging_incident(registry: &str, hanging: &[&Finding]) -> Option<Finding> {
    if hanging.len() < SERVICES_MIN || unrelated(hanging.iter().map(|finding| &finding.subject)) < 2 {
        return None;
    }
    let mut names: Vec<&str> = hanging.iter().map(|finding| &*finding.subject.name).collect();
    names.sort_unstable();
    let nodes: BTreeSet<String> = hanging.iter().flat_map(|finding| finding.nodes.iter().cloned()).collect();
    Some(Finding {
        kind: FindingKind::RegistryIncident,
        subject: Subject::registry(registry),
        cause: Cause::RegistryUnreachable,
        since: hanging.iter().map(|finding| finding.since).min()?,
        tasks: hanging.iter().map(|finding| finding.tasks).sum(),
        detail: format!("the pulls of {} services hang: {}", hanging.len(), listed(&names)),
        nodes: nodes.into_iter().take(NODES_MAX).collect(),
    })
}
