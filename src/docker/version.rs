//! The version of Docker's API: its order, and the choice of one to speak.

use std::fmt;

/// The newest version that squall asks for, if the daemon knows it too.
///
/// 1.51 (Docker 28.3) and not the newest: it is the last before 1.52 changed the event stream's framing and dropped
/// fields, and every daemon from 28.3 to 29.7 speaks it. Nothing that squall reads is newer than 1.41 (service status).
pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };
/// The oldest version that squall speaks: 1.24 (Docker 1.12) brought Swarm mode.
pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 24 };

/// A version of Docker's API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// 1 in every Docker so far.
    pub major: u16,
    /// Grows with Docker's releases.
    pub minor: u16,
}

impl ApiVersion {
    /// Reads `1.41`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The newest version that both sides speak, given the daemon's newest and, where it says so, its oldest.
    pub fn common(daemon_newest: Self, daemon_oldest: Option<Self>) -> Option<Self> {
        let version = daemon_newest.min(NEWEST);
        (version >= OLDEST && daemon_oldest.is_none_or(|oldest| version >= oldest)).then_some(version)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_both_speak_is_chosen() {
        let check = |newest: &str, oldest: Option<&str>, expected: Option<&str>| {
            let read = |text| ApiVersion::parse(text).expect("a version in the table");
            let found = ApiVersion::common(read(newest), oldest.map(read));
            assert_eq!(found.map(|version| version.to_string()).as_deref(), expected, "{newest} {oldest:?}");
        };
        check("1.41", Some("1.12"), Some("1.41"));
        check("1.9", None, None);
        check("1.55", Some("1.40"), Some("1.51"));
        check("1.60", Some("1.52"), None);
        check("1.24", None, Some("1.24"));
    }
}
