use serde::{Serialize, Serializer};

use super::place::Place;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know; nothing breaks by it.
    Note,
    /// It makes a storm possible, or a storm worse.
    Warning,
    /// A storm of it alone would shut others out.
    Error,
}

impl Level {
    /// The level as reports and SARIF spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident => $id:literal, $level:ident, $title:literal;)*) => {
        /// What a stack is judged by: a closed set, whose ids stay.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $($(#[$doc])* $rule,)* }

        impl Rule {
            /// Every rule, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$rule,)*];

            /// The id, as reports and SARIF spell it.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$rule => $id,)* }
            }

            /// How bad a finding of it is.
            pub const fn level(self) -> Level {
                match self { $(Self::$rule => Level::$level,)* }
            }

            /// What it is about, in a sentence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$rule => $title,)* }
            }
        }
    };
}

rules! {
    /// All of a stack would ask Docker Hub more often than its abuse limit lets pass.
    AbuseLimit => "abuse-limit", Error, "All services in a loop would meet the registry's abuse limit.";
    /// Nothing ends a loop.
    UnboundedRestarts => "unbounded-restarts", Warning, "A service that fails is restarted for ever.";
    /// `window` is too short for `max_attempts` restarts to fall into it.
    WindowTooShort => "window-too-short", Warning, "The window is too short for the attempt limit to be reached.";
    /// `max_attempts` of a global job.
    LimitNotEnforced => "limit-not-enforced", Warning, "Swarm does not enforce the attempt limit of a global job.";
    /// A restart delay below a second.
    ShortDelay => "short-delay", Warning, "The restart delay is very short.";
    /// A loop would spend the pull budget soon.
    BudgetSoon => "budget-soon", Warning, "A service in a loop would spend the pull budget within an hour.";
    /// No tag, or the tag `latest`.
    LatestTag => "latest-tag", Warning, "The image has no tag, or the tag latest.";
    /// The source of a bind mount is not on this host.
    MissingBindSource => "missing-bind-source", Warning, "The source of a bind mount is missing.";
    /// Docker reads the first document of a file only.
    SecondDocument => "second-document", Warning, "A file has a second document, which docker does not read.";
    /// A tag and no digest.
    UnpinnedTag => "unpinned-tag", Note, "The image is named by a tag, not by a digest.";
    /// `restart` of a service.
    RestartKey => "restart-key", Note, "The key restart is not Swarm's own.";
    /// `pull_policy` of a service.
    PullPolicyUnsupported => "pull-policy-unsupported", Note, "docker stack deploy refuses pull_policy.";
    /// A key that docker's schema does not have.
    KeyUnsupported => "key-unsupported", Note, "docker stack deploy refuses this key.";
    /// `build` of a service.
    BuildIgnored => "build-ignored", Note, "docker stack deploy builds nothing.";
    /// `extends` of a service.
    ExtendsUnsupported => "extends-unsupported", Note, "docker stack deploy refuses extends.";
    /// `${NAME:+...}`.
    SubstitutionUnsupported => "substitution-unsupported", Note, "docker stack deploy refuses this substitution.";
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// Something that a rule says of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// How bad it is.
    pub level: Level,
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// The service; `None` where it is of the whole stack.
    pub service: Option<String>,
    /// What is so, in a sentence.
    pub message: String,
    /// The one change that helps most.
    pub advice: String,
    /// The file's place in the list of files.
    #[serde(skip)]
    pub(super) file_index: usize,
}

impl Finding {
    /// The file is named later, when all of them are known.
    pub(super) fn new(rule: Rule, at: Place, service: Option<&str>, message: String, advice: String) -> Self {
        Self {
            rule,
            level: rule.level(),
            file: String::new(),
            line: at.line,
            column: at.column,
            service: service.map(str::to_owned),
            message,
            advice,
            file_index: at.file,
        }
    }
}
