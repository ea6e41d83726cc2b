//! What is said of the selected row: in a few lines beneath the table, or in a pane of its own.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::detail::detail;
use super::draw::Page;
use super::rows::Tone;
use super::text::{fit, wrap};
use super::view::View;

impl Page<'_> {
    /// What the selected row says, and what is to be done.
    pub(super) fn peek(&mut self, view: &View, area: Rect) {
        const WANTED: [&str; 9] =
            ["why", "do", "next", "by hand", "in words", "trouble", "quota", "asked by", "so far"];
        self.rule(area.y, "");
        let said = detail(view).map(|(_, lines)| lines).unwrap_or_default();
        let wanted: Vec<_> = said.iter().filter(|said| WANTED.contains(&said.label)).take(2).collect();
        let (room, each) = (usize::from(self.area.width) - 13, usize::from(area.height - 1) / 2);
        let mut y = area.y + 1;
        for said in wanted {
            let mut lines = wrap(&said.text, room);
            if lines.len() > each {
                // What has no room is said to be cut off.
                let rest = lines.split_off(each - 1).join(" ");
                lines.push(fit(&rest, room));
            }
            for (at, line) in lines.iter().enumerate() {
                let label = format!(" {:>8}  ", if at == 0 { said.label } else { "" });
                self.line(y, &[(&label, self.paint.of(Tone::Dim)), (line, Style::new())]);
                y += 1;
            }
        }
    }

    pub(super) fn detail_lines(&self, view: &View) -> Vec<(&'static str, String, Tone)> {
        let room = usize::from(self.area.width).saturating_sub(13);
        let mut lines = Vec::new();
        for said in detail(view).map(|(_, lines)| lines).unwrap_or_default() {
            let mut label = said.label;
            for line in wrap(&said.text, room) {
                lines.push((std::mem::take(&mut label), line, said.tone));
            }
        }
        lines
    }

    pub(super) fn detail(&mut self, view: &mut View, area: Rect) {
        let lines = self.detail_lines(view);
        let room = usize::from(area.height) - 1;
        view.detail_first = view.detail_first.min(lines.len().saturating_sub(room));
        let title = detail(view).map(|(title, _)| title).unwrap_or_default();
        self.rule(area.y, &title);
        for ((label, text, tone), y) in lines.iter().skip(view.detail_first).take(room).zip(area.y + 1..) {
            let label = format!(" {label:>8}  ");
            self.line(y, &[(&label, self.paint.of(Tone::Dim)), (text, self.paint.of(*tone))]);
        }
        if lines.len() > view.detail_first + room {
            let more = format!(" {} more, PgDn ", lines.len() - view.detail_first - room);
            self.right(area.y, &more, self.paint.of(Tone::Warn));
        }
    }
}
