//! The life of the process: what it is told, what it tells, and how it gives way to another.

mod draining;
mod rolling;
mod service;

const SCHEMA: &str = r#"
[collections."life_*.people".fields]
ssn = { type = "string", queries = ["equality"] }
"#;
