use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{LogSource, parse_duration};

/// Finds the Docker Swarm services that restart-loop and ask the registry again at every try, and says why.
#[derive(Debug, Parser)]
#[command(
    name = "squall",
    version,
    max_term_width = 100,
    after_help = "\
Exit status: 0 nothing found, 1 storms found, 2 it could not do its work."
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
    Watch(Watch),
    /// Make a recording that replay reads
    Record(Record),
    /// Make, check or show settings
    Config(Config),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
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
pub(super) struct Daemon {
    /// Daemon socket, as docker's own flag: unix://, tcp://, ssh:// [env: DOCKER_HOST]
    #[arg(long, short = 'H', value_name = "URL")]
    pub(super) host: Option<String>,
    /// Docker context to use [env: DOCKER_CONTEXT]
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    pub(super) context: Option<String>,
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
    /// Check a file
    Check,
    /// Print the settings in force
    Show,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object, schema squall.report/1
    Json,
    /// A Nagios plugin's line and exit code
    Nagios,
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
