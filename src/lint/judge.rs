//! Services to findings: what makes a storm possible or worse, and the one change that helps most.

use std::time::Duration;

use super::cost::{Limit, Loop, limit, period};
use super::place::Place;
use super::reader::Surroundings;
use super::rule::{Finding, Rule};
use super::service::{Draft, Mode};
use super::stack::Service;
use crate::budget::HUB_REQUESTS_PER_MIN;
use crate::model::{Condition, ImageRef, RestartPolicy, span_in_words};

/// A delay below this is short: at a second a slot asks some 240 times a minute, and the storm that
/// brought 20,000 requests a minute was some 80 of those.
const DELAY_SHORT: Duration = Duration::from_secs(1);
/// A budget that is spent sooner is gone before somebody looks.
const BUDGET_SOON: Duration = Duration::from_secs(3600);
/// The restarts that the advice allows: enough for a slow database, and 16 requests at most.
const ADVISED_ATTEMPTS: u32 = 3;
/// The least window that the advice gives: a service that fails thrice within two minutes does not mend itself.
const ADVISED_WINDOW_MIN: Duration = Duration::from_secs(120);

/// A service that has been understood.
pub(super) struct Judged<'a> {
    pub(super) service: &'a Service,
    pub(super) image: ImageRef<'a>,
    pub(super) image_at: Place,
    pub(super) mode: Mode,
    pub(super) policy: RestartPolicy,
    /// How many tasks there are at a time.
    pub(super) slots: u64,
    pub(super) looped: Option<Loop>,
    /// When it alone would have spent the budget of its registry.
    pub(super) budget_spent: Option<Duration>,
}

impl Judged<'_> {
    fn draft(&self) -> &Draft {
        &self.service.draft
    }

    fn finding(&self, rule: Rule, at: Place, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(rule, at, Some(&self.service.name), message.into(), advice.into())
    }

    /// All that is to be said of it.
    pub(super) fn findings(&self, world: &dyn Surroundings) -> Vec<Finding> {
        let mut found = Vec::new();
        found.extend(self.restarts());
        found.extend(self.delay());
        found.extend(self.budget());
        found.extend(self.tag());
        found.extend(self.ignored());
        found.extend(self.binds(world));
        found
    }

    /// Whether its restarts end.
    fn restarts(&self) -> Option<Finding> {
        if self.policy.condition == Condition::Never {
            return None;
        }
        let at = self.draft().limit_place().unwrap_or(self.service.at);
        let every = secs_in_words(period(self.policy));
        match limit(self.policy, self.mode) {
            Limit::Restarts(_) => None,
            Limit::None => {
                let advice = if self.mode == Mode::GlobalJob {
                    "write condition: none under deploy.restart_policy: of a global job Swarm enforces no limit"
                        .to_owned()
                } else {
                    format!("write {} under deploy.restart_policy", self.advised_limit())
                };
                let message =
                    format!("nothing ends its restarts: a slot that fails is tried again every {every} for ever");
                Some(self.finding(Rule::UnboundedRestarts, at, message, advice))
            }
            Limit::WindowTooShort => {
                let at = self.draft().window_place().unwrap_or(at);
                let restarts = self.policy.max_attempts;
                let window = secs_in_words(self.policy.window);
                let message = format!(
                    "max_attempts: {restarts} is never reached: with a try every {every}, not so many restarts fall \
                     into a window of {window}"
                );
                let advice = format!("write {} under deploy.restart_policy", self.advised_limit());
                Some(self.finding(Rule::WindowTooShort, at, message, advice))
            }
            Limit::NotEnforced => Some(self.finding(
                Rule::LimitNotEnforced,
                at,
                "Swarm does not enforce max_attempts for a global job: a task that fails is tried again for ever",
                "write condition: none under deploy.restart_policy",
            )),
        }
    }

    /// A limit that holds with the service's delay.
    fn advised_limit(&self) -> String {
        let window = (period(self.policy) * (2 * ADVISED_ATTEMPTS)).max(ADVISED_WINDOW_MIN);
        format!("max_attempts: {ADVISED_ATTEMPTS} and window: {}s", window.as_secs())
    }

    fn delay(&self) -> Option<Finding> {
        if self.policy.condition == Condition::Never || self.policy.delay >= DELAY_SHORT {
            return None;
        }
        let at = self.draft().delay_place().unwrap_or(self.service.at);
        let tries = 60.0 / period(self.policy).as_secs_f64();
        let message = format!("a slot that fails is tried again up to {tries:.0} times a minute");
        Some(self.finding(
            Rule::ShortDelay,
            at,
            message,
            "write delay: 5s under deploy.restart_policy, Swarm's default",
        ))
    }

    fn budget(&self) -> Option<Finding> {
        let spent = self.budget_spent.filter(|spent| *spent < BUDGET_SOON)?;
        let message = format!(
            "if each pull is refused, it alone spends the budget at {} within {}",
            self.image.registry,
            span_in_words(spent.max(Duration::from_secs(1)))
        );
        let advice = "name the image by its digest, which a node that has it never asks for again: \
                      docker buildx imagetools inspect IMAGE prints it";
        Some(self.finding(Rule::BudgetSoon, self.image_at, message, advice))
    }

    fn tag(&self) -> Option<Finding> {
        if self.image.is_pinned() {
            return None;
        }
        let advice = "name the image by its digest (image: NAME:TAG@sha256:...), and deploy with --with-registry-auth \
                      where it is private";
        if let None | Some("latest") = self.image.tag {
            let what =
                if self.image.tag.is_none() { "the image has no tag, which is latest" } else { "the tag is latest" };
            let message = format!("{what}: what runs is what the registry had at each deployment or unresolved try");
            return Some(self.finding(Rule::LatestTag, self.image_at, message, advice));
        }
        // What is not tried again asks once.
        self.looped?;
        let message = "docker stack deploy resolves the tag to a digest; where that fails, or with --resolve-image \
                       never, every try asks the registry for the tag";
        Some(self.finding(Rule::UnpinnedTag, self.image_at, message, advice))
    }

    /// Keys that Swarm does not take as they are meant.
    fn ignored(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let draft = self.draft();
        if let Some(restart) = &draft.restart {
            let name = restart.value.split(':').next().unwrap_or_default();
            let message = if draft.policy.is_some() {
                "`restart` has no effect beside deploy.restart_policy, which is what counts"
            } else if name == "no" {
                "`restart: no` has no effect in Swarm: without a restart_policy it restarts whatever ends"
            } else {
                "docker says that it ignores `restart`, yet makes a restart policy of it where there is no other"
            };
            let advice = match name {
                _ if draft.policy.is_some() => "remove `restart`",
                "no" => "write condition: none under deploy.restart_policy instead",
                "on-failure" => "write condition: on-failure and max_attempts under deploy.restart_policy instead",
                _ => "write condition: any and max_attempts under deploy.restart_policy instead",
            };
            found.push(self.finding(Rule::RestartKey, restart.at, message, advice));
        }
        if let Some(at) = draft.pull_policy {
            let message = "docker stack deploy refuses `pull_policy`; in Swarm a digest that is present is not pulled, \
                           and a tag always is";
            found.push(self.finding(
                Rule::PullPolicyUnsupported,
                at,
                message,
                "remove it, and name the image by its digest",
            ));
        }
        if let Some(at) = draft.build {
            let message = "`build` has no effect: docker stack deploy builds nothing and pulls the image";
            let advice = "build and push the image before the deployment: docker compose build --push";
            found.push(self.finding(Rule::BuildIgnored, at, message, advice));
        }
        found
    }

    fn binds(&self, world: &dyn Surroundings) -> Vec<Finding> {
        let mut found = Vec::new();
        for mount in self.draft().mounts() {
            let Some(path) = &mount.bind else { continue };
            if world.is_there(path) == Some(false) {
                let path = path.display();
                let message =
                    format!("the bind source {path} is not on this host; where it is missing every try fails");
                let advice = "create it on every node that may run the service, constrain the service to those that \
                              have it, or use a volume";
                found.push(self.finding(Rule::MissingBindSource, mount.at, message, advice));
            }
        }
        found
    }
}

/// What is to be said of all together: `requests_per_min` at Docker Hub, and the service that costs most.
pub(super) fn abuse(requests_per_min: f64, costliest: &Judged<'_>) -> Option<Finding> {
    #[expect(clippy::cast_precision_loss, reason = "a limit is far below 2^52")]
    let limit = HUB_REQUESTS_PER_MIN as f64;
    if requests_per_min <= limit {
        return None;
    }
    let message = format!(
        "in a loop together, all services ask docker.io {requests_per_min:.0} times a minute: its abuse limit, \
         thousands a minute, shuts the whole address out"
    );
    let name = &costliest.service.name;
    let advice = format!("limit the restarts of all services, {name} first, and name the images by their digests");
    Some(Finding::new(Rule::AbuseLimit, costliest.image_at, None, message, advice))
}

/// A time to the tenth of a second where that matters.
pub(super) fn secs_in_words(span: Duration) -> String {
    if span >= Duration::from_secs(120) {
        return span_in_words(span);
    }
    let text = format!("{:.1}", span.as_secs_f64());
    format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
}
