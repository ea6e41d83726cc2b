//! The live view as a pure state machine: a [`Status`] in, keys in, what to draw out. It reads no clock and no
//! terminal; the time comes with each update.

use super::rows::{Row, Section, Tone, rows};
use super::text::{clean_status, cleaned, rate};
use super::trend::Trends;
use crate::cli::render::clock;
use crate::model::{Status, StormState, Timestamp};

/// The longest filter, in characters.
const FILTER_CHARS_MAX: usize = 64;

/// A key, as the view knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// A character with Ctrl held.
    Ctrl(char),
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Shift and Tab.
    BackTab,
    /// Backspace.
    Backspace,
}

/// What a key led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The view goes on.
    Goes,
    /// The program is to be suspended, as the shell's Ctrl-Z does.
    Suspends,
    /// The view ends.
    Quits,
}

/// What a source tells.
#[derive(Clone, Debug)]
pub enum Update {
    /// How things are.
    Status(Box<Status>),
    /// Why that cannot be told.
    Trouble(String),
}

/// Whom the view looks at: it is named where it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Docker itself.
    Docker,
    /// A running daemon of squall's.
    Daemon,
}

/// Where one section's table stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The key of the selected row: the selection follows the thing, not the line.
    key: Option<String>,
    /// The line that it was on last, for when the thing has gone.
    pub(super) selected: usize,
    /// The first line that is seen.
    pub(super) first: usize,
    pub(super) sorted_by: Option<usize>,
    pub(super) is_reversed: bool,
}

/// The live view.
#[derive(Debug)]
pub struct View {
    pub(super) looked: Looked,
    pub(super) status: Option<Box<Status>>,
    /// What came while the view was paused; only the newest is kept.
    waiting: Option<Box<Status>>,
    pub(super) is_paused: bool,
    trouble: Option<(Timestamp, String)>,
    pub(super) now: Timestamp,
    pub(super) section: Section,
    places: [Place; Section::ALL.len()],
    pub(super) rows: Vec<Row>,
    /// How many rows the section has without the filter.
    pub(super) all_rows: usize,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) has_detail: bool,
    /// The first line of the detail pane that is seen.
    pub(super) detail_first: usize,
    pub(super) has_help: bool,
    pub(super) trends: Trends,
    /// How many rows were drawn last.
    page: usize,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("key", &self.key).finish_non_exhaustive()
    }
}

impl View {
    /// A view that has seen nothing yet.
    pub fn new(looked: Looked, now: Timestamp) -> Self {
        let place = |section: Section| Place { sorted_by: section.sorted_by(), ..Place::default() };
        Self {
            looked,
            status: None,
            waiting: None,
            is_paused: false,
            trouble: None,
            now,
            section: Section::Storms,
            places: Section::ALL.map(place),
            rows: Vec::new(),
            all_rows: 0,
            filter: String::new(),
            is_typing: false,
            has_detail: false,
            detail_first: 0,
            has_help: false,
            trends: Trends::default(),
            page: 1,
        }
    }

    /// Takes what a source tells. What is there stays when the source is in trouble.
    pub fn take(&mut self, update: Update, now: Timestamp) {
        self.now = now;
        match update {
            Update::Trouble(why) => {
                let since = self.trouble.take().map_or(now, |(since, _)| since);
                self.trouble = Some((since, cleaned(why)));
            }
            Update::Status(mut status) => {
                self.trouble = None;
                clean_status(&mut status);
                self.trends.take(&status);
                if self.is_paused {
                    self.waiting = Some(status);
                } else {
                    self.status = Some(status);
                    self.rebuild();
                }
            }
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Takes a key.
    pub fn press(&mut self, key: Key) -> Flow {
        match key {
            Key::Ctrl('c') => return Flow::Quits,
            Key::Ctrl('z') => return Flow::Suspends,
            _ if self.has_help => {
                self.has_help = false;
                return if key == Key::Char('q') { Flow::Quits } else { Flow::Goes };
            }
            _ if self.is_typing && self.type_filter(key) => return Flow::Goes,
            Key::Char('q') => return Flow::Quits,
            Key::Esc => return self.back(),
            Key::Char('?' | 'h') => self.has_help = true,
            Key::Char('/') => self.is_typing = true,
            Key::Char('p' | ' ') => self.pause(),
            Key::Tab | Key::BackTab => self.turn(key == Key::BackTab),
            Key::Char('s') => self.sort_next(),
            Key::Char('S') => {
                let place = self.place_mut();
                place.is_reversed = !place.is_reversed;
                self.rebuild();
            }
            Key::Char(digit @ '1'..='9') => self.sort_by(digit as usize - '1' as usize),
            Key::Enter if self.has_detail => self.has_detail = false,
            Key::Enter | Key::Right | Key::Char('l') => {
                self.has_detail = !self.rows.is_empty();
                self.detail_first = 0;
            }
            Key::Left => self.has_detail = false,
            Key::PageUp | Key::Ctrl('b') if self.has_detail => {
                self.detail_first = self.detail_first.saturating_sub(self.page.max(4));
            }
            // It is held to the pane's end when it is drawn.
            Key::PageDown | Key::Ctrl('f') if self.has_detail => self.detail_first += self.page.max(4),
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp | Key::Ctrl('b') => self.step(-self.page_step()),
            Key::PageDown | Key::Ctrl('f') => self.step(self.page_step()),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Char(_) | Key::Ctrl(_) | Key::Backspace => {}
        }
        Flow::Goes
    }

    /// The trouble of the source, in one sentence.
    pub(super) fn trouble(&self) -> Option<String> {
        let (since, why) = self.trouble.as_ref()?;
        let who = match self.looked {
            Looked::Docker => "Docker",
            Looked::Daemon => "daemon",
        };
        Some(format!("{who} does not answer since {}: {why}", clock(*since)))
    }

    /// What is the matter, in one sentence.
    pub(super) fn verdict(&self) -> (char, Tone, String) {
        let Some(status) = &self.status else {
            return ('○', Tone::Dim, "waiting for the first answer".to_owned());
        };
        let count = |state| status.storms.iter().filter(|storm| storm.state == state).count();
        let ongoing = u64::try_from(count(StormState::Ongoing)).unwrap_or(u64::MAX) + status.storms_left_out;
        let held = status.quarantines.iter().filter(|held| held.phase != "let-go").count();
        let held = held.max(count(StormState::Quarantined));
        let held_words = if held > 0 { format!(", {held} held") } else { String::new() };
        if ongoing == 0 {
            let (mark, tone) = if held > 0 { ('■', Tone::Warn) } else { ('✓', Tone::Good) };
            return (mark, tone, format!("no storm goes on{held_words}; {} calm", status.calm));
        }
        let going = |storm: &&crate::model::Storm| storm.pulls && storm.state == StormState::Ongoing;
        let asking: f64 = status.storms.iter().filter(going).map(|storm| storm.attempts_per_min).sum();
        let asked = match asking > 0.0 {
            true => format!("registries are asked {}/min", rate(asking)),
            false => "no registry is asked".to_owned(),
        };
        let storms = if ongoing == 1 { "1 storm goes on".to_owned() } else { format!("{ongoing} storms go on") };
        ('●', Tone::Bad, format!("{storms}{held_words}; {asked}; {} calm", status.calm))
    }

    /// Whether squall sees what it should, in as few words as that takes.
    pub(super) fn health(&self) -> (Tone, String) {
        let Some(status) = &self.status else { return (Tone::Dim, String::new()) };
        let health = &status.health;
        let bad: Vec<&str> = health.checks.iter().filter(|check| !check.is_ok).map(|check| &*check.name).collect();
        match (health.is_alive && health.is_ready, bad.is_empty()) {
            (true, true) => (Tone::Good, "✓ healthy".to_owned()),
            (true, false) => (Tone::Warn, format!("▲ {}", bad.join(", "))),
            (false, true) => (Tone::Bad, "▲ not ready".to_owned()),
            (false, false) => (Tone::Bad, format!("▲ not ready: {}", bad.join(", "))),
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.places[self.section as usize]
    }

    /// The selected row.
    pub(super) fn selected(&self) -> Option<&Row> {
        self.rows.get(self.place().selected)
    }

    /// So many rows are seen: moves what is seen so that the selection is among them.
    pub(super) fn fit(&mut self, page: usize) {
        self.page = page.max(1);
        let (page, rows) = (self.page, self.rows.len());
        let place = self.place_mut();
        place.first = place.first.min(place.selected).max((place.selected + 1).saturating_sub(page));
        place.first = place.first.min(rows.saturating_sub(page));
    }

    fn place_mut(&mut self) -> &mut Place {
        &mut self.places[self.section as usize]
    }

    fn page_step(&self) -> isize {
        isize::try_from(self.page.saturating_sub(1).max(1)).unwrap_or(1)
    }

    /// Escape: out of what was opened last, and out of the view at last.
    fn back(&mut self) -> Flow {
        if self.has_detail {
            self.has_detail = false;
        } else if !self.filter.is_empty() {
            self.filter.clear();
            self.rebuild();
        } else {
            return Flow::Quits;
        }
        Flow::Goes
    }

    /// Takes a key into the filter; false where it means something else there too.
    fn type_filter(&mut self, key: Key) -> bool {
        match key {
            Key::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Enter => self.is_typing = false,
            Key::Ctrl('u') => self.filter.clear(),
            Key::Backspace => {
                self.is_typing = self.filter.pop().is_some();
            }
            Key::Char(char) if !char.is_control() && self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(char);
            }
            Key::Char(_) => {}
            _ => return false,
        }
        self.rebuild();
        true
    }

    fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        if let Some(status) = self.waiting.take() {
            self.status = Some(status);
            self.rebuild();
        }
    }

    fn turn(&mut self, is_back: bool) {
        let step = if is_back { Section::ALL.len() - 1 } else { 1 };
        self.section = Section::ALL[(self.section as usize + step) % Section::ALL.len()];
        self.has_detail = false;
        self.rebuild();
    }

    fn sort_next(&mut self) {
        let columns = self.section.columns().len();
        self.sort_by(self.place().sorted_by.map_or(0, |column| (column + 1) % columns));
    }

    /// Sorts by a column; the other way round where it was sorted by that already.
    fn sort_by(&mut self, column: usize) {
        if column >= self.section.columns().len() {
            return;
        }
        let place = self.place_mut();
        place.is_reversed = place.sorted_by == Some(column) && !place.is_reversed;
        place.sorted_by = Some(column);
        self.rebuild();
    }

    fn step(&mut self, by: isize) {
        self.select(self.place().selected.saturating_add_signed(by));
    }

    fn select(&mut self, line: usize) {
        let line = line.min(self.rows.len().saturating_sub(1));
        let key = self.rows.get(line).map(|row| row.key.clone());
        let place = self.place_mut();
        if place.key != key {
            self.detail_first = 0;
        }
        let place = self.place_mut();
        (place.key, place.selected) = (key, line);
    }

    /// Makes the rows anew, and finds the selected one among them.
    fn rebuild(&mut self) {
        let Some(status) = &self.status else { return };
        let mut rows = rows(self.section, status, &self.trends);
        self.all_rows = rows.len();
        let filter = self.filter.to_lowercase();
        let words: Vec<&str> = filter.split_whitespace().collect();
        rows.retain(|row| words.iter().all(|word| row.haystack.contains(word)));
        let place = self.place();
        if let Some(column) = place.sorted_by {
            let is_down = self.section.columns()[column].descends != place.is_reversed;
            rows.sort_by(|a, b| {
                let order = a.cells[column].order.compare(&b.cells[column].order);
                // Equals stay where they are, whichever way round.
                (if is_down { order.reverse() } else { order }).then_with(|| a.key.cmp(&b.key))
            });
        } else if place.is_reversed {
            rows.reverse();
        }
        self.rows = rows;
        let place = self.place();
        let same = self.rows.iter().position(|row| Some(&row.key) == place.key.as_ref());
        self.select(same.unwrap_or(place.selected));
        self.has_detail &= !self.rows.is_empty();
    }
}
