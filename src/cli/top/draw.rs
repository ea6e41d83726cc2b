//! The view on a terminal's cells. What is meant is said by words and marks; colour only says it again.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::rows::{Section, Tone};
use super::text::{bars, count, fit, pad, width, wrap};
use super::view::{Looked, View};
use crate::cli::render::clock;
use crate::model::Status;

/// The smallest terminal that the view is drawn on.
const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 10;
/// From here there is room for the words of the selected row beneath the table.
const PEEK_HEIGHT: u16 = 18;
/// From here there is room for two lines of each.
const WORDS_HEIGHT: u16 = 22;
/// From here there is room for the last day above the table.
const DAY_HEIGHT: u16 = 30;

/// Whether colour is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// The sixteen colours of the terminal's own theme.
    Colour,
    /// Bold, dim and reverse only.
    Plain,
}

impl Paint {
    pub(super) fn of(self, tone: Tone) -> Style {
        let style = Style::new();
        let coloured = |colour| if self == Self::Colour { style.fg(colour) } else { style };
        match tone {
            Tone::Plain => style,
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Dim => coloured(Color::DarkGray).add_modifier(if self == Self::Plain {
                Modifier::DIM
            } else {
                Modifier::empty()
            }),
            Tone::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Warn => coloured(Color::Yellow),
            Tone::Good => coloured(Color::Green),
        }
    }

    pub(super) fn accent(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self == Self::Colour { style.fg(Color::Cyan) } else { style }
    }

    /// The selected row and the tab that is open.
    pub(super) fn selected(self) -> Style {
        match self {
            Self::Colour => Style::new().fg(Color::Black).bg(Color::Cyan).add_modifier(Modifier::BOLD),
            Self::Plain => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
        }
    }
}

/// Draws the view into these cells.
pub fn draw(view: &mut View, paint: Paint, area: Rect, buffer: &mut Buffer) {
    let mut page = Page { paint, area, buffer };
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        page.line(area.y + area.height / 2, &[("terminal too small", Style::new())]);
        page.line(area.y + area.height / 2 + 1, &[(&format!("needs {WIDTH_MIN}x{HEIGHT_MIN}"), paint.of(Tone::Dim))]);
        return;
    }
    let mut y = area.y;
    page.head(view, &mut y);
    page.tabs(view, y);
    let last = area.bottom() - 1;
    page.foot(view, last);
    let body = Rect { y: y + 1, height: last - y - 1, ..area };
    if view.has_help {
        page.help(body);
    } else if view.has_detail && area.height < PEEK_HEIGHT {
        page.detail(view, body);
    } else if view.has_detail {
        let lines = page.detail_lines(view).len() + 1;
        let height = u16::try_from(lines).unwrap_or(u16::MAX).clamp(4, body.height * 2 / 3);
        page.table(view, Rect { height: body.height - height, ..body });
        page.detail(view, Rect { y: body.bottom() - height, height, ..body });
    } else if area.height >= PEEK_HEIGHT && !view.rows.is_empty() {
        let height = if area.height >= WORDS_HEIGHT { 5 } else { 3 };
        page.table(view, Rect { height: body.height - height, ..body });
        page.peek(view, Rect { y: body.bottom() - height, height, ..body });
    } else {
        page.table(view, body);
    }
}

/// The cells, and how they are painted.
pub(super) struct Page<'a> {
    pub(super) paint: Paint,
    pub(super) area: Rect,
    pub(super) buffer: &'a mut Buffer,
}

impl Page<'_> {
    /// Writes parts one after another; what has no room is cut off.
    pub(super) fn line(&mut self, y: u16, parts: &[(&str, Style)]) {
        if y >= self.area.bottom() {
            return;
        }
        let (mut x, end) = (self.area.x, self.area.right());
        for (text, style) in parts {
            let text = fit(text, usize::from(end.saturating_sub(x)));
            x = self.buffer.set_stringn(x, y, text, usize::from(end.saturating_sub(x)), *style).0;
        }
    }

    /// Writes at the right end; returns how many cells are left of it, with one between.
    pub(super) fn right(&mut self, y: u16, text: &str, style: Style) -> usize {
        let room = usize::from(self.area.width);
        let text = fit(text, room / 2);
        let wide = width(&text);
        let x = self.area.right() - u16::try_from(wide + 1).unwrap_or(0).min(self.area.width);
        self.buffer.set_stringn(x, y, text, wide, style);
        room.saturating_sub(wide + 2)
    }

    pub(super) fn rule(&mut self, y: u16, title: &str) {
        let dim = self.paint.of(Tone::Dim);
        let title = fit(title, usize::from(self.area.width).saturating_sub(6));
        let rest = usize::from(self.area.width).saturating_sub(width(&title) + 4);
        if title.is_empty() {
            self.line(y, &[(&"─".repeat(rest + 4), dim)]);
        } else {
            let rest = "─".repeat(rest);
            self.line(y, &[("─ ", dim), (&title, self.paint.accent()), (" ", dim), (&rest, dim)]);
        }
    }

    pub(super) fn parts(&mut self, y: u16, parts: Vec<(String, Style)>) {
        let parts: Vec<_> = parts.iter().map(|(text, style)| (&**text, *style)).collect();
        self.line(y, &parts);
    }

    fn head(&mut self, view: &View, y: &mut u16) {
        let paint = self.paint;
        let dim = paint.of(Tone::Dim);
        let time = format!("{} UTC", clock(view.now));
        let room = if view.is_paused {
            self.right(*y, &format!("PAUSED {time}"), Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD))
        } else {
            self.right(*y, &time, Style::new())
        };
        let node = view.status.as_ref().map_or("", |status| &*status.node);
        let about = view.status.as_ref().map_or(Vec::new(), |status| about(status, view.looked));
        let node = fit(node, room.saturating_sub(9));
        let about = as_many(&about, room.saturating_sub(12 + width(&node)));
        self.line(
            *y,
            &[(" squall", paint.accent()), ("  ", dim), (&node, paint.of(Tone::Strong)), ("  ", dim), (&about, dim)],
        );
        *y += 1;
        let (tone, health) = view.health();
        let room = self.right(*y, &health, paint.of(tone));
        let (mark, tone, verdict) = view.verdict();
        let strong = paint.of(tone).add_modifier(Modifier::BOLD);
        self.line(*y, &[(" ", dim), (&fit(&format!("{mark} {verdict}"), room.saturating_sub(2)), strong)]);
        *y += 1;
        if let Some(trouble) = view.trouble() {
            let style = match paint {
                Paint::Colour => Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD),
                Paint::Plain => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
            };
            let room = usize::from(self.area.width);
            let lines = if self.area.height < PEEK_HEIGHT { vec![trouble] } else { wrap(&trouble, room - 4) };
            for (at, line) in lines.iter().take(3).enumerate() {
                let mark = if at == 0 { '▲' } else { ' ' };
                self.line(*y, &[(&pad(&format!(" {mark} {line}"), room, false), style)]);
                *y += 1;
            }
        }
        if self.area.height >= DAY_HEIGHT
            && let Some(status) = &view.status
            && !status.history.is_empty()
        {
            let (day, words) = day(status, usize::from(self.area.width) / 2);
            self.line(*y, &[("   24 h ", dim), (&day, paint.accent()), ("  ", dim), (&words, dim)]);
            *y += 1;
        }
        if self.area.height >= PEEK_HEIGHT {
            *y += 1;
        }
    }

    fn tabs(&mut self, view: &View, y: u16) {
        let titles = Section::ALL.map(|section| {
            let count = view.status.as_ref().map_or(0, |status| section.count(status));
            let figure = if count > 0 { format!(" {}", self::count(count)) } else { String::new() };
            (section, format!(" {}{figure} ", section.title()))
        });
        let (selected, plain, dim) = (self.paint.selected(), Style::new(), self.paint.of(Tone::Dim));
        let all: usize = titles.iter().map(|(_, title)| width(title)).sum();
        if all <= usize::from(self.area.width) {
            let style = |section, title: &str| match section == view.section {
                true => selected,
                // A section with nothing in it is pale.
                false if title.chars().any(|char| char.is_ascii_digit()) => plain,
                false => dim,
            };
            let parts: Vec<_> = titles.iter().map(|(section, title)| (&**title, style(*section, title))).collect();
            self.line(y, &parts);
        } else if let Some((_, title)) = titles.iter().find(|(section, _)| *section == view.section) {
            let at = format!(" {} of {}  Tab: next", view.section as usize + 1, Section::ALL.len());
            self.line(y, &[(title, selected), (&at, dim)]);
        }
    }

    fn foot(&mut self, view: &View, y: u16) {
        let (dim, plain) = (self.paint.of(Tone::Dim), Style::new());
        if view.is_typing || !view.filter.is_empty() {
            let found = format!("{} of {}", view.rows.len(), view.all_rows);
            self.right(y, &found, dim);
            let cursor = if view.is_typing { " " } else { "" };
            let hint = if view.is_typing { "   Enter keeps, Esc clears" } else { "   Esc clears" };
            let reversed = plain.add_modifier(Modifier::REVERSED);
            let filter = fit(&view.filter, usize::from(self.area.width) / 2);
            let parts = [(" /", self.paint.accent()), (&*filter, plain), (cursor, reversed), (hint, dim)];
            self.line(y, &parts);
            return;
        }
        let more = view.status.as_ref().map_or(0, |status| status.storms_left_out);
        if more > 0 && view.section == Section::Storms {
            self.right(y, &format!("{} more storms are not listed", count(more)), dim);
        }
        let keys = [
            ("?", "help"),
            ("q", "quit"),
            ("Enter", if view.has_detail { "close" } else { "detail" }),
            ("Tab", "section"),
            ("/", "filter"),
            ("s", "sort"),
            ("p", if view.is_paused { "go on" } else { "pause" }),
        ];
        let mut parts = Vec::new();
        let mut room = usize::from(self.area.width) / if more > 0 { 2 } else { 1 };
        for (key, word) in keys {
            let wide = key.len() + word.len() + 3;
            if wide > room {
                break;
            }
            room -= wide;
            parts.extend([(format!(" {key}"), self.paint.accent()), (format!(" {word} "), dim)]);
        }
        self.parts(y, parts);
    }

    fn help(&mut self, area: Rect) {
        const KEYS: [(&str, &str); 13] = [
            ("↑ ↓  j k", "select; the selection follows the storm"),
            ("PgUp PgDn", "a page; in a detail: scroll it"),
            ("Home End", "first and last; g and G too"),
            ("Enter →", "detail of the selected; again, ← closes"),
            ("Tab", "next section; Shift-Tab: the one before"),
            ("/", "filter: service, stack, cause, node ..."),
            ("s  1-9", "sort by the next, or that column"),
            ("S", "sort the other way round"),
            ("p", "pause, and go on"),
            ("Esc", "close, clear the filter, or quit"),
            ("q  Ctrl-C", "quit"),
            ("● ■ ○", "storms, held, over"),
            ("▲ ✓", "look at this, well"),
        ];
        let room = usize::from(area.height).saturating_sub(1);
        self.rule(area.y, "Keys");
        for ((key, words), y) in KEYS.iter().take(room).zip(area.y + 1..) {
            self.line(y, &[(&format!(" {} ", pad(key, 10, false)), self.paint.accent()), (words, Style::new())]);
        }
    }
}

/// What the node is, and what squall does there.
fn about(status: &Status, looked: Looked) -> Vec<String> {
    let role = match (&*status.role, status.leads) {
        ("manager", true) => "manager, leads",
        ("plain", _) => "no Swarm",
        (role, _) => role,
    };
    let acts = match (looked, status.acts) {
        (Looked::Docker, _) => "looking only",
        (Looked::Daemon, true) => "acts",
        (Looked::Daemon, false) => "observes",
    };
    let engine = if status.engine.is_empty() { String::new() } else { format!("Docker {}", status.engine) };
    let version = format!("squall {}", status.version);
    let parts = [role.to_owned(), acts.to_owned(), engine, version];
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// As many of the parts as have room.
fn as_many(parts: &[String], room: usize) -> String {
    let joined = (1..=parts.len()).rev().map(|count| parts[..count].join(" · "));
    joined.into_iter().find(|text| width(text) <= room).unwrap_or_default()
}

/// The failures of the last day as bars, and what the highest stands for.
fn day(status: &Status, room: usize) -> (String, String) {
    let part = status.history.len().div_ceil(room.clamp(1, 48));
    #[expect(clippy::cast_precision_loss, reason = "it is drawn")]
    let failed: Vec<Option<f64>> = status
        .history
        .chunks(part)
        .map(|part| Some(part.iter().map(|bucket| bucket.failed).sum::<u64>() as f64))
        .collect();
    let all: u64 = status.history.iter().map(|bucket| bucket.failed).sum();
    let gaps = if status.history.iter().any(|bucket| bucket.has_gap) { ", with gaps" } else { "" };
    (bars(&failed), format!("{} failed tries{gaps}", count(all)))
}
