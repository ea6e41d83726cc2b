//! `ratelimit-limit` and `ratelimit-remaining`, as Docker Hub and others write them.

use crate::model::Budget;

/// A longer header is none.
const HEADER_BYTES_MAX: usize = 512;

/// Why headers state no budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// One is there without the other.
    #[error("there is {there} and no {missing}")]
    Alone {
        /// The one that is there.
        there: &'static str,
        /// The other.
        missing: &'static str,
    },
    /// One holds no number.
    #[error("{0} holds no number")]
    NoNumber(&'static str),
}

const LIMIT: &str = "ratelimit-limit";
const REMAINING: &str = "ratelimit-remaining";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    count: i64,
    window_secs: Option<u64>,
}

/// Reads the two headers; `None`: there is neither, nothing is limited.
///
/// Each is a number, perhaps signed and perhaps with its window (`100;w=21600`), or a list of such, of which those that
/// cannot be read are passed over. Of several windows the one counts of which least is left.
///
/// # Errors
/// When one is missing, or holds no number.
pub fn budget(limit: Option<&str>, remaining: Option<&str>) -> Result<Option<Budget>, HeaderError> {
    let (limit, remaining) = match (limit, remaining) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(HeaderError::Alone { there: LIMIT, missing: REMAINING }),
        (None, Some(_)) => return Err(HeaderError::Alone { there: REMAINING, missing: LIMIT }),
        (Some(limit), Some(remaining)) => (rates(limit), rates(remaining)),
    };
    // A limit below zero is none.
    let limits: Vec<Rate> = limit.into_iter().filter(|rate| rate.count >= 0).collect();
    let first = limits.first().ok_or(HeaderError::NoNumber(LIMIT))?;
    let budgets = remaining.iter().map(|left| {
        let same = limits.iter().find(|rate| rate.window_secs.is_some() && rate.window_secs == left.window_secs);
        // `100, 100;w=21600` states the limit and then its policy: the window is with the second.
        let limit = same.unwrap_or(first);
        let policy = limits.iter().find(|rate| rate.count == limit.count && rate.window_secs.is_some());
        let window_secs = left.window_secs.or(limit.window_secs).or(policy.and_then(|rate| rate.window_secs));
        Budget { limit: limit.count, remaining: left.count, window_secs }
    });
    let least = budgets.min_by(|a, b| {
        // a.remaining / a.limit against b.remaining / b.limit, without dividing.
        let share = |one: &Budget, other: &Budget| i128::from(one.remaining) * i128::from(other.limit.max(1));
        share(a, b).cmp(&share(b, a))
    });
    least.map(Some).ok_or(HeaderError::NoNumber(REMAINING))
}

fn rates(text: &str) -> Vec<Rate> {
    let text = if text.len() > HEADER_BYTES_MAX { "" } else { text };
    text.split(',').filter_map(rate).collect()
}

fn rate(text: &str) -> Option<Rate> {
    let mut parts = text.split(';').map(str::trim);
    let count = parts.next()?.parse().ok()?;
    let window = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("w"));
    let window_secs = window.and_then(|(_, secs)| secs.trim().trim_matches('"').parse().ok()).filter(|secs| *secs > 0);
    Some(Rate { count, window_secs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limit: &str, remaining: &str) -> Option<(i64, i64, Option<u64>)> {
        let read = budget(Some(limit), Some(remaining)).ok().flatten();
        read.map(|budget| (budget.limit, budget.remaining, budget.window_secs))
    }

    #[test]
    fn what_docker_hub_sends_is_read() {
        assert_eq!(read("100;w=21600", "76;w=21600"), Some((100, 76, Some(21600))));
        assert_eq!(read("100;w=21600", "-3;w=21600"), Some((100, -3, Some(21600))));
        assert_eq!(read("200", "0"), Some((200, 0, None)));
        assert_eq!(budget(None, None), Ok(None));
    }

    #[test]
    fn lists_and_other_spellings_are_read() {
        assert_eq!(read("100, 100;w=21600", "7"), Some((100, 7, Some(21600))));
        assert_eq!(read("100;w=21600, 1000;w=86400", "90;w=21600, 20;w=86400"), Some((1000, 20, Some(86400))));
        assert_eq!(read("100;w=21600,1000;w=86400", "2;w=21600,20;w=86400"), Some((100, 2, Some(21600))));
        assert_eq!(read(" 100 ; W = \"60\" ", "+5;x=1"), Some((100, 5, Some(60))));
        assert_eq!(read("junk, 100;w=60", "oops;w=60, 4;w=60"), Some((100, 4, Some(60))));
        assert_eq!(read("100;w=0", "4;w=x"), Some((100, 4, None)));
    }

    #[test]
    fn what_states_no_budget_says_why() {
        let alone = HeaderError::Alone { there: LIMIT, missing: REMAINING };
        assert_eq!(budget(Some("100"), None), Err(alone));
        assert_eq!(budget(None, Some("1")), Err(HeaderError::Alone { there: REMAINING, missing: LIMIT }));
        for limit in ["", "many", "-100;w=60", "9223372036854775808"] {
            assert_eq!(budget(Some(limit), Some("1")), Err(HeaderError::NoNumber(LIMIT)), "{limit}");
        }
        assert_eq!(budget(Some("100"), Some("w=60")), Err(HeaderError::NoNumber(REMAINING)));
        assert_eq!(budget(Some(&"1,".repeat(400)), Some("1")), Err(HeaderError::NoNumber(LIMIT)));
    }
}
