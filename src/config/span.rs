//! A span of time, as people write it: `90d`.

use std::time::Duration;

/// What each unit has in seconds.
const UNITS: [(&str, u64); 6] = [
    ("s", 1),
    ("m", 60),
    ("h", 3600),
    ("d", 24 * 3600),
    ("w", 7 * 24 * 3600),
    ("y", 365 * 24 * 3600),
];

/// The span that `text` says, which is not nothing: a number and a unit.
pub(super) fn span(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let seconds = number.parse::<u64>().ok()?.checked_mul(*seconds)?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_span_and_nothing_else_is() {
        for (text, seconds) in [
            ("1s", 1),
            ("90m", 5400),
            ("12h", 43_200),
            ("90d", 7_776_000),
            ("2w", 1_209_600),
            ("1y", 31_536_000),
        ] {
            assert_eq!(span(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "1.5d",
            "9 d",
            "1d12h",
            "90days",
            "+1d",
            "9999999999999999999y",
            "99999999999999999999d",
            "ä",
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }
}
