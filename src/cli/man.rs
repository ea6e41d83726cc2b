use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::{Command as Clap, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::{Args, Man as Command};
use super::exit::Exit;
use crate::config::{Config, DEFAULT_PATH};

/// The page of the settings' file.
const SETTINGS: &str = "squall.toml.5";
/// What every page is of.
const SOURCE: &str = concat!("squall ", env!("CARGO_PKG_VERSION"));

/// Prints the manual page, or writes it with those of the commands and of the settings.
pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match &command.dir {
        Some(dir) => write_all(dir).with_context(|| format!("cannot write manual pages to {}", dir.display()))?,
        None => {
            let page = text_of(&page_of(Args::command()))?;
            io::stdout().lock().write_all(page.as_bytes())?;
        }
    }
    Ok(Exit::Calm)
}

fn write_all(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut command = Args::command().disable_help_subcommand(true);
    // Names what is below by what is above.
    command.build();
    write_with_those_below(&command, dir)?;
    std::fs::write(dir.join(SETTINGS), settings().to_roff())
}

fn write_with_those_below(command: &Clap, dir: &Path) -> io::Result<()> {
    let page = page_of(command.clone());
    std::fs::write(dir.join(page.get_filename()), text_of(&page)?)?;
    command.get_subcommands().try_for_each(|below| write_with_those_below(below, dir))
}

fn page_of(command: Clap) -> Man {
    Man::new(command).source(SOURCE)
}

/// The page with its exit statuses under the heading that manual pages have for them: clap_mangen writes EXTRA over all
/// that follows the options of a help.
fn text_of(page: &Man) -> io::Result<String> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).replace("\n.SH EXTRA\nExit status: ", "\n.SH \"EXIT STATUS\"\n"))
}

/// The settings as `config init` prints them: every key, its default and its meaning.
fn settings() -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["squall.toml", "5", "", SOURCE, ""]);
    page.control("SH", ["NAME"]).text([roman("squall.toml - settings of squall")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman("The settings are those of "),
        bold("--config"),
        roman(format!(", or else of {DEFAULT_PATH} if it is there. This is what ")),
        bold("squall config init"),
        roman(" prints: every key with its default."),
    ]);
    page.control("PP", []).control("nf", []);
    for line in Config::default().render().lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]).text([bold("squall-config"), roman("(1)")]);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader of the page sees.
    fn plain(page: &str) -> String {
        let fonts = ["\\fB", "\\fI", "\\fR"];
        fonts.iter().fold(page.to_owned(), |text, font| text.replace(font, "")).replace("\\-", "-")
    }

    /// Looks for every word of the help that is to be typed; returns how many there were.
    fn check(mut command: Clap) -> usize {
        let page = plain(&text_of(&page_of(command.clone())).expect("a page"));
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let help = command.render_long_help().to_string();
        let options = help.split(|char: char| !char.is_ascii_alphanumeric() && char != '-');
        let options: Vec<&str> = options.filter(|word| word.starts_with("--")).collect();
        let missing: Vec<&&str> = options.iter().filter(|option| !page.contains(**option)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?} of --help are not on its page");
        let statuses = usize::from(help.contains("Exit status: "));
        assert_eq!(page.matches(".SH \"EXIT STATUS\"\n0 ").count(), statuses, "{name}: its exit statuses");
        assert!(!page.contains(".SH EXTRA"), "{name}: a heading that says nothing");
        let mut count = options.len();
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let its = below.get_display_name().unwrap_or(below.get_name());
            assert!(page.contains(&format!("{its}(1)")), "{name}: {its} is not on its page");
            count += check(below.clone());
        }
        count
    }

    #[test]
    fn every_command_and_option_of_the_help_is_on_its_page() {
        let mut command = Args::command();
        command.build();
        let checked = check(command);
        assert!(checked > 50, "{checked}");
    }

    #[test]
    fn every_key_of_the_settings_is_on_their_page() {
        let page = plain(&settings().to_roff());
        let keys: Vec<String> = Config::default().render().lines().map(str::to_owned).collect();
        let is_key = |line: &&String| line.contains(" = ") || line.starts_with('[');
        let missing: Vec<&String> =
            keys.iter().filter(is_key).filter(|line| !page.contains(&line.replace('\\', "\\e"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
