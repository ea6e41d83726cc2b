use std::path::Path;

use tokio::time::Instant;

use super::args::Audit as Command;
use super::exit::Exit;
use super::{live, render};
use crate::daemon::{Role, Said, Session};

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    render::for_nagios(command.format, live::runtime()?.block_on(audit(command, config)))
}

async fn audit(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    let config = live::config(config, &command.daemon)?;
    let session = Session::connect(&config, command.risks).await?;
    let mut has_trouble = false;
    let mut said = |said: Said| match said {
        Said::NoLog(why) => {
            live::complain(&format!("dockerd's log cannot be read ({why}): name it with --log FILE, or use --log none"))
        }
        Said::Lost(why) | Said::Trouble(why) => {
            has_trouble = true;
            live::complain(&why);
        }
        // One look answers nothing, and keeps no journal.
        Said::Case(_)
        | Said::Found(_)
        | Said::Gap(_)
        | Said::Back
        | Said::Decided(_)
        | Said::Settled(..)
        | Said::NoJournal(_)
        | Said::JournalBack
        | Said::Role(_) => {}
    };
    session.look(&mut said).await?;
    if let Some(time) = command.watch_for {
        session.run(Some(Instant::now() + time), &mut said).await;
    }
    session.finish();
    let exit = render::print(&session.report(), command.format)?;
    if session.role() == Role::Worker {
        live::complain(&format!(
            "{} is a worker of its Swarm and sees only its own containers: run squall audit on a manager",
            session.info().name
        ));
        has_trouble = true;
    }
    Ok(exit.despite(has_trouble))
}
