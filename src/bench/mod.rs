//! Measuring what the proxy costs: load, CPU time, rounds, and the report of them.
//!
//! Machines are noisy, so nothing is measured alone: the settings take turns within each
//! round, in an order of its own, and what is told is the median of the rounds' ratios.

pub mod leakage;
pub mod load;
pub mod page;
pub mod process;
pub mod report;
pub mod spread;
pub mod table;
