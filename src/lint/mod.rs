//! What a stack would cost if it looped, before it is deployed. Pure: files and environment come in by
//! [`Surroundings`].
//!
//! Compose files become a tree that knows where each node is written, services with all files taken together, the cost
//! of their loops, and findings by a closed set of rules. What `docker stack deploy` would refuse is refused with the
//! place, and then nothing is judged; what it would take and Swarm would make a storm of is a finding.
//!
//! The environment, commands, secrets and configs of a service are checked for their form and not kept.
//!
//! It asks no registry and no Docker: whether a tag will be resolved, whether an image is present, how many nodes there
//! are is assumed, at worst, and the assumption is said. It does not check ports, networks, volumes and secrets against
//! each other: docker does that.

mod cost;
mod judge;
mod place;
mod reader;
mod report;
mod rule;
mod sarif;
mod scalar;
mod service;
mod shape;
mod stack;
mod variable;
mod yaml;

pub use place::{LintError, Remark};
pub use reader::Surroundings;
pub use report::{Assumption, LINT_SCHEMA, LintReport, ServiceCost, Totals};
pub use rule::{Finding, Level, Rule};
pub use sarif::sarif;
pub use stack::FILES_MAX;
pub use yaml::FILE_BYTES_MAX;

use cost::Loop;
use judge::Judged;
use place::Place;
use stack::{Service, Stack};

use crate::budget::{HUB, HUB_PULLS};
use crate::model::ImageRef;

/// The most nodes and replicas that figures are made for: beyond it they are no figures.
const SLOTS_MAX: u64 = 1_000_000;

/// What the files do not say.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many nodes a global service runs on, 1 to 1,000,000.
    pub nodes: u64,
    /// How many pulls Docker Hub allows in 6 h.
    pub budget: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { nodes: 1, budget: HUB_PULLS }
    }
}

/// A report, and what to say besides it.
#[derive(Clone, Debug, PartialEq)]
pub struct Linted {
    /// The report.
    pub report: LintReport,
    /// Variables that are not set.
    pub warnings: Vec<Remark>,
}

/// Judges the stack that files make together, in the order in which `docker stack deploy -c` would take them.
///
/// # Errors
/// At the first file that cannot be read, or the first mistake that would keep the stack from being deployed.
pub fn lint(files: &[String], settings: Settings, world: &dyn Surroundings) -> Result<Linted, LintError> {
    let mut stack = stack::read(files, world)?;
    let mut findings = std::mem::take(&mut stack.noticed.findings);
    let warnings = std::mem::take(&mut stack.noticed.warnings);
    let judged: Vec<Judged<'_>> =
        stack.services.iter().map(|service| understand(&stack, service, settings)).collect::<Result<_, _>>()?;
    for judged in &judged {
        findings.extend(judged.findings(world));
    }
    let totals = totals(&judged, settings);
    if let Some(costliest) = judged.iter().filter(|judged| judged.image.registry == HUB).max_by(|a, b| {
        let per_min = |judged: &Judged<'_>| judged.looped.map_or(0.0, |looped| looped.requests_per_min());
        // Of several the first by name.
        per_min(a).total_cmp(&per_min(b)).then(b.service.name.cmp(&a.service.name))
    }) {
        findings.extend(judge::abuse(totals.hub_requests_per_min, costliest));
    }
    findings.sort_by(|a, b| {
        let place = |finding: &Finding| (finding.file_index, finding.line, finding.column);
        (place(a), a.rule, &a.service).cmp(&(place(b), b.rule, &b.service))
    });
    findings.dedup();
    for finding in &mut findings {
        finding.file = stack.files.get(finding.file_index).cloned().unwrap_or_default();
    }
    let services = judged.iter().map(cost_of).collect();
    let report = LintReport {
        schema: LINT_SCHEMA,
        files: stack.files,
        nodes: settings.nodes,
        budget: settings.budget,
        services,
        totals,
        findings,
    };
    Ok(Linted { report, warnings })
}

/// What Swarm will have of a service.
fn understand<'a>(stack: &Stack, service: &'a Service, settings: Settings) -> Result<Judged<'a>, LintError> {
    let mistake = |(at, message): (Place, String)| {
        let file = stack.files.get(at.file).cloned().unwrap_or_default();
        LintError::Mistake(Remark { file, line: at.line, column: at.column, message })
    };
    let draft = &service.draft;
    let Some(image) = &draft.image else {
        let name = &service.name;
        let message = match draft.build {
            Some(_) => format!("{name} has no `image`: docker stack deploy builds nothing, so push one and name it"),
            None => format!("{name} has no `image`"),
        };
        return Err(mistake((service.at, message)));
    };
    let reference = ImageRef::parse(&image.value).map_err(|error| mistake((image.at, error.to_string())))?;
    let slots = draft.slots(settings.nodes).map_err(mistake)?;
    if slots > SLOTS_MAX {
        return Err(mistake((service.at, format!("{} has more than {SLOTS_MAX} slots", service.name))));
    }
    let policy = draft.restart_policy().map_err(mistake)?;
    let mode = draft.mode();
    let looped = Loop::of(policy, mode, slots, reference.is_pinned());
    let budget_spent =
        looped.filter(|_| reference.registry == HUB).and_then(|looped| cost::spent_after(&[looped], settings.budget));
    Ok(Judged { service, image: reference, image_at: image.at, mode, policy, slots, looped, budget_spent })
}

fn cost_of(judged: &Judged<'_>) -> ServiceCost {
    let looped = judged.looped.as_ref();
    let is_pinned = judged.image.is_pinned();
    ServiceCost {
        name: judged.service.name.clone(),
        image: judged.service.draft.image.as_ref().map(|image| image.value.clone()).unwrap_or_default(),
        registry: judged.image.registry.to_owned(),
        pinned: is_pinned,
        mode: judged.mode.as_str(),
        slots: judged.slots,
        period_secs: looped.map(|looped| looped.period.as_secs_f64()),
        tries_max: looped.map_or(Some(1), |looped| looped.tries_max),
        requests_per_min: looped.map_or(0.0, |looped| rounded(looped.requests_per_min())),
        pulls_per_min: looped.map_or(0.0, |looped| rounded(looped.pulls_per_min())),
        budget_spent_secs: judged.budget_spent.map(|spent| spent.as_secs_f64()),
        assumptions: cost::assumptions(looped, judged.mode, is_pinned),
    }
}

fn totals(judged: &[Judged<'_>], settings: Settings) -> Totals {
    let all = |is_of: fn(&Judged<'_>) -> bool| -> Vec<Loop> {
        judged.iter().filter(|judged| is_of(judged)).filter_map(|judged| judged.looped).collect()
    };
    let (loops, hub) = (all(|_| true), all(|judged| judged.image.registry == HUB));
    Totals {
        slots: judged.iter().map(|judged| judged.slots).sum(),
        requests_per_min: rounded(loops.iter().map(Loop::requests_per_min).sum()),
        pulls_per_min: rounded(loops.iter().map(Loop::pulls_per_min).sum()),
        hub_requests_per_min: rounded(hub.iter().map(Loop::requests_per_min).sum()),
        budget_spent_secs: cost::spent_after(&hub, settings.budget).map(|spent| spent.as_secs_f64()),
    }
}

/// To a tenth: more would be a show of knowledge.
fn rounded(per_min: f64) -> f64 {
    (per_min * 10.0).round() / 10.0
}
