//! The configuration: what is taken is shown, and what is shown is taken as the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use squall::config::{Config, parse_duration};

fuzz_target!(|text: &str| {
    let path = Path::new("squall.toml");
    match Config::parse(text, path) {
        Ok(config) => {
            let shown = config.render();
            match Config::parse(&shown, path) {
                Ok(again) => assert_eq!(again, config, "{shown}"),
                Err(error) => panic!("{error}\n{shown}"),
            }
            config.detector();
            config.respond.settings();
            for silence in &config.silence {
                silence.open().expect("it was checked");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(duration) = parse_duration(text) {
        let shown = squall::config::Span(duration).to_string();
        assert_eq!(parse_duration(&shown), Ok(duration), "{text:?} is shown as {shown}");
    }
});
