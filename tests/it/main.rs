//! The tests against a real mongod, by what a user sees. One binary, so that it
//! links once and its modules share one replica set.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod admin;
mod attacks;
mod audit;
mod bad_input;
mod bench;
mod cli;
mod connections;
mod differential;
mod encryption_spec;
mod epochs;
mod failures;
mod harness;
mod hello;
mod keys;
mod leak;
mod life;
mod limits;
mod metrics;
mod migrate;
mod operators;
mod principals;
mod replies;
mod roles;
mod rust_driver;
mod status;
mod suites;
mod support;
mod telemetry;
mod tls;
mod untouched;
mod views;
mod watching;
