//! Markdown as chats read it. A name or a quotation is a code span: nothing in it is a mention, a link or markup.

use super::story::{Span, Tone};
use super::text;

/// A span in Markdown. `escape` is the service's own.
pub(super) fn mark(span: &Span, escape: fn(char, &mut String)) -> String {
    match span.tone {
        Tone::Plain => text::escaped(&text::defuse(&span.text), escape),
        Tone::Strong => format!("**{}**", text::escaped(&span.text, escape)),
        // No fence is long enough for every text; a code span has no escapes.
        Tone::Name | Tone::Quote => format!("`{}`", span.text.replace('`', "'")),
    }
}

/// Escapes with a backslash what means something within a line. No line begins with foreign text, so that what means
/// something at the beginning of one (`#`, `-`, `1.`) does not matter.
pub(super) fn escape(char: char, out: &mut String) {
    if matches!(char, '\\' | '`' | '*' | '_' | '~' | '|' | '[' | ']' | '<' | '>') {
        out.push('\\');
    }
    out.push(char);
}
