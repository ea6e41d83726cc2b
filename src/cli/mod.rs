//! The command line: one file for each command. Data goes to standard output, talk to standard error.

mod alert;
mod args;
mod audit;
mod budget;
mod config;
mod exit;
mod hand;
mod health;
mod input;
mod lint;
mod live;
mod man;
mod record;
mod reload;
mod render;
mod replay;
mod report;
mod spend;
mod status;
pub mod top;
mod watch;

use clap::Parser;

use args::{Args, Command};
use exit::Exit;

/// Runs the command that the arguments ask for; returns the process's exit status.
pub fn run() -> u8 {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // clap writes help to standard output and mistakes to standard error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Trouble } else { Exit::Calm }.code();
        }
    };
    let result = match args.command {
        Command::Replay(command) => replay::run(&command, args.config.as_deref()),
        Command::Audit(command) => audit::run(&command, args.config.as_deref()),
        Command::Watch(command) => watch::run(&command, args.config.as_deref()),
        Command::Status(command) => status::run(&command, args.config.as_deref()),
        Command::Top(command) => top::run(&command, args.config.as_deref()),
        Command::Health(command) => health::run(&command, args.config.as_deref()),
        Command::Quarantine(command) => hand::quarantine(&command, args.config.as_deref()),
        Command::Release(command) => hand::release(&command, args.config.as_deref()),
        Command::Report(command) => report::run(&command, args.config.as_deref()),
        Command::Alert(command) => alert::run(&command, args.config.as_deref()),
        Command::Budget(command) => budget::run(&command, args.config.as_deref()),
        Command::Lint(command) => lint::run(&command, args.config.as_deref()),
        Command::Record(command) => record::run(&command, args.config.as_deref()),
        Command::Config(command) => config::run(&command, args.config.as_deref()),
        Command::Completions { shell } => config::completions(shell),
        Command::Man(command) => man::run(&command),
    };
    match result {
        Ok(exit) => exit.code(),
        Err(error) => {
            eprintln!("squall: {}", render::printable(&format!("{error:#}")));
            Exit::Trouble.code()
        }
    }
}
