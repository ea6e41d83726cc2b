//! What is known of registries before one of them is asked: how it wants to be asked, and what it allows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cost::Authentication;
use crate::model::Budget;

/// What a registry wants and allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it wants before it answers.
    pub authentication: Authentication,
    /// How many pulls it allows within a rolling window, where it counts them.
    pub pulls: Option<(u64, Duration)>,
    /// How many requests of any kind it lets pass in a minute, where that is known.
    pub requests_per_min: Option<u64>,
    /// Whether most of its images are for several platforms, so that a pull gets an index first.
    pub has_indexes: bool,
    /// Where these figures are from.
    pub source: &'static str,
}

impl Terms {
    /// The window of a budget: as the registry says with it, or else as is known of it.
    pub(super) fn window_of(&self, budget: Option<Budget>) -> Option<Duration> {
        budget.and_then(|budget| budget.window()).or(self.pulls.map(|(_, window)| window))
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Docker Hub, as image references name it.
pub const HUB: &str = "docker.io";
/// How many pulls Docker Hub allows in [`HUB_WINDOW`] without a login (docs.docker.com/docker-hub/usage).
pub const HUB_PULLS: u64 = 100;
/// See [`HUB_PULLS`]. It rolls.
pub const HUB_WINDOW: Duration = Duration::from_secs(6 * 3600);
/// How many requests a minute Docker Hub lets pass: it writes of thousands, and in the storm that shut a hundred people
/// out 2,000 to 2,500 still passed.
pub const HUB_REQUESTS_PER_MIN: u64 = 2000;

const UNKNOWN: Terms = Terms {
    // A registry of one's own mostly wants a password. An open one is asked as often by a graph driver; the containerd
    // store saves a HEAD.
    authentication: Authentication::Basic,
    pulls: None,
    requests_per_min: None,
    has_indexes: false,
    source: "nothing is known of it",
};

/// A pattern is a host, or `*.` and the end of one.
const KNOWN: [(&str, Terms); 12] = [
    (
        HUB,
        Terms {
            authentication: Authentication::Bearer,
            pulls: Some((HUB_PULLS, HUB_WINDOW)),
            requests_per_min: Some(HUB_REQUESTS_PER_MIN),
            has_indexes: true,
            source: "docs.docker.com/docker-hub/usage: unauthenticated, per IPv4 address or IPv6 /64",
        },
    ),
    ("ghcr.io", bearer(Some(44_000), "the words of its 429s: allowed: 44000/minute")),
    ("quay.io", bearer(None, "access.redhat.com 6218921: a few requests per second and address, no figure")),
    ("registry.gitlab.com", bearer(None, "docs.gitlab.com: bans after 300 failed logins a minute, no limit on pulls")),
    (
        "public.ecr.aws",
        Terms {
            pulls: Some((60, Duration::from_secs(60))),
            ..bearer(None, "Amazon ECR public quotas: 1 pull per second and address without a login")
        },
    ),
    (
        "*.amazonaws.com",
        Terms {
            authentication: Authentication::Basic,
            ..bearer(Some(120_000), "Amazon ECR quotas: 2,000 BatchGetImage per second, account and region")
        },
    ),
    ("*.pkg.dev", bearer(Some(60_000), "Artifact Registry quotas: per project and region")),
    ("gcr.io", bearer(Some(60_000), "Artifact Registry quotas: per project and region")),
    ("*.gcr.io", bearer(Some(60_000), "Artifact Registry quotas: per project and region")),
    ("*.azurecr.io", bearer(Some(1000), "Azure Container Registry limits: ReadOps of the Basic tier")),
    ("mcr.microsoft.com", Terms { authentication: Authentication::None, ..bearer(None, "it publishes no limit") }),
    ("registry.k8s.io", Terms { authentication: Authentication::None, ..bearer(None, "it publishes no limit") }),
];

const fn bearer(requests_per_min: Option<u64>, source: &'static str) -> Terms {
    Terms { authentication: Authentication::Bearer, pulls: None, requests_per_min, has_indexes: true, source }
}

/// What the configuration says of a registry; what it leaves out is as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnTerms {
    /// See [`Terms::authentication`].
    pub authentication: Option<Authentication>,
    /// See [`Terms::pulls`].
    pub pulls: Option<u64>,
    /// The window of `pulls`; 6 h where nothing else is known.
    pub window: Option<Duration>,
    /// See [`Terms::requests_per_min`].
    pub requests_per_min: Option<u64>,
}

/// The registries, with what the configuration says of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    own: BTreeMap<String, OwnTerms>,
}

impl Registries {
    /// With the terms of one's own, by the name of the registry.
    pub fn new(own: BTreeMap<String, OwnTerms>) -> Self {
        Self { own }
    }

    /// The terms of a registry, by its name in image references.
    pub fn terms(&self, registry: &str) -> Terms {
        let host = registry.split_once(':').map_or(registry, |(host, _)| host);
        let known = KNOWN.iter().find(|(pattern, _)| is_of(host, pattern)).map_or(UNKNOWN, |(_, terms)| terms.clone());
        let Some(own) = self.own.get(registry) else { return known };
        let window = own.window.or(known.pulls.map(|(_, window)| window)).unwrap_or(6 * HOUR);
        Terms {
            authentication: own.authentication.unwrap_or(known.authentication),
            pulls: own.pulls.map(|pulls| (pulls, window)).or(known.pulls),
            requests_per_min: own.requests_per_min.or(known.requests_per_min),
            has_indexes: known.has_indexes,
            source: if own == &OwnTerms::default() { known.source } else { "the configuration" },
        }
    }
}

fn is_of(host: &str, pattern: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => host.len() > end.len() && host.ends_with(end),
        None => host == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_known_by_its_host() {
        let registries = Registries::default();
        let check = |registry: &str, authentication: Authentication, pulls: Option<u64>, per_min: Option<u64>| {
            let terms = registries.terms(registry);
            let found = (terms.authentication, terms.pulls.map(|(pulls, _)| pulls), terms.requests_per_min);
            assert_eq!(found, (authentication, pulls, per_min), "{registry}");
        };
        check("docker.io", Authentication::Bearer, Some(100), Some(2000));
        check("ghcr.io", Authentication::Bearer, None, Some(44_000));
        check("123.dkr.ecr.eu-west-1.amazonaws.com", Authentication::Basic, None, Some(120_000));
        check("europe-docker.pkg.dev", Authentication::Bearer, None, Some(60_000));
        check("eu.gcr.io", Authentication::Bearer, None, Some(60_000));
        check("notgcr.io", Authentication::Basic, None, None);
        check("10.77.0.1:5000", Authentication::Basic, None, None);
    }

    #[test]
    fn the_configuration_goes_before_what_is_known() {
        let pro = OwnTerms { pulls: Some(5000), requests_per_min: Some(900), ..OwnTerms::default() };
        let mine = OwnTerms {
            authentication: Some(Authentication::Bearer),
            pulls: Some(7),
            window: Some(HOUR),
            ..OwnTerms::default()
        };
        let own = [("docker.io".to_owned(), pro), ("r.example:5000".to_owned(), mine)];
        let registries = Registries::new(own.into_iter().collect());
        let hub = registries.terms("docker.io");
        assert_eq!((hub.pulls, hub.requests_per_min), (Some((5000, 6 * HOUR)), Some(900)));
        assert_eq!(hub.authentication, Authentication::Bearer);
        let mine = registries.terms("r.example:5000");
        assert_eq!((mine.pulls, mine.authentication), (Some((7, HOUR)), Authentication::Bearer));
        assert_eq!(registries.terms("r.example").pulls, None, "another port is another registry");
    }
}
