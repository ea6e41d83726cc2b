//! Prices what attempts ask of registries, and says whose it is.
//!
//! `image pull` events tell of every pull that succeeded, without saying for whom: it is for a subject that wants the
//! image. `pulling image failed` tells of every one that failed. Where a node is not heard, its tasks stand for them.

use super::Detector;
use crate::budget::{Engine, Pulled, requests};
use crate::detect::account::{Asked, CountKey, EarlyPull, ImageKey, Unpriced};
use crate::detect::arena::{AttemptId, NodeId, SubjectId};
use crate::detect::cause::{classify_pull, is_intent};
use crate::detect::subject::UNPRICED_MAX;
use crate::model::{Basis, Cause, ImageRef, LogFact, Requests, Spend, SpendCount, Spender, Subject, Timestamp};

/// What is fetched of an image beside its manifests is not known: its configuration and one layer at least.
const LAYERS: u64 = 1;

impl Detector {
    /// Says whose events and log lines an origin's are. Without it that is learnt from the first that name a node.
    pub fn place(&mut self, origin: u16, node_id: &str) {
        let node = self.node(node_id);
        self.books.account.place(origin, node);
    }

    /// How a node pulls, which its version does not quite tell.
    pub fn set_store(&mut self, node_id: &str, store: Engine) {
        let node = self.node(node_id);
        if node.is_known() {
            self.nodes[node].store = Some(store);
        }
    }

    /// How an origin is called: where a node has that name, it is the node's.
    pub fn name_origin(&mut self, origin: u16, name: &str) {
        self.books.account.name(origin, name);
        let named = self.nodes.iter().find(|(_, node)| !name.is_empty() && *node.hostname == *name);
        if let Some((node, _)) = named {
            self.books.account.place(origin, node);
        }
    }

    /// The images of an origin's node are listed from now on, as they were when the listing began: what is pulled and was
    /// not among them is fetched.
    pub fn begin_images(&mut self, origin: u16, began: Timestamp) {
        self.books.account.begin_images(origin, began);
    }

    /// Takes out what was asked in each minute ([`Settings::by_minute`](crate::detect::Settings::by_minute)), `max` counts
    /// at most. A minute may come again: its counts are to be added.
    pub fn drain_spend(&mut self, max: usize) -> Vec<SpendCount> {
        let mut counts = Vec::new();
        while counts.len() < max {
            if let Some(count) = self.books.account.next_resolved() {
                counts.push(count);
            } else if let Some((key, spend)) = self.books.account.next_count() {
                counts.extend(self.resolve_count(key, spend));
            } else if let Some(((registry, minute, node), spend)) = self.books.account.next_of_nobody() {
                let (subject, node) = (Subject::nobody(), self.node_name(node));
                let (registry, deployed) = (registry.into(), Timestamp::default());
                counts.push(SpendCount { minute, subject, registry, node, deployed, spend });
            } else {
                break;
            }
        }
        counts
    }

    /// A subject goes: what it has asked keeps its name.
    pub(super) fn resolve_counts(&mut self, index: SubjectId) {
        for (key, spend) in self.books.account.counts_of(index) {
            let count = self.resolve_count(key, spend);
            count.into_iter().for_each(|count| self.books.account.resolve(count));
        }
    }

    fn resolve_count(&self, (index, minute, node, deployed): CountKey, spend: Spend) -> Option<SpendCount> {
        let state = self.subjects.get(index)?;
        let (subject, registry) = (state.subject.clone(), state.registry().to_owned());
        Some(SpendCount { minute, subject, registry, node: self.node_name(node), deployed, spend })
    }

    /// What every subject has asked, those that asked most first.
    pub fn spenders(&self) -> Vec<Spender> {
        let subjects = self.subjects.values();
        let spenders = subjects.filter_map(|state| {
            let spend = state.spent.total.since(Default::default());
            (!spend.is_nothing()).then(|| Spender {
                subject: state.subject.clone(),
                registry: state.registry().to_owned(),
                image: state.image.to_string(),
                spend,
            })
        });
        let mut spenders: Vec<Spender> = spenders.collect();
        spenders.sort_by(|a, b| b.spend.requests.cmp(&a.spend.requests).then_with(|| a.subject.cmp(&b.subject)));
        spenders
    }

    /// An image of a node's listing.
    pub(super) fn take_image(&mut self, origin: u16, id: &str, references: &[impl AsRef<str>]) {
        self.books.account.has_images(origin);
        for reference in references {
            if let Ok(image) = ImageRef::parse(reference.as_ref()) {
                self.books.account.add_image(origin, &image, Timestamp::from_nanos(i64::MIN));
                self.books.account.identify(origin, id, &image);
            }
        }
    }

    pub(super) fn take_pull(&mut self, at: Timestamp, origin: u16, reference: &str) {
        let Ok(image) = ImageRef::parse(reference) else { return };
        if !self.books.account.is_news(at, origin, ImageKey::of(&image)) {
            return;
        }
        let pulled = self.outcome_of_pull(at, origin, &image);
        let asked = self.price(at, self.books.account.node_of(origin), &image, pulled, Basis::Measured);
        self.count_at(image.registry, &asked);
        let key = ImageKey::of(&image);
        match self.who_lacks(key) {
            Some(index) => self.charge_pull(index, &asked),
            None => {
                let pull = EarlyPull { image: key, registry: image.registry.into(), asked };
                self.books.account.keep(pull).into_iter().for_each(|pull| self.charge_nobody(&pull));
            }
        }
    }

    /// The image of a subject may have changed.
    pub(super) fn follow_image(&mut self, index: SubjectId) {
        let Some(state) = self.subjects.get_mut(index) else { return };
        if !std::mem::take(&mut state.is_image_new) {
            return;
        }
        let image = ImageRef::parse(&state.image).ok();
        let key = image.as_ref().map(ImageKey::of).unwrap_or_default();
        let old = std::mem::replace(&mut state.image_key, key);
        if key == old {
            return;
        }
        self.books.account.want(index, old, key);
        for pull in self.books.account.take_early(key) {
            self.charge_pull(index, &pull.asked);
        }
        let unpriced =
            self.subjects.get_mut(index).map(|state| std::mem::take(&mut state.unpriced)).unwrap_or_default();
        unpriced.into_iter().for_each(|asked| self.count(index, asked));
    }

    /// A new specification was deployed: a client that resolved its tag asked for the digest (`service create` and
    /// `stack deploy` do by default, on the manager).
    pub(super) fn count_resolution(&mut self, index: SubjectId, at: Timestamp) {
        let Some(state) = self.subjects.get(index) else { return };
        let Ok(image) = ImageRef::parse(&state.image) else { return };
        // Who writes a digest by hand seldom writes the tag too.
        if image.digest.is_none() || image.tag.is_none() {
            let is_new = image.digest.is_none();
            self.subjects.get_mut(index).into_iter().for_each(|state| state.is_new = is_new);
            return;
        }
        let terms = self.settings.registries.terms(image.registry);
        let fetched = Pulled::Fetched { is_index: false, layers: 0 };
        // By its tag.
        let kinds = requests(Engine::Graph, terms.authentication, false, fetched);
        let kinds = if terms.has_indexes { Requests { blobs: 0, ..kinds } } else { kinds };
        let asked = Asked { at, node: NodeId::NONE, spend: Spend::of(kinds, kinds.manifest_gets, Basis::Assumed) };
        let registry = image.registry.to_owned();
        self.count_at(&registry, &asked);
        self.charge(index, &asked);
    }

    /// The first pull of a new service failed: a client that resolved its tag, as `service create` and `stack deploy` do
    /// by default, was refused before it.
    fn count_refused_resolution(&mut self, index: SubjectId, at: Timestamp, pulled: Pulled) {
        let Some(state) = self.subjects.get_mut(index) else { return };
        if !std::mem::take(&mut state.is_new) {
            return;
        }
        let image = state.image.clone();
        let Ok(image) = ImageRef::parse(&image) else { return };
        let asked = self.price(at, NodeId::NONE, &image, pulled, Basis::Assumed);
        self.count_at(image.registry, &asked);
        self.charge(index, &asked);
    }

    /// A pull failed, as dockerd's log says.
    pub(super) fn count_failed_pull(&mut self, index: AttemptId, at: Timestamp, fact: &LogFact<'_>) {
        let attempt = &self.attempts[index];
        let (subject, node) = (attempt.subject, attempt.node);
        if attempt.is_accounted {
            return;
        }
        self.attempts[index].is_accounted = true;
        let cause = classify_pull(&fact.error);
        let pulled = failed_pull(cause, &fact.error);
        self.count(subject, Unpriced { at, node, pulled, basis: Basis::Measured, cause: Some(cause) });
    }

    /// An attempt is known to have asked, or not to have; what its node told by itself is counted already.
    pub(super) fn count_attempt(&mut self, index: AttemptId) {
        let attempt = &self.attempts[index];
        if attempt.is_accounted {
            return;
        }
        let Some(state) = self.subjects.get(attempt.subject) else { return };
        let cause = attempt.failed_pull();
        let has_asked = attempt.has_prepared() && attempt.node.is_known();
        let mut of_registry = None;
        let pulled = match cause {
            Some(cause) => {
                // The log of another node may know more than that there is no such image.
                let known = state.failing.as_ref().and_then(|failing| failing.pull_failure(cause));
                let (cause, text) = known.unwrap_or((cause, ""));
                of_registry = Some(cause);
                Some(failed_pull(cause, text))
            }
            None if !has_asked || self.books.account.is_heard(attempt.node, attempt.created) => None,
            None if ImageRef::parse(&state.image).is_ok_and(|image| image.is_pinned()) => None,
            None => Some(Pulled::Unchanged),
        };
        let basis = if attempt.pull_cause.is_some() { Basis::Measured } else { Basis::Derived };
        let (subject, node) = (attempt.subject, attempt.node);
        let at = attempt.ended.unwrap_or(attempt.created).min(self.clock.now.max(attempt.created));
        self.attempts[index].is_accounted = true;
        if let Some(pulled) = pulled {
            self.count(subject, Unpriced { at, node, pulled, basis, cause: of_registry });
        }
    }

    fn note_failed_pull(&mut self, subject: SubjectId, at: Timestamp, node: NodeId, cause: Cause) {
        let Some(state) = self.subjects.get(subject).filter(|_| cause.is_of_registry()) else { return };
        let registry = state.registry().to_owned();
        self.books.incidents.failed(&registry, at, subject, node, cause);
        if cause.is_too_many() {
            let asked = self.asked_of(&registry, at);
            self.books.incidents.refused_now(&registry, at, cause, || asked);
        }
    }

    /// The pulls that nobody has wanted for long are nobody's; all that wait, where there is no `now`.
    pub(super) fn pass_unwanted(&mut self, now: Option<Timestamp>) {
        for pull in self.books.account.take_unwanted(now) {
            self.charge_nobody(&pull);
        }
    }

    /// Nobody is waited for any more: the process ends.
    pub fn settle_pulls(&mut self) {
        self.pass_unwanted(None);
    }

    /// Of the subjects that want an image, the one whose attempts have the fewest pulls.
    fn who_lacks(&self, image: ImageKey) -> Option<SubjectId> {
        let lack = |index: &SubjectId| self.subjects.get(*index).map_or(i64::MIN, |state| state.pulls_lacking);
        self.books.account.who_wants(image).max_by_key(|index| (lack(index), std::cmp::Reverse(*index)))
    }

    fn charge_pull(&mut self, index: SubjectId, asked: &Asked) {
        if let Some(state) = self.subjects.get_mut(index) {
            state.pulls_lacking -= 1;
            // Nobody was refused.
            state.is_new = false;
        }
        self.charge(index, asked);
    }

    /// A pull that nobody wants: it is a service's that is gone, or nobody's.
    fn charge_nobody(&mut self, pull: &EarlyPull) {
        let Asked { at, node, spend } = pull.asked;
        if !self.counts_by_minute(at) {
            return;
        }
        let (registry, minute) = (&pull.registry, at.minute());
        if let Some(subject) = self.books.account.who_wanted(pull.image, at) {
            let (node, deployed, registry) = (self.node_name(node), Timestamp::default(), registry.to_string());
            self.books.account.resolve(SpendCount { minute, subject, registry, node, deployed, spend });
        } else {
            self.books.account.count_nobodys(registry, minute, node, &spend);
        }
    }

    /// What an `image pull` event stands for: it comes too when the image was up to date.
    fn outcome_of_pull(&mut self, at: Timestamp, origin: u16, image: &ImageRef<'_>) -> Pulled {
        if self.books.account.pulled(origin, at, image) {
            let is_index = self.settings.registries.terms(image.registry).has_indexes;
            Pulled::Fetched { is_index, layers: LAYERS }
        } else {
            Pulled::Unchanged
        }
    }

    /// Prices what an attempt asked, and charges its subject with it; once its image is known.
    fn count(&mut self, index: SubjectId, asked: Unpriced) {
        let Some(state) = self.subjects.get_mut(index) else { return };
        if state.image.is_empty() && state.unpriced.len() < UNPRICED_MAX {
            state.unpriced.push(asked);
            return;
        }
        let image = state.image.clone();
        // The id of an image is asked of nobody.
        let Ok(image) = ImageRef::parse(&image) else { return };
        let Unpriced { at, node, pulled, basis, cause } = asked;
        if let Some(cause) = cause {
            // What was asked before the refusal is what it refuses.
            self.note_failed_pull(index, at, node, cause);
            self.count_refused_resolution(index, at, pulled);
        }
        let asked = self.price(at, node, &image, pulled, basis);
        self.count_at(image.registry, &asked);
        self.charge(index, &asked);
    }

    fn price(&self, at: Timestamp, node: NodeId, image: &ImageRef<'_>, pulled: Pulled, basis: Basis) -> Asked {
        let of = &self.nodes[node];
        let engine = of.store.or_else(|| Engine::of_version(&of.engine)).unwrap_or(Engine::Graph);
        let authentication = self.settings.registries.terms(image.registry).authentication;
        let kinds = requests(engine, authentication, image.is_pinned(), pulled);
        // A GET that is refused is no pull.
        let pulls = if pulled.is_answered() { kinds.manifest_gets } else { 0 };
        Asked { at, node, spend: Spend::of(kinds, pulls, basis) }
    }

    fn count_at(&mut self, registry: &str, asked: &Asked) {
        if !asked.spend.is_nothing() && asked.at >= self.books.counted_from {
            self.books.meter.add(asked.at.minute(), registry, asked.spend.pulls, asked.spend.requests);
        }
    }

    fn charge(&mut self, index: SubjectId, asked: &Asked) {
        let Some(state) = self.subjects.get_mut(index) else { return };
        state.spent.add(asked.at, &asked.spend);
        let deployed = state.deployed;
        if self.counts_by_minute(asked.at) && !asked.spend.is_nothing() {
            self.books.account.count((index, asked.at.minute(), asked.node, deployed), &asked.spend);
        }
    }

    pub(super) fn counts_by_minute(&self, at: Timestamp) -> bool {
        self.settings.by_minute && at >= self.books.counted_from
    }
}

/// What a pull that failed had asked before it did.
fn failed_pull(cause: Cause, text: &str) -> Pulled {
    let has = |part: &str| text.contains(part);
    match cause {
        // It never came to the manifest.
        Cause::RegistryAuth
            if has("no basic auth credentials")
                || has("incorrect username or password")
                || has("too many failed login attempts")
                || has("failed to fetch oauth token") =>
        {
            Pulled::NoCredentials
        }
        Cause::RegistryQuota => Pulled::QuotaSpent,
        Cause::RegistryAbuse | Cause::RegistryLimit => Pulled::TooMany,
        Cause::RegistryError => Pulled::Broken,
        Cause::RegistryUnreachable => Pulled::Unreachable,
        Cause::DiskFull => Pulled::Fetched { is_index: false, layers: LAYERS },
        // Its task was taken away in between.
        _ if is_intent(text) => Pulled::Unchanged,
        _ => Pulled::Refused,
    }
}
