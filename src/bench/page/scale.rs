//! From numbers to places: an axis with round numbers on it.

/// An axis.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

/// From which ratio of the ends on numbers are shown by their logarithms.
const WIDE: f64 = 5.0;

impl Scale {
    /// An axis for lengths: from 0, or from below it if some are.
    pub(super) fn from_zero(values: impl IntoIterator<Item = f64>, ticks: usize) -> Self {
        let (low, high) = ends(values).unwrap_or((0.0, 1.0));
        Self::linear(low.min(0.0), high.max(0.0), ticks)
    }

    /// An axis for ratios, on which 1 has its place.
    pub(super) fn around_one(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = ends(positive.chain([0.98, 1.02])).unwrap_or((0.98, 1.02));
        if high / low < WIDE {
            return Self::linear(low, high, 5).between(low, high);
        }
        // A ratio beyond these is a mistake of measurement, and stands at the end.
        let (low, high) = (low.max(1e-6), high.min(1e6));
        let all: Vec<f64> = (-6..=6)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
            .collect();
        let first = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
        let last = (all.iter().position(|tick| *tick >= high)).unwrap_or(all.len() - 1);
        let between = all.get(first..=last).unwrap_or_default();
        // Decades alone where there are many.
        let decades = between.len() > 5;
        let shown = |tick: &f64| !decades || (tick.log10() - tick.log10().round()).abs() < 1e-9;
        Self {
            low: between.first().copied().unwrap_or(low),
            high: between.last().copied().unwrap_or(high),
            logarithmic: true,
            ticks: between.iter().copied().filter(shown).collect(),
        }
    }

    fn linear(low: f64, high: f64, ticks: usize) -> Self {
        let span = if high - low > f64::EPSILON * high.abs().max(1e-9) {
            high - low
        } else {
            high.abs().max(1.0)
        };
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let rough = span / ticks.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let digit = [1.0, 2.0, 5.0, 10.0].into_iter();
        let step = digit
            .map(|digit| digit * power)
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let first = (low / step + 1e-9).floor();
        let last = ((low + span) / step - 1e-9).ceil();
        // Counted, so that no rounding adds up.
        let ticks: Vec<f64> = (0..=20_u8)
            .map(|number| first + f64::from(number))
            .take_while(|number| *number <= last)
            .map(|number| number * step)
            .collect();
        Self {
            low: first * step,
            high: last * step,
            logarithmic: false,
            ticks,
        }
    }

    /// The same with these ends and a little room, though no round numbers are there.
    fn between(mut self, low: f64, high: f64) -> Self {
        let room = (high - low) * 0.03;
        (self.low, self.high) = (low - room, high + room);
        self.ticks
            .retain(|tick| (self.low..=self.high).contains(tick));
        self
    }

    /// Where a value is, from 0 to 1; what lies outside is at the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if place.is_finite() {
            place.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The round numbers on it.
    pub(super) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// Whether equal steps stand for equal ratios.
    pub(super) fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }
}

fn ends(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    (values.into_iter())
        .filter(|value| value.is_finite())
        .fold(None, |ends, value| {
            let (low, high) = ends.unwrap_or((value, value));
            Some((value.min(low), value.max(high)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_around_all_values() {
        let scale = Scale::from_zero([3.0, 17.2], 4);
        assert_eq!(scale.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(
            (scale.at(0.0), scale.at(10.0), scale.at(20.0)),
            (0.0, 0.5, 1.0)
        );
        let scale = Scale::from_zero([-0.4, 1.1], 4);
        assert_eq!(scale.ticks(), [-0.5, 0.0, 0.5, 1.0, 1.5]);
    }

    #[test]
    fn ratios_have_one_on_their_axis_and_wide_ones_go_by_logarithms() {
        let scale = Scale::around_one([1.04, 1.11]);
        assert!(!scale.is_logarithmic());
        assert!(scale.ticks().iter().any(|tick| (tick - 1.0).abs() < 1e-9));
        assert!(scale.at(0.5) <= 0.0 && scale.at(1.11) < 1.0);
        assert!(
            scale
                .ticks()
                .iter()
                .all(|tick| (0.0..=1.0).contains(&scale.at(*tick)))
        );
        let scale = Scale::around_one([0.3, 40.0]);
        assert!(scale.is_logarithmic());
        assert!(scale.ticks().contains(&1.0), "{scale:?}");
    }

    #[test]
    fn no_values_or_odd_ones_make_an_axis_all_the_same() {
        for values in [
            &[][..],
            &[f64::NAN],
            &[f64::INFINITY],
            &[0.0],
            &[5.0],
            &[1e300],
            &[1e-300],
        ] {
            for scale in [
                Scale::from_zero(values.iter().copied(), 4),
                Scale::around_one(values.iter().copied()),
            ] {
                for value in values.iter().chain(&[1.0, -1.0, f64::NAN]) {
                    assert!(
                        (0.0..=1.0).contains(&scale.at(*value)),
                        "{values:?} {scale:?}"
                    );
                }
                assert!(scale.ticks().len() < 30);
                assert!(scale.ticks().iter().all(|tick| tick.is_finite()));
            }
        }
    }
}
