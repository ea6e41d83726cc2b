//! A screen of cells as text, as ANSI and as SVG, for asserts and for people who want to look at it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// The lines of a screen, without the spaces at their ends.
pub fn lines(buffer: &Buffer) -> Vec<String> {
    let row = |y| {
        let (mut text, mut skip) = (String::new(), 0);
        for x in buffer.area.left()..buffer.area.right() {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                text.push_str(symbol);
                skip = ratatui::text::Span::raw(symbol).width().max(1);
            }
            skip -= 1;
        }
        text.trim_end().to_owned()
    };
    (buffer.area.top()..buffer.area.bottom()).map(row).collect()
}

/// Writes a screen below target/screenshots, as .ans and as .svg.
pub fn save(name: &str, buffer: &Buffer) {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), Into::into);
    let directory = target.join("screenshots");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(format!("top-{name}.ans")), ansi(buffer)).unwrap();
    fs::write(directory.join(format!("top-{name}.svg")), svg(buffer)).unwrap();
}

/// SGR codes and the dark theme's colours.
const COLOURS: [(Color, u8, &str); 8] = [
    (Color::Black, 30, "#14181f"),
    (Color::Red, 31, "#f07178"),
    (Color::Green, 32, "#a5d46a"),
    (Color::Yellow, 33, "#ffcb6b"),
    (Color::Cyan, 36, "#6fd3e8"),
    (Color::Gray, 37, "#bfc7d5"),
    (Color::DarkGray, 90, "#77839b"),
    (Color::White, 97, "#ffffff"),
];

fn ansi(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        for x in buffer.area.left()..buffer.area.right() {
            let cell = &buffer[(x, y)];
            let mut codes = vec![0];
            for (colour, code, _) in COLOURS {
                codes.extend((cell.fg == colour).then_some(code));
                codes.extend((cell.bg == colour).then_some(code + 10));
            }
            for (modifier, code) in
                [(Modifier::BOLD, 1), (Modifier::DIM, 2), (Modifier::UNDERLINED, 4), (Modifier::REVERSED, 7)]
            {
                codes.extend(cell.modifier.contains(modifier).then_some(code));
            }
            let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
            let _ = write!(text, "\x1b[{}m{}", codes.join(";"), cell.symbol());
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

fn hex(colour: Color, default: &'static str) -> &'static str {
    COLOURS.iter().find(|entry| entry.0 == colour).map_or(default, |entry| entry.2)
}

fn svg(buffer: &Buffer) -> String {
    const WIDE: f32 = 9.03;
    const HIGH: f32 = 19.0;
    let colours = |cell: &Cell| {
        let (fg, bg) = (hex(cell.fg, "#d5dae3"), hex(cell.bg, "#14181f"));
        if cell.modifier.contains(Modifier::REVERSED) { (bg, fg) } else { (fg, bg) }
    };
    let (width, height) = (f32::from(buffer.area.width) * WIDE + 16.0, f32::from(buffer.area.height) * HIGH + 16.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-size=\"15\" \
         font-family=\"DejaVu Sans Mono, Noto Sans Mono CJK SC, monospace\" xml:space=\"preserve\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#14181f\"/>\n"
    );
    for pass in 0..2 {
        for (y, x) in (0..buffer.area.height).flat_map(|y| (0..buffer.area.width).map(move |x| (y, x))) {
            let cell = &buffer[(x, y)];
            let (fg, bg) = colours(cell);
            let (left, top) = (f32::from(x) * WIDE + 8.0, f32::from(y) * HIGH + 8.0);
            if pass == 0 && bg != "#14181f" {
                let _ = writeln!(svg, "<rect x=\"{left}\" y=\"{top}\" width=\"9.2\" height=\"{HIGH}\" fill=\"{bg}\"/>");
            }
            if pass == 0 && cell.modifier.contains(Modifier::UNDERLINED) {
                let below = top + HIGH - 2.0;
                let _ = writeln!(svg, "<rect x=\"{left}\" y=\"{below}\" width=\"9.2\" height=\"1\" fill=\"{fg}\"/>");
            }
            if pass == 1 && cell.symbol() != " " {
                let symbol = cell.symbol().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let weight = if cell.modifier.contains(Modifier::BOLD) { "bold" } else { "normal" };
                let pale = if cell.modifier.contains(Modifier::DIM) { "0.6" } else { "1" };
                let base = top + 14.5;
                let _ = writeln!(
                    svg,
                    "<text x=\"{left}\" y=\"{base}\" fill=\"{fg}\" font-weight=\"{weight}\" opacity=\"{pale}\">{symbol}</text>"
                );
            }
        }
    }
    svg + "</svg>\n"
}
