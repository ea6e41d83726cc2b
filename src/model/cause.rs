use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

use super::closed_set::closed_set;

closed_set! {
    /// Why an attempt failed: a closed set, the same in code, reports, logs and metrics.
    Cause {
    /// The program ended by itself: `task: non-zero exit (N)`, or exit 0 where it is started again for ever.
    AppExit => "app-exit",
    /// The kernel killed it for memory.
    Oom => "oom",
    /// Its health check failed: `dockerexec: unhealthy container`.
    HealthCheck => "health-check",
    /// The program to start is not in the image, or may not be run.
    Entrypoint => "entrypoint",
    /// A mount is wrong, mostly a bind source that does not exist.
    Mount => "mount",
    /// A volume driver failed or is not there.
    Volume => "volume",
    /// A network is missing, or has no address left.
    Network => "network",
    /// A published port is taken.
    Port => "port",
    /// No node may run it: `no suitable node (...)`.
    Unschedulable => "unschedulable",
    /// The registry does not have the image.
    ImageMissing => "image-missing",
    /// The registry refused the credentials, or there were none.
    RegistryAuth => "registry-auth",
    /// 429: the pull quota of this address or account is spent.
    RegistryQuota => "registry-quota",
    /// 429: the registry's abuse limit on requests of every kind.
    RegistryAbuse => "registry-abuse",
    /// 429 of a kind that the words do not tell.
    RegistryLimit => "registry-limit",
    /// The registry cannot be reached: name, route, connection, time, certificate.
    RegistryUnreachable => "registry-unreachable",
    /// The registry answers, with an error of its own (5xx).
    RegistryError => "registry-error",
    /// The image is for another platform.
    Platform => "platform",
    /// The node's disk is full.
    DiskFull => "disk-full",
    /// A secret or config is missing or may not be read.
    SecretConfig => "secret-config",
    /// The container runtime or its cgroups failed.
    Runtime => "runtime",
    /// The pull failed and no log says why (`No such image` on engines before 29.7).
    PullFailed => "pull-failed",
    /// The node was lost.
    NodeDown => "node-down",
    /// Nothing that was observed says why.
    Unknown => "unknown",
    }
}

impl Cause {
    /// Whether several unrelated services share it when a registry is in trouble.
    pub const fn is_of_registry(self) -> bool {
        matches!(
            self,
            Self::RegistryAuth
                | Self::RegistryQuota
                | Self::RegistryAbuse
                | Self::RegistryLimit
                | Self::RegistryUnreachable
                | Self::RegistryError
                | Self::PullFailed
        )
    }

    /// Whether a registry answers that it was asked too often: 429.
    pub const fn is_too_many(self) -> bool {
        matches!(self, Self::RegistryQuota | Self::RegistryAbuse | Self::RegistryLimit)
    }

    /// Whether it is about getting the image, so that dockerd's log may know it better than the task does.
    pub const fn is_pull(self) -> bool {
        matches!(
            self,
            Self::ImageMissing
                | Self::RegistryAuth
                | Self::RegistryQuota
                | Self::RegistryAbuse
                | Self::RegistryLimit
                | Self::RegistryUnreachable
                | Self::RegistryError
                | Self::Platform
                | Self::DiskFull
                | Self::PullFailed
        )
    }
}

/// How many attempts failed by each cause. As large as the causes that occurred, at most all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseCounts(Vec<(Cause, u64)>);

impl CauseCounts {
    /// One more failure by `cause`.
    pub fn add(&mut self, cause: Cause) {
        self.add_many(cause, 1);
    }

    /// So many more failures by `cause`.
    pub fn add_many(&mut self, cause: Cause, failed: u64) {
        match self.0.binary_search_by_key(&cause, |entry| entry.0) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(failed),
            Err(at) => {
                // Most have one.
                self.0.reserve_exact(1);
                self.0.insert(at, (cause, failed));
            }
        }
    }

    /// One failure less by `cause`: it turned out to be another.
    pub fn remove(&mut self, cause: Cause) {
        if let Ok(at) = self.0.binary_search_by_key(&cause, |entry| entry.0) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.remove(at);
            }
        }
    }

    /// The cause of most failures; among equals the first in the order of [`Cause::ALL`].
    pub fn top(&self) -> Option<Cause> {
        self.top_with_count().map(|entry| entry.0)
    }

    /// The same, and how many failures it explains: `pull-failed` says only that a pull failed, and `unknown` not even
    /// that, so their failures are counted to the foremost cause that says why.
    pub fn top_with_count(&self) -> Option<(Cause, u64)> {
        let vague = |cause: Cause| self.0.iter().find(|entry| entry.0 == cause).map_or(0, |entry| entry.1);
        let says_why = || self.0.iter().filter(|entry| !matches!(entry.0, Cause::PullFailed | Cause::Unknown));
        let foremost = |a: &(Cause, u64), b: &(Cause, u64)| a.1.cmp(&b.1).then(b.0.cmp(&a.0));
        let pull = says_why().filter(|entry| entry.0.is_pull()).copied().max_by(foremost);
        let pull = match pull {
            Some((cause, count)) => Some((cause, count + vague(Cause::PullFailed))),
            None => Some((Cause::PullFailed, vague(Cause::PullFailed))).filter(|entry| entry.1 > 0),
        };
        let top = says_why().filter(|entry| !entry.0.is_pull()).copied().chain(pull).max_by(foremost);
        let unknown = vague(Cause::Unknown);
        match top {
            Some((cause, count)) => Some((cause, count + unknown)),
            None => Some((Cause::Unknown, unknown)).filter(|entry| entry.1 > 0),
        }
    }

    /// Each cause that occurred, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        self.0.iter().copied()
    }
}

impl Serialize for CauseCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (cause, count) in self.iter() {
            map.serialize_entry(cause.as_str(), &count)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for CauseCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<Cause, u64>::deserialize(deserializer).map(|counts| Self(counts.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_cause_is_the_same_whatever_the_order() {
        let mut counts = CauseCounts::default();
        for cause in [Cause::Oom, Cause::AppExit, Cause::Oom, Cause::AppExit] {
            counts.add(cause);
        }
        assert_eq!(counts.top(), Some(Cause::AppExit));
        counts.remove(Cause::AppExit);
        assert_eq!(counts.top(), Some(Cause::Oom));
        let text = serde_json::to_string(&counts).expect("json");
        assert_eq!(text, r#"{"app-exit":1,"oom":2}"#);
        assert_eq!(serde_json::from_str::<CauseCounts>(&text).expect("its own"), counts);
    }

    #[test]
    fn a_cause_that_says_why_is_not_outvoted_by_one_that_does_not() {
        let top = |causes: &[(Cause, u64)]| {
            let mut counts = CauseCounts::default();
            causes.iter().for_each(|(cause, count)| (0..*count).for_each(|_| counts.add(*cause)));
            counts.top()
        };
        let (auth, pull, unknown) = (Cause::RegistryAuth, Cause::PullFailed, Cause::Unknown);
        assert_eq!(top(&[(pull, 200), (auth, 100)]), Some(auth), "two nodes say no such image, one says why");
        assert_eq!(top(&[(unknown, 20), (Cause::Mount, 1)]), Some(Cause::Mount));
        assert_eq!(top(&[(pull, 30), (Cause::Mount, 20)]), Some(pull), "a mount is no reason for a failed pull");
        assert_eq!(
            (top(&[(pull, 2), (unknown, 9)]), top(&[(unknown, 1)]), top(&[])),
            (Some(pull), Some(unknown), None)
        );
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
