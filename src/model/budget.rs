use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Timestamp, on_clock};

/// A pull budget as a registry states it in `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 20;w=21600`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// How many pulls may be made in a window; at least 0.
    pub limit: i64,
    /// How many are left. Docker Hub is known to answer below zero.
    pub remaining: i64,
    /// The rolling window in seconds, where it is said.
    pub window_secs: Option<u64>,
}

impl Budget {
    /// The rolling window.
    pub fn window(&self) -> Option<Duration> {
        self.window_secs.map(Duration::from_secs)
    }

    /// How many pulls of the window are spent; at least 0.
    pub fn spent(&self) -> u64 {
        u64::try_from(self.limit.saturating_sub(self.remaining)).unwrap_or(0)
    }
}

/// What a registry answered when it was asked for its pull budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetReading {
    /// The registry, as image references name it: `docker.io`.
    pub registry: String,
    /// When it was asked.
    pub at: Timestamp,
    /// Who asked: a login's name; `None` where nobody did.
    pub account: Option<String>,
    /// Whom it counts against, in the registry's own words (`docker-ratelimit-source`): an address, a prefix, an
    /// account's id. At most 100 characters.
    pub source: Option<String>,
    /// Pulls of its window that squall had counted by then: counts come by the minute, so that it cannot be told later.
    /// `None` where nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<u64>,
    /// What it said.
    #[serde(flatten)]
    pub answer: BudgetAnswer,
}

on_clock!(BudgetReading { at } rest { registry, account, source, own, answer });

/// See [`BudgetReading`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum BudgetAnswer {
    /// A budget.
    Limited(Budget),
    /// It answered, and states no limit: a paid account, an exempt address, or a registry that counts nothing.
    Unlimited,
    /// 429 to a question that costs no pull: its limit on all requests, or an outage. What is left is not known.
    TooMany,
    /// It wants other credentials, or none.
    Denied {
        /// Its own words, or what squall makes of them.
        why: String,
    },
    /// It did not answer, or not in a way that can be read.
    Failed {
        /// Why.
        why: String,
    },
}

/// How it stands with a registry: what squall knows of its budget, and who spends it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetStanding {
    /// The registry, as image references name it.
    pub registry: String,
    /// Whose budget: a login's name; `None`: this address's.
    pub account: Option<String>,
    /// Whom it counts against, in the registry's own words.
    pub source: Option<String>,
    /// When the registry was asked last; `None`: never.
    pub asked: Option<Timestamp>,
    /// Pulls that it allows within a window: as it said, or else as is known of it or configured.
    pub limit: Option<u64>,
    /// Where the limits are from that it did not state itself.
    pub terms_from: String,
    /// How many are left: as it said, less what squall has seen spent since; `None` where it said nothing.
    pub remaining: Option<i64>,
    /// The window, in seconds.
    pub window_secs: Option<u64>,
    /// Pulls of the last window that squall accounts for.
    pub own: u64,
    /// Pulls of the window before it was asked that squall cannot explain: of others behind the same address, and of what
    /// was before [`watched_since`](Self::watched_since).
    pub others: Option<u64>,
    /// Since when this process counts; what the journal remembers counts too. `None`: that is not known.
    #[serde(default)]
    pub watched_since: Option<Timestamp>,
    /// Pulls a minute of late.
    pub pulls_per_min: f64,
    /// Requests of any kind a minute of late.
    pub requests_per_min: f64,
    /// How many of those it lets pass, where that is known.
    pub requests_per_min_max: Option<u64>,
    /// Services whose image this node lacks, which would not come back here while the registry refuses it: how many, and
    /// the names of the first ten. `None` where nobody looked.
    #[serde(default)]
    pub without_image: Option<(u64, Vec<String>)>,
    /// When the pulls run out; `None` where that cannot be known.
    pub exhaustion: Option<Exhaustion>,
}

/// When a budget runs out, as far as that can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "exhaustion", rename_all = "kebab-case")]
pub enum Exhaustion {
    /// It has.
    Now,
    /// Not at this pace: as much comes back with the window as is spent.
    Never,
    /// Between two moments.
    Between {
        /// The first moment at which it may.
        from: Timestamp,
        /// The last; `None`: perhaps it does not, depending on when what others spent comes back.
        to: Option<Timestamp>,
    },
}
