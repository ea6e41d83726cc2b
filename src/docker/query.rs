//! Builds the paths of requests: percent-encoding and JSON filters.

use std::fmt::Write as _;

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Docker's `filters` parameter, `{"name":["value",...],...}`, encoded; empty when there is nothing to filter by.
pub(crate) fn filters<S: AsRef<str>>(filters: &[(&str, &[S])]) -> String {
    let mut map = serde_json::Map::new();
    for (name, values) in filters {
        if !values.is_empty() {
            let values: Vec<serde_json::Value> = values.iter().map(|value| value.as_ref().into()).collect();
            map.insert((*name).to_owned(), values.into());
        }
    }
    if map.is_empty() { String::new() } else { encode(&serde_json::Value::Object(map).to_string()) }
}

/// A time as Docker reads it without loss: seconds, a point, nine digits. A float would lose the last three.
pub(crate) fn time(nanos: i64) -> String {
    let nanos = nanos.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_encoded_json() {
        assert_eq!(filters::<&str>(&[("service", &[])]), "");
        assert_eq!(filters(&[("service", &["a", "b/c"])]), "%7B%22service%22%3A%5B%22a%22%2C%22b%2Fc%22%5D%7D");
    }

    #[test]
    fn a_time_keeps_its_nine_digits() {
        assert_eq!(time(1_700_000_000_000_000_042), "1700000000.000000042");
        assert_eq!(time(-5), "0.000000000");
    }
}
