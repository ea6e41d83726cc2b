use super::args::Watch as Command;
use super::exit::Exit;
use std::path::Path;
pub(super) fn run(_command: &Command, _config: Option<&Path>) -> anyhow::Result<Exit> {
    anyhow::bail!("x")
}
