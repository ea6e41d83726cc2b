//! `${VARIABLE}` as `docker stack deploy` writes it out (docker/cli, `cli/compose/template/template.go`), and as
//! docker compose does where docker refuses it.

/// A text with its variables written out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Substituted {
    pub(super) text: String,
    /// The variables that are not set and have no default: empty was taken.
    pub(super) unset: Vec<String>,
    /// It has `${NAME:+...}` or `${NAME+...}`, which docker compose knows and `docker stack deploy` refuses.
    pub(super) is_compose_only: bool,
}

/// Writes out the variables of a text; `None` where it has none and no `$$`. What was written out is not read again.
///
/// # Errors
/// A sentence: a `$` that begins no variable, or a variable that must be set and is not. It has nothing of the
/// variables' values.
pub(super) fn substitute(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Substituted>, String> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut done = Substituted::default();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.text.push('$');
            rest = after;
            continue;
        }
        let (expression, after) = match rest.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}').ok_or("a `${` has no `}`: write `$$` for a `$` itself")?;
                (&inner[..end], &inner[end + 1..])
            }
            // Docker's pattern lets `$NAME-rest` have a default too, up to a brace or the end.
            None => rest.split_at(bare_end(rest)),
        };
        write_out(expression, variable, &mut done)?;
        rest = after;
    }
    done.text.push_str(rest);
    Ok(Some(done))
}

/// Where an expression without braces ends.
fn bare_end(text: &str) -> usize {
    let name = name_end(text);
    let operator = text[name..].strip_prefix(':').unwrap_or(&text[name..]);
    if name > 0 && operator.starts_with(['-', '?']) { text.find('}').unwrap_or(text.len()) } else { name }
}

fn name_end(text: &str) -> usize {
    if !text.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_') {
        return 0;
    }
    text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(text.len())
}

fn write_out(
    expression: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    done: &mut Substituted,
) -> Result<(), String> {
    let (name, operator) = expression.split_at(name_end(expression));
    if name.is_empty() {
        return Err("a `$` begins no variable: write `$$` for a `$` itself".to_owned());
    }
    let set = variable(name);
    let (wants_text, operator) = match operator.strip_prefix(':') {
        Some(operator) => (true, operator),
        None => (false, operator),
    };
    let is_there = set.as_ref().is_some_and(|value| !wants_text || !value.is_empty());
    let value = set.unwrap_or_default();
    let mut operator = operator.chars();
    match (operator.next(), operator.as_str()) {
        (None, _) if !wants_text => {
            if !is_there {
                done.unset.push(name.to_owned());
            }
            done.text.push_str(&value);
        }
        (Some('-'), default) => done.text.push_str(if is_there { &value } else { default }),
        (Some('?'), _) if is_there => done.text.push_str(&value),
        (Some('?'), "") => return Err(format!("the variable {name} must be set")),
        (Some('?'), why) => return Err(format!("the variable {name} must be set: {why}")),
        (Some('+'), alternative) => {
            done.is_compose_only = true;
            done.text.push_str(if is_there { alternative } else { "" });
        }
        _ => return Err(format!("`{name}` is followed by what is none of `:-`, `-`, `:?`, `?`, `:+`, `+`")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let variable = |name: &str| match name {
            "SET" => Some("v".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let found = match substitute(text, &variable) {
            Ok(done) => done.map_or_else(|| text.to_owned(), |done| done.text),
            Err(why) => why,
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn variables_are_written_out_as_docker_does() {
        check("a${SET}b$SET c", "avbv c");
        check("${EMPTY:-d} ${EMPTY-d} ${NONE:-d} ${NONE-d} ${SET:-d} ${NONE:-}", "d  d d v ");
        check("${SET:?x} ${EMPTY?x}|${SET?}", "v |v");
        check("${SET:+a} ${EMPTY:+a}|${EMPTY+a} ${NONE+a}|", "a |a |");
        check("$$SET $${SET} $$$SET", "$SET ${SET} $v");
        check("${NONE}", "");
        check("image:$SET-alpine", "image:v");
        check("image:$NONE-alpine", "image:alpine");
        check("${NONE:-${SET}}", "${SET}");
    }

    #[test]
    fn a_bad_expression_is_refused() {
        check("${SET", "a `${` has no `}`: write `$$` for a `$` itself");
        for text in ["$", "$1", "${}", "${1}", "a $ b", "${ SET}"] {
            check(text, "a `$` begins no variable: write `$$` for a `$` itself");
        }
        for text in ["${SET:}", "${SET!}", "${SET:=x}", "${SET.x}"] {
            check(text, "`SET` is followed by what is none of `:-`, `-`, `:?`, `?`, `:+`, `+`");
        }
        check("${NONE:?tell me}", "the variable NONE must be set: tell me");
        check("${EMPTY:?}", "the variable EMPTY must be set");
    }

    #[test]
    fn what_is_not_set_is_told() {
        let done = substitute("$A ${B} ${C:-c}", &|_| None).expect("good").expect("has some");
        assert_eq!(done.unset, ["A", "B"]);
        assert!(!done.is_compose_only);
    }
}
