use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::{Args, Config as Command, ConfigAction};
use super::exit::Exit;
use crate::config::{Config, DEFAULT_PATH};

pub(super) fn run(command: &Command, path: Option<&Path>) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    match command.action {
        ConfigAction::Init => out.write_all(Config::default().render().as_bytes())?,
        ConfigAction::Show => out.write_all(Config::load(path)?.render().as_bytes())?,
        ConfigAction::Check => {
            Config::load(path)?;
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
