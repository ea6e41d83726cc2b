use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::{Args, Config as Command, ConfigAction, Journal as Flags};
use super::exit::Exit;
use super::live;
use crate::config::{Config, ConfigError, DEFAULT_PATH};

pub(super) fn run(command: &Command, path: Option<&Path>) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    match &command.action {
        ConfigAction::Init => out.write_all(Config::default().render().as_bytes())?,
        ConfigAction::Show => out.write_all(Config::load(path)?.render().as_bytes())?,
        ConfigAction::Check { file } => {
            let path = file.as_deref().or(path);
            let (config, source) = Config::read(path)?;
            if let Err(error) = live::check(&config, &source, &Flags { state_dir: None }) {
                let ConfigError::Wrong(mistakes) = error else { return Err(error.into()) };
                mistakes.lines().for_each(|line| live::complain(&line));
                return Ok(Exit::Trouble);
            }
            let path = path.unwrap_or(Path::new(DEFAULT_PATH));
            let found = if path.exists() { "good" } else { "not there, squall goes by its defaults" };
            writeln!(out, "{}: {found}", path.display())?;
        }
    }
    Ok(Exit::Calm)
}

/// Prints completions for a shell.
pub(super) fn completions(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "squall", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Calm)
}
