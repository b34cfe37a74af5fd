//! What is remembered of what the proxy did.

pub mod audit;
