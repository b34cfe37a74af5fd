//! Measuring what the proxy costs: load, CPU time, rounds, and the report of them.
//!
//! Machines are noisy, so nothing is measured alone: the settings take turns within each
//! round, in an order of its own, and what is told is the median of the rounds' ratios.

pub mod documents;
pub mod fault;
pub mod leakage;
pub mod load;
pub mod page;
pub mod process;
pub mod proof;
pub mod proxy;
pub mod reckon;
pub mod report;
pub mod rounds;
pub mod settings;
pub mod spread;
pub mod stage;
pub mod subject;
pub mod table;
pub mod upstream;
