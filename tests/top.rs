//! `squall top`: its state machine, what it draws, and the compiled binary in a terminal.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(unreachable_pub, reason = "the modules are the test's own")]

#[path = "top/fixture.rs"]
mod fixture;
#[path = "top/screen.rs"]
mod screen;
mod support;
#[path = "top/terminal.rs"]
mod terminal;

use std::time::Duration;

use fixture::{NOW, calm, evening, hostile, many, storm};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use squall::cli::top::{Flow, Key, Looked, Paint, Section, Update, View, draw};
use squall::model::{Cause, Status, StormState};

/// Ctrl-Z is asked of the shell, not done.
const ALL_KEYS: [Key; 26] = [
    Key::Down,
    Key::Enter,
    Key::PageDown,
    Key::Char('s'),
    Key::Tab,
    Key::End,
    Key::Right,
    Key::PageUp,
    Key::Char('S'),
    Key::Char('/'),
    Key::Char('e'),
    Key::Down,
    Key::Enter,
    Key::Char('?'),
    Key::Char('x'),
    Key::Esc,
    Key::Home,
    Key::Char('p'),
    Key::BackTab,
    Key::Char('7'),
    Key::Left,
    Key::Char('/'),
    Key::Backspace,
    Key::Char('9'),
    Key::Up,
    Key::Tab,
];

fn view(status: Status) -> View {
    let mut view = View::new(Looked::Daemon, NOW);
    view.take(Update::Status(Box::new(status)), NOW);
    view
}

fn drawn(view: &mut View, paint: Paint, (width, height): (u16, u16)) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(view, paint, area, &mut buffer);
    buffer
}

fn text(view: &mut View, size: (u16, u16)) -> String {
    screen::lines(&drawn(view, Paint::Plain, size)).join("\n")
}

fn press(view: &mut View, keys: &str) {
    for char in keys.chars() {
        let key = match char {
            '\n' => Key::Enter,
            '\t' => Key::Tab,
            '\x1b' => Key::Esc,
            char => Key::Char(char),
        };
        assert_eq!(view.press(key), Flow::Goes, "{char:?}");
    }
}

/// The services in the order of the rows that are seen.
fn services(view: &mut View) -> Vec<String> {
    let text = text(view, (160, 40));
    let rows = text.lines().filter(|line| line.starts_with(['●', '■', '○']));
    rows.filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

/// The service of the row that is reversed.
fn selected(view: &mut View) -> String {
    let buffer = drawn(view, Paint::Plain, (120, 40));
    let lines = screen::lines(&buffer);
    let is_row = |y: u16| lines[usize::from(y)].starts_with(['●', '■', '○']);
    let is_selected = |y: &u16| is_row(*y) && buffer[(4, *y)].modifier.contains(Modifier::REVERSED);
    let y = (0..40_u16).find(is_selected).expect("a row is selected");
    lines[usize::from(y)].split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_fastest_storm_is_first_and_any_column_sorts() {
    let mut view = view(evening());
    let by_rate =
        ["billing_invoice-renderer", "tools_reindex", "shop_api", "web_frontend", "metrics_collector", "mail_sender"];
    assert_eq!(services(&mut view), by_rate);
    press(&mut view, "S");
    assert_eq!(services(&mut view)[0], "mail_sender");
    press(&mut view, "1");
    assert_eq!(services(&mut view)[0], "billing_invoice-renderer");
    press(&mut view, "1");
    assert_eq!(services(&mut view)[0], "web_frontend");
    press(&mut view, "4");
    assert_eq!(services(&mut view)[..2], ["billing_invoice-renderer", "shop_api"], "the most failures first");
    press(&mut view, "sss");
    assert_eq!(services(&mut view)[0], "billing_invoice-renderer", "the longest first");
    for _ in 0..30 {
        press(&mut view, "s");
        assert_eq!(services(&mut view).len(), 6);
    }
}

#[test]
fn the_selection_follows_the_storm_and_not_the_line() {
    let mut status = evening();
    let mut view = view(status.clone());
    press(&mut view, "jj");
    assert_eq!(selected(&mut view), "shop_api");
    status.storms[0].attempts_per_min = 99.0;
    view.take(Update::Status(Box::new(status.clone())), NOW);
    assert_eq!((selected(&mut view), &*services(&mut view)[0]), ("shop_api".into(), "shop_api"));
    press(&mut view, "1");
    assert_eq!(selected(&mut view), "shop_api");
    press(&mut view, "G");
    assert_eq!(selected(&mut view), "web_frontend");
    status.storms.retain(|storm| storm.subject.name != "web_frontend");
    view.take(Update::Status(Box::new(status.clone())), NOW);
    assert_eq!(selected(&mut view), "tools_reindex", "where it has gone, the line stays");
    status.storms.clear();
    view.take(Update::Status(Box::new(status)), NOW);
    press(&mut view, "jjkG\n");
    assert!(text(&mut view, (80, 24)).contains("✓ no storm"));
}

#[test]
fn a_filter_finds_service_stack_cause_registry_and_node() {
    let mut view = view(evening());
    for (filter, found) in [
        ("INVOICE", "billing_invoice-renderer"),
        ("oom", "metrics_collector"),
        ("node-4", "billing_invoice-renderer"),
        ("ghcr", "metrics_collector"),
        ("probation", "mail_sender"),
        ("shop node-3", "shop_api"),
    ] {
        press(&mut view, &format!("/{filter}\n"));
        assert_eq!(services(&mut view), [found], "{filter}");
        press(&mut view, "\x1b");
        assert_eq!(services(&mut view).len(), 6, "Esc clears");
    }
    press(&mut view, "/q?ps");
    assert!(text(&mut view, (80, 24)).contains("nothing matches the filter"));
    assert!(text(&mut view, (80, 24)).contains("/q?ps"));
    assert!(text(&mut view, (80, 24)).contains("0 of 6"));
    assert_eq!(view.press(Key::Ctrl('u')), Flow::Goes);
    press(&mut view, &"y".repeat(500));
    assert!(text(&mut view, (300, 24)).contains(&"y".repeat(64)));
    assert!(!text(&mut view, (300, 24)).contains(&"y".repeat(65)), "it is bounded");
    press(&mut view, "\x1b");
    assert_eq!(services(&mut view).len(), 6);
}

#[test]
fn pages_go_to_the_ends_and_not_beyond() {
    let mut view = view(many());
    assert_eq!(selected(&mut view), "stack2_service-499");
    view.press(Key::PageDown);
    let second = selected(&mut view);
    assert_eq!(view.press(Key::PageUp), Flow::Goes);
    assert_eq!(selected(&mut view), "stack2_service-499");
    assert_ne!(second, "stack2_service-499");
    for _ in 0..50 {
        view.press(Key::PageDown);
    }
    assert_eq!(selected(&mut view), "stack0_service-000");
    view.press(Key::Down);
    assert_eq!(selected(&mut view), "stack0_service-000");
    view.press(Key::Home);
    view.press(Key::Up);
    assert_eq!(selected(&mut view), "stack2_service-499");
    let shown = text(&mut view, (120, 40));
    assert!(shown.contains("1734 storms go on") && shown.contains("1234 more storms are not listed"), "{shown}");
    assert!(shown.contains('┃'), "a bar says which part is seen");
}

#[test]
fn the_detail_says_all_that_is_known() {
    let mut view = view(evening());
    press(&mut view, "jj\n");
    let shown = text(&mut view, (120, 40));
    for words in [
        "shop_api · service of shop",
        "bind source path does not exist: /data/uploads/customers",
        "make the directory on node-2",
        "app-exit 14 · mount 212",
        "212 of 235 tries failed, 5.3/min",
        "each try asks docker.io: 5 tries/min",
        "31 of 200 pulls left",
        "shop/api:7 (a tag)",
        "3: node-1, node-2, node-3",
        "detected after 5 failures",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    press(&mut view, "G");
    assert!(text(&mut view, (120, 40)).contains("backoff, probation: 1 of 4 replicas is watched"));
    view.press(Key::Left);
    assert!(!text(&mut view, (120, 40)).contains("tries failed"));
    // A small screen is scrolled.
    press(&mut view, "g\n");
    let top = text(&mut view, (40, 12));
    assert!(top.contains("more, PgDn"), "{top}");
    for _ in 0..9 {
        view.press(Key::PageDown);
        text(&mut view, (40, 12));
    }
    assert!(text(&mut view, (40, 12)).contains("storm  "), "the last line is the storm's id");
}

#[test]
fn every_section_shows_what_it_has() {
    let mut view = view(evening());
    for (section, words) in Section::ALL.into_iter().zip([
        "toomanyrequests",
        "1 of 4 replicas is watched",
        "31/200",
        "no suitable node",
        "connection refused",
        "nobody watched for 100 s: Docker was restarted",
    ]) {
        let shown = text(&mut view, (160, 40));
        assert!(shown.contains(words), "{section:?}: {shown}");
        press(&mut view, "\n");
        let detail = text(&mut view, (160, 40));
        assert_ne!(detail, shown, "{section:?} has a detail");
        press(&mut view, "\n\t");
    }
    assert!(text(&mut view, (160, 40)).contains("toomanyrequests"), "round again");
    view.press(Key::BackTab);
    assert!(text(&mut view, (160, 40)).contains("nobody watched"));
}

#[test]
fn what_is_empty_says_so() {
    let mut view = view(calm());
    for words in ["no storm", "nothing is held", "no storm asks", "nothing waits", "no receiver", "the stream is open"]
    {
        let shown = text(&mut view, (80, 24));
        assert!(shown.contains(words), "{words}: {shown}");
        press(&mut view, "\n\t");
    }
    let mut nothing = View::new(Looked::Docker, NOW);
    assert!(text(&mut nothing, (80, 24)).contains("waiting for the first answer"));
    press(&mut nothing, "jk\n\t\ts/x\n");
}

#[test]
fn a_daemon_that_does_not_answer_leaves_what_was_seen() {
    let mut view = view(evening());
    let later = NOW.plus(Duration::from_secs(40));
    view.take(Update::Trouble("connection \x1b[2Jrefused".to_owned()), NOW);
    view.take(Update::Trouble("connection refused".to_owned()), later);
    let shown = text(&mut view, (80, 24));
    assert!(shown.contains("daemon does not answer since 14:02:11: connection refused"), "{shown}");
    assert!(shown.contains("shop_api"));
    view.take(Update::Status(Box::new(evening())), later);
    assert!(!text(&mut view, (80, 24)).contains("does not answer"));
}

#[test]
fn paused_it_shows_what_was_and_then_the_newest() {
    let mut view = view(evening());
    press(&mut view, "p");
    for _ in 0..3 {
        view.take(Update::Status(Box::new(calm())), NOW);
    }
    let shown = text(&mut view, (80, 24));
    assert!(shown.contains("PAUSED") && shown.contains("shop_api"), "{shown}");
    press(&mut view, "p");
    assert!(text(&mut view, (80, 24)).contains("✓ no storm"));
}

#[test]
fn escape_goes_out_one_thing_at_a_time() {
    let mut view = view(evening());
    press(&mut view, "/node\n\n?\x1b");
    assert!(text(&mut view, (80, 24)).contains("tries failed"), "the help is closed");
    press(&mut view, "\x1b");
    assert!(!text(&mut view, (80, 24)).contains("tries failed"), "the detail is");
    press(&mut view, "\x1b");
    assert!(!text(&mut view, (80, 24)).contains("/node"), "the filter is");
    assert_eq!(view.press(Key::Esc), Flow::Quits);
    assert_eq!(view.press(Key::Char('q')), Flow::Quits);
    assert_eq!(view.press(Key::Ctrl('z')), Flow::Suspends);
    press(&mut view, "?");
    assert!(text(&mut view, (80, 24)).contains("sort the other way round"));
    press(&mut view, "?/");
    assert_eq!(view.press(Key::Ctrl('c')), Flow::Quits, "also while a filter is typed");
}

#[test]
fn a_trend_is_bounded_and_forgets_what_has_gone() {
    let mut view = view(evening());
    for step in 1..2000_u32 {
        let mut status = evening();
        status.at = NOW.plus(Duration::from_secs(u64::from(step) * 10));
        status.storms[0].attempts_per_min = f64::from(step % 90);
        view.take(Update::Status(Box::new(status)), NOW);
    }
    let shown = text(&mut view, (160, 40));
    assert!(shown.contains('▅') && shown.contains('█'), "{shown}");
    assert!(shown.lines().all(|line| line.chars().filter(|char| ('▁'..='█').contains(char)).count() <= 48));
}

#[test]
fn nothing_hostile_reaches_a_cell() {
    for size in [(80, 24), (120, 40), (40, 10), (200, 60)] {
        let mut view = view(hostile());
        for key in [&ALL_KEYS[..], &ALL_KEYS[..]].concat() {
            assert_eq!(view.press(key), Flow::Goes);
            let buffer = drawn(&mut view, Paint::Colour, size);
            for cell in buffer.content() {
                let symbol = cell.symbol();
                assert!(symbol.chars().count() <= 4, "{symbol:?}");
                let is_bad = |char: char| {
                    char.is_control()
                        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
                };
                assert!(!symbol.chars().any(is_bad), "{symbol:?}");
            }
        }
    }
}

#[test]
fn every_key_at_every_size_draws() {
    for status in [calm(), evening(), many()] {
        let mut view = view(status);
        for (at, size) in (0..400_u16).map(|at| (usize::from(at), (1 + at * 7 % 130, 1 + at * 5 % 45))) {
            view.press(ALL_KEYS[at % ALL_KEYS.len()]);
            drawn(&mut view, Paint::Colour, size);
        }
    }
}

#[test]
fn the_smallest_screen_keeps_what_matters() {
    let mut view = view(evening());
    let shown = text(&mut view, (40, 10));
    let top: Vec<&str> = shown.lines().take(2).collect();
    assert_eq!(top, [" squall  swarm-mgr-1       14:02:11 UTC", " ● 5 storms go on, 1 held; …  ✓ healthy"]);
    assert!(shown.lines().all(|line| !line.contains("……")), "{shown}");
    assert!(shown.contains("/MIN") && shown.contains("SERVICE") && shown.contains("CAUSE"), "{shown}");
    let small = text(&mut view, (30, 5));
    assert_eq!(small.trim(), "terminal too small\nneeds 40x10");
    assert_eq!(view.press(Key::Char('q')), Flow::Quits);
}

#[test]
fn without_colour_marks_and_weight_say_the_same() {
    let mut view = view(evening());
    let (plain, colour) = (drawn(&mut view, Paint::Plain, (80, 24)), drawn(&mut view, Paint::Colour, (80, 24)));
    assert_eq!(screen::lines(&plain), screen::lines(&colour));
    assert!(plain.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(colour.content().iter().any(|cell| cell.fg == Color::Red));
    let text = screen::lines(&plain).join("\n");
    assert!(text.contains("● billing") && text.contains("■ mail_sender"), "{text}");
}

#[test]
fn screens_are_written_for_people_to_look_at() {
    for (name, size) in [("80x24", (80, 24)), ("120x40", (120, 40)), ("40x10", (40, 10))] {
        for (suffix, paint) in [("", Paint::Colour), ("-plain", Paint::Plain)] {
            let save = |what: &str, view: &mut View| {
                screen::save(&format!("{what}-{name}{suffix}"), &drawn(view, paint, size));
            };
            let mut looked = View::new(Looked::Daemon, NOW);
            for step in 0..40_u32 {
                let mut status = evening();
                status.at = NOW.minus(Duration::from_secs(u64::from(40 - step) * 10));
                for (storm, seed) in status.storms.iter_mut().zip([3, 5, 7, 11, 13, 17]) {
                    storm.attempts_per_min *= f64::from(step * seed % 23 + 8) / 20.0;
                }
                looked.take(Update::Status(Box::new(status)), NOW);
            }
            looked.take(Update::Status(Box::new(evening())), NOW);
            press(&mut looked, "jj");
            save("storms", &mut looked);
            press(&mut looked, "\n");
            save("detail", &mut looked);
            press(&mut looked, "?");
            save("help", &mut looked);
            press(&mut looked, "?\x1b/shop");
            save("filter", &mut looked);
            press(&mut looked, "\x1b");
            for section in &Section::ALL[1..] {
                press(&mut looked, "\t");
                save(&format!("{section:?}").to_lowercase(), &mut looked);
            }
            save("calm", &mut view(calm()));
            save("many", &mut view(many()));
            save("hostile", &mut view(hostile()));
            let mut lost = view(evening());
            lost.take(Update::Trouble("connection refused".to_owned()), NOW);
            press(&mut lost, "p");
            save("lost", &mut lost);
        }
    }
}

#[test]
fn a_storm_that_is_over_is_no_longer_counted() {
    let mut over = storm("old_one", Cause::Oom, 40, 0.0, 9000);
    over.state = StormState::Subsided;
    over.ended = Some(fixture::ago(60));
    let mut view = view(Status { storms: vec![over], ..calm() });
    let shown = text(&mut view, (80, 24));
    assert!(shown.contains("no storm goes on") && shown.contains("○ old_one"), "{shown}");
}
