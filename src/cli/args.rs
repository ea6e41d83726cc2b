use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;

use crate::config::{LogSource, parse_duration, parse_response};
use crate::lint::Level;
use crate::model::Response;

/// Finds the Docker Swarm services that restart-loop and ask the registry again at every try, and says why.
#[derive(Debug, Parser)]
#[command(
    name = "squall",
    version,
    max_term_width = 100,
    after_help = "\
Exit status: 0 nothing found, 1 storms or findings, 2 it could not do its work."
)]
pub(super) struct Args {
    /// Settings to use [default: /etc/squall/squall.toml, if it is there]
    #[arg(long, short = 'c', global = true, value_name = "FILE", env = "SQUALL_CONFIG")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Judge recordings, offline: docker events, task listings, dockerd's log
    Replay(Replay),
    /// Look once at a live Docker: storms now
    Audit(Audit),
    /// The daemon: say each storm's onset, change of cause and end
    ///
    /// On SIGHUP it reads its settings again; if anything in them is wrong, the old ones stay.
    Watch(Watch),
    /// Look on, live: storms, what is held, registries; it changes nothing
    Top(Top),
    /// List what is held, since when, why, and what happens next
    Status(Status),
    /// Ask a running squall watch whether it sees what it should, as a container's health check
    Health(Health),
    /// Hold a service now, as the breaker would
    Quarantine(Quarantine),
    /// Give a held service back exactly as it was
    Release(Release),
    /// What was: storms, failures and actions of each service, from the journal
    Report(Report),
    /// Send a receiver a drill, list the alerts that wait or were refused, and send those again
    Alert(Alert),
    /// Ask registries what is left of a pull budget; it costs no pull
    Budget(Budget),
    /// Say what a stack would cost if it looped, before it is deployed
    Lint(Lint),
    /// Make a recording that replay reads
    Record(Record),
    /// Make, check or show settings
    Config(Config),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all of them
    Man(Man),
}

#[derive(Debug, ClapArgs)]
pub(super) struct Replay {
    /// Files, directories (each a recording), or - for standard input; .gz is read too
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// How to print the report
    #[arg(long, short = 'f', value_enum, default_value_t)]
    pub(super) format: ReportFormat,
}

/// Which Docker to talk to.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Docker {
    /// Daemon socket, as docker's own flag: unix://, tcp://, ssh:// [env: DOCKER_HOST]
    #[arg(long, short = 'H', value_name = "URL")]
    pub(super) host: Option<String>,
    /// Docker context to use [env: DOCKER_CONTEXT]
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    pub(super) context: Option<String>,
}

/// Which Docker to talk to, and where its log is.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Daemon {
    #[command(flatten)]
    pub(super) docker: Docker,
    /// dockerd's log: journal, none, or a file's path [default: journal]
    #[arg(long, value_name = "SOURCE", value_parser = LogSource::parse)]
    pub(super) log: Option<LogSource>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Audit {
    #[command(flatten)]
    pub(super) daemon: Daemon,
    /// Watch so long before judging; without it, history alone tells
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(super) watch_for: Option<Duration>,
    /// Report too which services would make a costly storm if they failed
    #[arg(long)]
    pub(super) risks: bool,
    /// How to print the report
    #[arg(long, short = 'f', value_enum, default_value_t)]
    pub(super) format: ReportFormat,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Watch {
    #[command(flatten)]
    pub(super) daemon: Daemon,
    /// Print notices as JSON lines on standard output too
    #[arg(long, short = 'f', value_enum, default_value_t)]
    pub(super) format: WatchFormat,
    /// Act on storms: of the services that are opted in, or of all. Without it, say what would have been done
    #[arg(
        long,
        value_enum,
        value_name = "WHOM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "opted-in"
    )]
    pub(super) enforce: Option<Whom>,
    /// What is done where no label says it: observe, pause, scale-to-zero, backoff [default: observe]
    #[arg(long, value_name = "RESPONSE", value_parser = parse_response)]
    pub(super) response: Option<Response>,
    #[command(flatten)]
    pub(super) journal: Journal,
}

/// Whose storms are acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Whom {
    /// Services with a label squall.response, and those of the allow-list
    OptedIn,
    /// Every service
    All,
}

/// Where history is.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Journal {
    /// The journal's directory [default: $STATE_DIRECTORY, /var/lib/squall for root, or
    /// ~/.local/state/squall]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Top {
    /// Look at what a running squall shows, as http://127.0.0.1:9765, instead of at Docker itself
    #[arg(long, value_name = "URL", conflicts_with_all = ["host", "context", "log"])]
    pub(super) url: Option<String>,
    /// File with the token that it wants [default: what SQUALL_TOKEN holds]
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(super) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) docker: Docker,
    /// How to print it
    #[arg(long, short = 'f', value_enum, default_value_t)]
    pub(super) format: ListFormat,
    #[command(flatten)]
    pub(super) journal: Journal,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Exit status: 0 well, 1 it does not see what it should, 2 it could not be asked.")]
pub(super) struct Health {
    /// Where it answers [default: as the settings' [serve] says]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Quarantine {
    /// Services, by name or id
    #[arg(required = true, value_name = "SERVICE")]
    pub(super) services: Vec<String>,
    #[command(flatten)]
    pub(super) docker: Docker,
    /// How: pause, scale-to-zero, or backoff, which a daemon with --enforce goes on with
    #[arg(long, value_name = "RESPONSE", value_parser = parse_response, default_value = "scale-to-zero")]
    pub(super) response: Response,
    /// Take healthy replicas away too
    #[arg(long)]
    pub(super) even_healthy: bool,
    #[command(flatten)]
    pub(super) journal: Journal,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Release {
    /// Services, by name or id; containers of this node, by name
    #[arg(required_unless_present = "all", value_name = "SERVICE")]
    pub(super) services: Vec<String>,
    /// Every service that is held
    #[arg(long, conflicts_with = "services")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) docker: Docker,
    #[command(flatten)]
    pub(super) journal: Journal,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Report {
    /// How far back
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    pub(super) since: Duration,
    /// Only this service
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    /// Who asked registries, and how often, instead of what failed
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) by: Option<By>,
    /// How to print it
    #[arg(long, short = 'f', value_enum, default_value_t)]
    pub(super) format: ListFormat,
    #[command(flatten)]
    pub(super) journal: Journal,
}

/// What requests are summed up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum By {
    /// Each service
    Service,
    /// Each stack
    Stack,
    /// Each deployment of a service
    Deployment,
    /// Each registry
    Registry,
    /// Each node
    Node,
}

impl By {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Stack => "stack",
            Self::Deployment => "deployment",
            Self::Registry => "registry",
            Self::Node => "node",
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct Alert {
    #[command(subcommand)]
    pub(super) action: AlertAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum AlertAction {
    /// Send a drill, and show the answer; at PagerDuty and Alertmanager it resolves itself
    Test {
        /// The receiver; without it all of them
        #[arg(value_name = "RECEIVER")]
        receiver: Option<String>,
    },
    /// Have the running squall watch send again the alerts that receivers have refused for good
    ///
    /// They go out under their own ids, so that a receiver knows one that it has after all. If no squall watch has taken
    /// them up after ten seconds, the next one that starts on this state directory does.
    Resend {
        /// The alert, by its id in squall alert list
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// All of them
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        journal: Journal,
    },
    /// List the alerts that wait for a receiver, and those that one has refused for good
    List {
        /// How to print it
        #[arg(long, short = 'f', value_enum, default_value_t)]
        format: ListFormat,
        #[command(flatten)]
        journal: Journal,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct Budget {
    /// Registries of the configuration, by name [default: all of them, and docker.io]
    #[arg(value_name = "REGISTRY")]
    pub(super) registries: Vec<String>,
    /// How to print it
    #[arg(long, short = 'f', value_enum, default_value_t)]
    pub(super) format: ReportFormat,
    /// Whose pulls they were, and when it runs out, by this journal of squall watch
    #[command(flatten)]
    pub(super) journal: Journal,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Lint {
    /// Compose files, one over the other as docker stack deploy -c FILE -c FILE; - is standard input
    #[arg(required = true, value_name = "STACK.yml")]
    pub(super) files: Vec<String>,
    /// How to print it
    #[arg(long, short = 'f', value_enum, default_value_t)]
    pub(super) format: LintFormat,
    /// Exit with 1 where a finding is so bad or worse
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    pub(super) fail_on: LintLevel,
    /// How many nodes a global service runs on, which no file says
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000), default_value_t = 1)]
    pub(super) nodes: u64,
    /// How many pulls Docker Hub allows in 6 h: 100 without a login, 200 with a free account's [default: that of its
    /// [[registry]] in the configuration, or 100]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(super) budget: Option<u64>,
    /// Do not look for the sources of bind mounts on this host
    #[arg(long)]
    pub(super) no_host: bool,
}

/// From which level on findings make the exit status 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LintLevel {
    /// Any finding
    Note,
    /// What makes a storm possible, or worse
    #[default]
    Warning,
    /// What alone would shut others out
    Error,
}

impl From<LintLevel> for Level {
    fn from(level: LintLevel) -> Self {
        match level {
            LintLevel::Note => Self::Note,
            LintLevel::Warning => Self::Warning,
            LintLevel::Error => Self::Error,
        }
    }
}

/// How lint prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LintFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Record {
    #[command(flatten)]
    pub(super) daemon: Daemon,
    /// The directory to make; it must not exist, or be empty
    #[arg(long, short = 'o', value_name = "DIR")]
    pub(super) output: PathBuf,
    /// Stop after so long [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(super) record_for: Option<Duration>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Config {
    #[command(subcommand)]
    pub(super) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigAction {
    /// Print a file with every key, its default and its meaning
    Init,
    /// Check a file: all for which squall watch would not start, each with its line
    Check {
        /// The file [default: that of --config, or /etc/squall/squall.toml if it is there]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the settings in force
    Show,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Man {
    /// Write the pages of squall, of each command and of the settings here
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
    /// A Nagios plugin's line and exit code
    Nagios,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ListFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object
    Json,
}

/// What watch prints on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum WatchFormat {
    /// Nothing: notices are log lines on standard error
    #[default]
    Log,
    /// One JSON object a line
    Json,
}
