//! The headers of a pull budget: the first line is `ratelimit-limit`, the second `ratelimit-remaining`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall::budget::{HeaderError, budget};
use squall::model::Budget;

fuzz_target!(|text: &str| {
    let (limit, remaining) = text.split_once('\n').map_or((text, None), |(limit, rest)| (limit, Some(rest)));
    match budget(Some(limit), remaining) {
        Ok(None) => panic!("a header is there"),
        Ok(Some(budget)) => {
            let remaining = remaining.expect("both are there");
            assert!(budget.limit >= 0);
            assert!(holds(limit, budget.limit.unsigned_abs()), "{budget:?}");
            assert!(holds(remaining, budget.remaining.unsigned_abs()), "{budget:?}");
            let has = |window: u64| window > 0 && (holds(limit, window) || holds(remaining, window));
            assert!(budget.window_secs.is_none_or(has), "{budget:?}");
            assert!(budget.spent() == 0 || budget.remaining < budget.limit);
            assert_eq!(written_again(&budget), Ok(Some(budget)), "what it says is read as itself");
        }
        Err(HeaderError::Alone { .. }) => assert!(remaining.is_none()),
        Err(HeaderError::NoNumber(_)) => assert!(remaining.is_some()),
    }
    assert_eq!(budget(None, None), Ok(None));
});

/// Whether a header has this number, perhaps with zeros before it.
fn holds(text: &str, number: u64) -> bool {
    text.contains(&number.to_string())
}

/// The budget as a registry would write it.
fn written_again(budget: &Budget) -> Result<Option<Budget>, HeaderError> {
    let window = budget.window_secs.map(|secs| format!(";w={secs}")).unwrap_or_default();
    let (limit, remaining) = (format!("{}{window}", budget.limit), format!("{}{window}", budget.remaining));
    squall::budget::budget(Some(&limit), Some(&remaining))
}
