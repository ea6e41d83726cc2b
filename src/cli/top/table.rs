//! The table of a section: as many columns as the terminal has room for, those that matter most first.

use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

use super::draw::Page;
use super::rows::{Cell, Column, Row, Section, Tone};
use super::text::{pad, width, wrap};
use super::view::{Looked, View};
use crate::model::span_in_words;

/// Cells between columns.
const BETWEEN: usize = 2;
/// The mark before each row, and a space.
const MARK: usize = 2;

impl Page<'_> {
    pub(super) fn table(&mut self, view: &mut View, area: Rect) {
        view.fit(usize::from(area.height.saturating_sub(1)));
        if view.rows.is_empty() {
            self.empty(view, area);
            return;
        }
        let place = view.place();
        let columns = view.section.columns();
        let widths = widths(columns, &view.rows, usize::from(area.width).saturating_sub(MARK + 1));
        let mut heads = vec![("  ".to_owned(), Style::new())];
        for (index, (column, cells)) in columns.iter().zip(&widths).enumerate().filter(|(_, (_, cells))| **cells > 0) {
            let is_sorted = place.sorted_by == Some(index);
            let arrow = match (is_sorted, column.descends == place.is_reversed) {
                (false, _) => "",
                (true, true) => "▲",
                (true, false) => "▼",
            };
            let style = if is_sorted { self.paint.accent() } else { self.paint.of(Tone::Dim) };
            // The arrow stands behind the title, at a right one's in the space between.
            let title = if column.is_right { pad(column.title, *cells, true) } else { column.title.to_owned() };
            heads.push((pad(&format!("{title}{arrow}"), cells + BETWEEN, false), style));
        }
        if let Some((title, _)) = heads.last_mut() {
            title.truncate(title.trim_end().len());
        }
        self.parts(area.y, heads);
        for (line, row) in view.rows.iter().enumerate().skip(place.first).take(usize::from(area.height) - 1) {
            let y = area.y + 1 + u16::try_from(line - place.first).unwrap_or(u16::MAX);
            self.row(y, row, columns, &widths, line == place.selected);
        }
        self.scrollbar(view, area);
    }

    fn row(&mut self, y: u16, row: &Row, columns: &[Column], widths: &[usize], is_selected: bool) {
        let mut parts = vec![(format!("{} ", row.mark), self.paint.of(row.tone))];
        for ((column, cells), cell) in columns.iter().zip(widths).zip(&row.cells).filter(|((_, cells), _)| **cells > 0)
        {
            parts.push((pad(&cell.text, *cells, column.is_right), self.paint.of(cell.tone)));
            parts.push((" ".repeat(BETWEEN), Style::new()));
        }
        parts.pop();
        self.parts(y, parts);
        if is_selected {
            let whole = Rect { y, height: 1, ..self.area };
            for x in whole.left()..whole.right().saturating_sub(1) {
                if let Some(cell) = self.buffer.cell_mut(Position { x, y }) {
                    cell.set_style(Style::reset()).set_style(self.paint.selected());
                }
            }
        }
    }

    /// Says by a bar at the right edge which part of the rows is seen.
    fn scrollbar(&mut self, view: &View, area: Rect) {
        let (page, rows) = (usize::from(area.height) - 1, view.rows.len());
        if rows <= page {
            return;
        }
        let length = (page * page / rows).max(1);
        let start = view.place().first * (page - length) / (rows - page);
        for line in 0..page {
            let is_bar = (start..start + length).contains(&line);
            let y = area.y + 1 + u16::try_from(line).unwrap_or(u16::MAX);
            let (char, tone) = if is_bar { ("┃", Tone::Plain) } else { ("│", Tone::Dim) };
            self.buffer.set_stringn(area.right() - 1, y, char, 1, self.paint.of(tone));
        }
    }

    fn empty(&mut self, view: &View, area: Rect) {
        let is_known = view.status.is_some();
        let (words, tone) = match view.section {
            _ if !is_known => ("", Tone::Dim),
            _ if view.all_rows > 0 => ("nothing matches the filter; Esc clears it", Tone::Plain),
            Section::Storms => ("✓ no storm", Tone::Good),
            Section::Held if view.looked == Looked::Docker => {
                ("what is held is told by a daemon, top --url, and by squall status", Tone::Plain)
            }
            Section::Held => ("nothing is held", Tone::Plain),
            Section::Registries => ("no storm asks a registry", Tone::Plain),
            Section::Waiting => ("nothing waits that ought not to", Tone::Plain),
            Section::Receivers => ("alerts go nowhere: no receiver is configured", Tone::Plain),
            Section::Health => ("nothing is known of its health", Tone::Plain),
        };
        let mut lines = wrap(words, usize::from(area.width).saturating_sub(4));
        if let (Section::Storms, Some(status)) = (view.section, view.status.as_ref().filter(|_| view.all_rows == 0)) {
            lines.push(format!("watched for {}", span_in_words(status.at.since(status.started))));
        }
        let room = usize::from(area.height);
        for (at, line) in lines.iter().enumerate().take(room) {
            let y = area.y + u16::try_from((room / 3 + at).min(room - 1)).unwrap_or(0);
            let left = " ".repeat((usize::from(area.width).saturating_sub(width(line))) / 2);
            let tone = if at == 0 { tone } else { Tone::Dim };
            self.line(y, &[(&left, Style::new()), (line, self.paint.of(tone))]);
        }
    }
}

/// How many cells each column takes; none where there is no room for it.
fn widths(columns: &[Column], rows: &[Row], room: usize) -> Vec<usize> {
    let of = |(index, column): (usize, &Column)| {
        let wide = |row: &Row| row.cells.get(index).map_or(0, |cell: &Cell| width(&cell.text));
        let natural = rows.iter().map(wide).max().unwrap_or(0).max(width(column.title));
        natural.clamp(column.min, column.max)
    };
    let natural: Vec<usize> = columns.iter().enumerate().map(of).collect();
    let good: Vec<usize> = columns.iter().zip(&natural).map(|(column, natural)| column.good.min(*natural)).collect();
    let least: Vec<usize> = columns.iter().map(|column| column.min).collect();
    let room = room + BETWEEN;
    // As many columns as read well; where that is next to nothing, as many as there is room for at all.
    let (rank, first) = match most(columns, &good, room) {
        Some(rank) if rank > 1 => (rank, good),
        _ => (most(columns, &least, room).unwrap_or(0), least),
    };
    let seen = |(column, cells): (&Column, usize)| if column.rank <= rank { cells } else { 0 };
    let mut widths: Vec<usize> = columns.iter().zip(first).map(seen).collect();
    let used: usize = widths.iter().filter(|cells| **cells > 0).map(|cells| cells + BETWEEN).sum();
    let mut left = room.saturating_sub(used);
    // The next ones may be narrow.
    for (cells, column) in widths.iter_mut().zip(columns).filter(|(_, column)| column.rank == rank + 1) {
        if column.min + BETWEEN <= left {
            *cells = column.min;
            left -= column.min + BETWEEN;
        }
    }
    // What is left goes to those that matter most.
    for wanted in 0..=rank + 1 {
        let is_seen = |index: usize, column: &Column| column.rank == wanted && widths[index] > 0;
        let seen: Vec<usize> = columns.iter().enumerate().filter(|(i, c)| is_seen(*i, c)).map(|(i, _)| i).collect();
        for index in seen {
            let more = natural[index].saturating_sub(widths[index]).min(left);
            widths[index] += more;
            left -= more;
        }
    }
    widths
}

/// The highest rank up to which all columns have room for so many cells.
fn most(columns: &[Column], cells: &[usize], room: usize) -> Option<u8> {
    let needs = |rank: u8| -> usize {
        let seen = columns.iter().zip(cells).filter(|(column, _)| column.rank <= rank);
        seen.map(|(_, cells)| cells + BETWEEN).sum()
    };
    (0..=9).rev().find(|rank| needs(*rank) <= room)
}
