//! `squall top`: the live view. It looks at Docker itself, or at what a running daemon shows; it changes nothing.
//!
//! One loop takes all that can wake it: a key, what the source tells, a signal, the second. It draws after each, and
//! ratatui writes only the cells that changed. The terminal is given back however it ends.

mod detail;
mod draw;
mod pane;
mod rows;
mod source;
mod table;
mod text;
mod trend;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, enable_raw_mode};
use ratatui::{DefaultTerminal, Terminal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

pub use draw::{Paint, draw};
pub use rows::Section;
use source::{Remote, Source};
pub use view::{Flow, Key, Looked, Update, View};

use super::args::Top as Command;
use super::exit::Exit;
use super::{live, render};
use crate::daemon::{Session, wall_clock};

/// How often the clock goes on.
const TICK: Duration = Duration::from_secs(1);
/// Keys that wait: a paste into the terminal waits in the terminal.
const KEYS_MAX: usize = 64;

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    if !io::stdout().is_terminal() {
        bail!("squall top needs a terminal; squall audit prints once");
    }
    let paint = if render::wants_colour() { Paint::Colour } else { Paint::Plain };
    let runtime = live::runtime()?;
    let result = runtime.block_on(async {
        let (source, looked) = source(command, config).await?;
        // From here on the terminal is the view's.
        let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
        let result = show(&source, View::new(looked, wall_clock()), paint, &mut terminal).await;
        let _ = terminal.show_cursor();
        // Where the terminal has gone there is nothing to give back.
        let _ = ratatui::try_restore();
        result
    });
    // A lookup of a name may still be under way on a thread of its own.
    runtime.shutdown_background();
    result?;
    Ok(Exit::Calm)
}

async fn source(command: &Command, config: Option<&Path>) -> anyhow::Result<(Source, Looked)> {
    if let Some(url) = &command.url {
        return Ok((Source::Daemon(Remote::new(url, command.token_file.as_deref())?), Looked::Daemon));
    }
    let config = live::config(config, &command.daemon)?;
    Ok((Source::Docker(Box::new(Session::connect(&config, false).await?)), Looked::Docker))
}

/// Shows the view until a key or a signal ends it.
async fn show(source: &Source, mut view: View, paint: Paint, terminal: &mut DefaultTerminal) -> anyhow::Result<()> {
    let mut keys = read_keys()?;
    let (tell, mut told) = mpsc::channel(1);
    let looking = source.run(tell);
    tokio::pin!(looking);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    loop {
        terminal.draw(|frame| draw(&mut view, paint, frame.area(), frame.buffer_mut()))?;
        tokio::select! {
            key = keys.recv() => match key {
                // The terminal has gone.
                None => return Ok(()),
                Some(None) => {}
                Some(Some(key)) => match view.press(key) {
                    Flow::Goes => {}
                    Flow::Quits => return Ok(()),
                    Flow::Suspends => suspend(terminal)?,
                },
            },
            Some(update) = told.recv() => view.take(update, wall_clock()),
            () = &mut looking => bail!("nothing is looked at any more"),
            _ = ticks.tick() => view.tick(wall_clock()),
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
    }
}

/// Reads the terminal on a thread of its own; an event that is no key only redraws. The thread ends with the process.
fn read_keys() -> io::Result<mpsc::Receiver<Option<Key>>> {
    let (tell, keys) = mpsc::channel(KEYS_MAX);
    let read = move || {
        while let Ok(event) = event::read() {
            let told = match event {
                Event::Key(event) if event.kind != KeyEventKind::Release => match key(event) {
                    Some(key) => tell.blocking_send(Some(key)),
                    None => Ok(()),
                },
                Event::Resize(..) => tell.blocking_send(None),
                _ => Ok(()),
            };
            if told.is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(keys)
}

fn key(event: KeyEvent) -> Option<Key> {
    Some(match event.code {
        KeyCode::Char(char) if event.modifiers.contains(KeyModifiers::CONTROL) => Key::Ctrl(char),
        KeyCode::Char(char) => Key::Char(char),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

/// Gives the terminal back and stops, as the shell's Ctrl-Z does to the whole job; takes it again when it goes on.
fn suspend(terminal: &mut DefaultTerminal) -> io::Result<()> {
    terminal.show_cursor()?;
    ratatui::try_restore()?;
    // The shell is in our job, and stops with it. Without one there is nobody to bring it back either.
    let _ = std::process::Command::new("/bin/sh").args(["-c", "kill -TSTP 0"]).status();
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All))?;
    // A new one draws every cell. `Terminal::clear` asks where the cursor is, and the thread of the keys would get the
    // answer.
    *terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
    Ok(())
}
