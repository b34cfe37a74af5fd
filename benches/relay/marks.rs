//! What is to be reached.

use std::fmt;

use fieldseal::bench::spread::Spread;
use serde::{Serialize, Serializer};

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
    pub(crate) found: Spread,
}

impl Mark {
    /// Whether the median is within the bound.
    pub(crate) fn passes(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.found.median <= bound,
            Bound::AtLeast(bound) => self.found.median >= bound,
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            what,
            unit,
            bound,
            found,
        } = self;
        let verdict = if self.passes() { "pass" } else { "SHORT" };
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!(" {unit}")
        };
        write!(
            f,
            "| {row}: {what} | {bound}{unit} | {:.2} ({:.2} to {:.2}) | {verdict} |",
            found.median, found.low, found.high
        )
    }
}
