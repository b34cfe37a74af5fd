//! What many measurements of one thing say: their middle, and how far they lie apart.

use serde::{Deserialize, Serialize};

/// The median, and the 10th and 90th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// One in ten was below it.
    pub low: f64,
    /// Half were below it.
    pub median: f64,
    /// One in ten was above it.
    pub high: f64,
}

impl Spread {
    /// Of these measurements; none if there are none. Those that are no number are left out.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            low: quantile(&values, 0.1)?,
            median: quantile(&values, 0.5)?,
            high: quantile(&values, 0.9)?,
        })
    }
}

/// The value that a share of `part` (0 to 1) of the ascending `sorted` lies below, between
/// neighbours where it falls between; none of none.
pub fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = part.clamp(0.0, 1.0) * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to the last index"
    )]
    let below = place.floor() as usize;
    let (left, right) = (*sorted.get(below)?, *sorted.get((below + 1).min(last))?);
    Some(left + (right - left) * (place - place.floor()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_both_sides_of_what_was_measured() {
        let spread = Spread::of((0..=100).rev().map(f64::from)).unwrap_or_default();
        assert_eq!((spread.low, spread.median, spread.high), (10.0, 50.0, 90.0));
        let one = Spread::of([7.0]).unwrap_or_default();
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
        assert_eq!(
            Spread::of([1.0, 2.0]).map(|spread| spread.median),
            Some(1.5)
        );
    }
}
