//! What one pull asks a registry for.
//!
//! The rows are measured at the registry's own access log, for dockerd 20.10.24, 26.1.5 and 28.5.2 with graph drivers
//! and for 29.7.2 with the containerd image store; what lies between is read in moby's `distribution/pull_v2.go` and
//! containerd's `core/remotes/docker/resolver.go`.

use serde::{Deserialize, Serialize};

use crate::model::Requests;

/// What keeps an engine's images, and how it pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A graph driver before 20.10: a GET of the manifest at each pull.
    GraphBefore20,
    /// A graph driver since 20.10: a HEAD first.
    Graph,
    /// The containerd image store: the default of new installations since 29.0.
    Containerd,
}

impl Engine {
    /// By its version, as the node's description has it; `None`: it cannot be read. Whether a 29 that was upgraded has
    /// kept its graph driver is not in a version.
    pub fn of_version(version: &str) -> Option<Self> {
        let mut numbers = version.split(['.', '-', '+', '~']).map(str::parse::<u32>);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(match (major, minor) {
            (29.., _) => Self::Containerd,
            (21.., _) | (20, 10..) => Self::Graph,
            _ => Self::GraphBefore20,
        })
    }
}

/// What a registry wants before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// Nothing.
    None,
    /// A name and a password at each request.
    Basic,
    /// A token, for each pull anew.
    Bearer,
}

/// What came of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Nothing was asked for: the digest is there already, or the attempt failed before.
    Nothing,
    /// The tag is what is there already.
    Unchanged,
    /// It was fetched: a manifest, behind an index where there is one, its configuration and its layers.
    Fetched {
        /// Whether the image is for several platforms.
        is_index: bool,
        /// How many layers were not there.
        layers: u64,
    },
    /// There is no such manifest (404), or the registry refuses this one (401, 403) after authentication.
    Refused,
    /// The pull quota is spent: the HEAD is answered, and the GET is 429.
    QuotaSpent,
    /// 429, whatever is asked.
    TooMany,
    /// 5xx, whatever is asked.
    Broken,
    /// The node has no credentials, or the token server refuses them.
    NoCredentials,
    /// The registry cannot be reached: it answers nothing.
    Unreachable,
}

impl Pulled {
    /// Whether its GETs of a manifest were answered with one: what Docker Hub counts as pulls. It has not counted
    /// those that it denies since February 2022 (hub-feedback#2197).
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Unchanged | Self::Fetched { .. })
    }
}

/// How many HEADs containerd sends in all for one that is answered 429: `resolver.go` tries five times without a pause.
const CONTAINERD_TRIES: u64 = 5;

/// What a pull asks for; of an image that `is_pinned` by its digest there is nothing to look up.
pub const fn requests(engine: Engine, authentication: Authentication, is_pinned: bool, pulled: Pulled) -> Requests {
    let none = Requests { checks: 0, tokens: 0, manifest_heads: 0, manifest_gets: 0, blobs: 0 };
    let is_bearer = matches!(authentication, Authentication::Bearer);
    let is_open = matches!(authentication, Authentication::None);
    let token = if is_bearer { 1 } else { 0 };
    match (engine, pulled) {
        (_, Pulled::Nothing | Pulled::Unreachable) => none,
        (Engine::Containerd, _) => {
            // It learns from a first HEAD what is wanted; 429 is tried again, and the first one counts among the tries.
            let first = if is_open { 0 } else { 1 };
            let (heads, gets, blobs) = match pulled {
                Pulled::NoCredentials => return Requests { manifest_heads: 1, tokens: token, ..none },
                Pulled::TooMany => (CONTAINERD_TRIES - first, 0, 0),
                // The HEAD tells the digest; the GET of its content is tried as often.
                Pulled::QuotaSpent => (1, CONTAINERD_TRIES, 0),
                Pulled::Broken => (2, 0, 0),
                Pulled::Fetched { is_index, layers, .. } => (1, if is_index { 2 } else { 1 }, 1 + layers),
                _ => (1, 0, 0),
            };
            Requests { checks: 0, tokens: token, manifest_heads: first + heads, manifest_gets: gets, blobs }
        }
        (_, Pulled::NoCredentials) => Requests { checks: 1, tokens: token, ..none },
        (_, pulled) => {
            let is_old = matches!(engine, Engine::GraphBefore20);
            // Content that is there from another repository is looked up in this one by its digest.
            let is_looked_up = !is_pinned || matches!(pulled, Pulled::Unchanged);
            let heads = if is_old || !is_looked_up { 0 } else { 1 };
            let (gets, blobs) = match pulled {
                Pulled::Unchanged if is_old => (1, 0),
                Pulled::Unchanged => (0, 0),
                Pulled::Fetched { is_index, layers, .. } => (if is_index { 2 } else { 1 }, 1 + layers),
                // A HEAD that fails is followed by a GET, whose answer has the words.
                _ => (1, 0),
            };
            // Who answers so to the version check does not say where tokens are.
            let is_barred = matches!(pulled, Pulled::TooMany | Pulled::Broken);
            let tokens = if is_barred { 0 } else { token };
            Requests { checks: 1, tokens, manifest_heads: heads, manifest_gets: gets, blobs }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks, tokens, HEADs, GETs, blobs.
    fn row(engine: Engine, authentication: Authentication, pulled: Pulled) -> [u64; 5] {
        let asked = requests(engine, authentication, false, pulled);
        [asked.checks, asked.tokens, asked.manifest_heads, asked.manifest_gets, asked.blobs]
    }

    #[test]
    fn a_graph_driver_asks_as_the_registrys_log_says() {
        use Authentication::{Basic, Bearer};
        let row = |authentication, pulled| row(Engine::Graph, authentication, pulled);
        assert_eq!(row(Basic, Pulled::Unchanged), [1, 0, 1, 0, 0]);
        assert_eq!(row(Bearer, Pulled::Unchanged), [1, 1, 1, 0, 0]);
        assert_eq!(row(Bearer, Pulled::Fetched { is_index: false, layers: 1 }), [1, 1, 1, 1, 2]);
        assert_eq!(row(Bearer, Pulled::Fetched { is_index: true, layers: 3 }), [1, 1, 1, 2, 4]);
        let by_digest = |pulled| {
            let asked = requests(Engine::Graph, Basic, true, pulled);
            [asked.checks, asked.tokens, asked.manifest_heads, asked.manifest_gets, asked.blobs]
        };
        assert_eq!(by_digest(Pulled::Fetched { is_index: false, layers: 1 }), [1, 0, 0, 1, 2]);
        assert_eq!(by_digest(Pulled::QuotaSpent), [1, 0, 0, 1, 0]);
        assert_eq!(by_digest(Pulled::Unchanged), [1, 0, 1, 0, 0], "its content came with another repository");
        for pulled in [Pulled::Refused, Pulled::QuotaSpent] {
            assert_eq!(row(Bearer, pulled), [1, 1, 1, 1, 0], "{pulled:?}");
        }
        for pulled in [Pulled::TooMany, Pulled::Broken] {
            assert_eq!(row(Bearer, pulled), [1, 0, 1, 1, 0], "{pulled:?}");
        }
        assert_eq!(row(Basic, Pulled::NoCredentials), [1, 0, 0, 0, 0]);
        assert_eq!(row(Bearer, Pulled::NoCredentials), [1, 1, 0, 0, 0]);
        for pulled in [Pulled::Nothing, Pulled::Unreachable] {
            assert_eq!(row(Basic, pulled), [0; 5], "{pulled:?}");
        }
    }

    #[test]
    fn other_engines_ask_in_ways_of_their_own() {
        use Authentication::{Basic, Bearer, None};
        assert_eq!(row(Engine::GraphBefore20, Bearer, Pulled::Unchanged), [1, 1, 0, 1, 0]);
        let row = |authentication, pulled| row(Engine::Containerd, authentication, pulled);
        assert_eq!(row(Basic, Pulled::Unchanged), [0, 0, 2, 0, 0]);
        assert_eq!(row(Bearer, Pulled::Unchanged), [0, 1, 2, 0, 0]);
        assert_eq!(row(None, Pulled::Unchanged), [0, 0, 1, 0, 0]);
        assert_eq!(row(Basic, Pulled::Refused), [0, 0, 2, 0, 0]);
        assert_eq!(row(Basic, Pulled::TooMany), [0, 0, 5, 0, 0]);
        assert_eq!(row(None, Pulled::TooMany), [0, 0, 5, 0, 0]);
        assert_eq!(row(Basic, Pulled::Fetched { is_index: true, layers: 2 }), [0, 0, 2, 2, 3]);
    }

    #[test]
    fn an_engine_is_known_by_its_version() {
        for (version, engine) in [
            ("20.10.24+dfsg1", Some(Engine::Graph)),
            ("28.5.2+dfsg4", Some(Engine::Graph)),
            ("29.7.2", Some(Engine::Containerd)),
            ("19.03.15", Some(Engine::GraphBefore20)),
            ("18.06.1-ce", Some(Engine::GraphBefore20)),
            ("", Option::None),
            ("dev", Option::None),
        ] {
            assert_eq!(Engine::of_version(version), engine, "{version}");
        }
    }

    #[test]
    fn requests_add_up() {
        let asked = requests(Engine::Graph, Authentication::Bearer, false, Pulled::Refused);
        assert_eq!((asked.all(), asked.manifests()), (4, 2));
        assert_eq!([asked, asked * 2].into_iter().sum::<Requests>(), asked * 3);
    }
}
