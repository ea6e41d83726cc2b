//! The operator's own body of a webhook: a Jinja template over the alert.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use serde::Serialize;

use super::FormatError;

/// A template, read once. Its context is the alert: `{{ title }}`, `{% for storm in storms %}`, `{{ title|tojson }}`,
/// `{% for step in next_steps %}{{ step.cause }}: {{ step.advice }}`.
///
/// A name that the alert does not have is an error, not an empty text. Nothing is escaped by itself: `tojson` does it.
#[derive(Clone)]
pub struct Template(Arc<Environment<'static>>);

/// Instructions of one rendering. Twenty storms with fifteen fields each take about 2,000.
const FUEL: u64 = 200_000;

/// Bytes of a body: far above any alert, far below what hurts.
pub const OUTPUT_MAX: usize = 1024 * 1024;

const NAME: &str = "body";

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is no template; the line and the reason are told, nothing of its text.
    pub fn new(text: &str) -> Result<Self, FormatError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, text.to_owned()).map_err(|error| told(&error))?;
        Ok(Self(Arc::new(environment)))
    }

    /// The body for an alert as JSON has it.
    pub(super) fn render(&self, alert: &impl Serialize) -> Result<Vec<u8>, FormatError> {
        let mut body = Bounded(Vec::new());
        let template = self.0.get_template(NAME).map_err(|error| told(&error))?;
        template.render_captured_to(Value::from(Serde(alert)), &mut body).map_err(|error| told(&error))?;
        Ok(body.0)
    }
}

/// Without its text, which may hold a token.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

/// The line, and the engine's own words of a closed set. Its details quote the template at times, and are left out
/// but where they name the kinds of tokens only.
fn told(error: &minijinja::Error) -> FormatError {
    let mut reason = match error.kind() {
        ErrorKind::OutOfFuel => format!("took more than {FUEL} steps"),
        ErrorKind::WriteFailure => format!("made more than {OUTPUT_MAX} bytes"),
        kind => kind.to_string(),
    };
    if let (ErrorKind::SyntaxError, Some(detail)) = (error.kind(), error.detail())
        && detail.starts_with("unexpected ")
    {
        reason.push_str(": ");
        reason.push_str(detail);
    }
    FormatError::Template { line: error.line(), reason }
}

/// What is written to it, up to [`OUTPUT_MAX`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
