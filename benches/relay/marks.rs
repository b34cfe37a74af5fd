//! What is to be reached.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::measure::Found;

/// How much is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {bound}"),
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
        }
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Mark {
    /// What was done, and by which build.
    pub(crate) row: String,
    /// What is compared with what.
    pub(crate) what: &'static str,
    /// Empty for a ratio.
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
    pub(crate) found: Found,
}

impl Bound {
    fn allows(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl Mark {
    /// Whether the median is within the bound.
    pub(crate) fn passes(&self) -> bool {
        self.bound.allows(self.found.spread.median)
    }

    /// Whether more rounds could have it otherwise.
    fn is_open(&self) -> bool {
        let (low, high) = self.found.between;
        self.bound.allows(low) != self.bound.allows(high)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.passes(), self.is_open()) {
            (true, false) => "pass",
            (true, true) => "pass, not certain",
            (false, false) => "SHORT",
            (false, true) => "SHORT, not certain",
        };
        let Self {
            row, what, bound, ..
        } = self;
        let unit = match self.unit {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        let (spread, (least, most)) = (self.found.spread, self.found.between);
        write!(f, "| {row}: {what} | {bound}{unit} | {:.2}", spread.median)?;
        if spread.low < spread.high {
            write!(
                f,
                " ({least:.2} to {most:.2}; {:.2} to {:.2})",
                spread.low, spread.high
            )?;
        }
        write!(f, " | {verdict} |")
    }
}
