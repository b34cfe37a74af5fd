//! Fieldseal: an encrypting proxy for MongoDB.
//!
//! A request changes its type at every hop, and a reader can follow the types:
//!
//! ```text
//! wire::Frame → wire::Message → rewrite::Command → rewrite::Decision → rewrite::Cleared → upstream
//!                                                                    ↘ Refusal → error reply
//! ```
//!
//! The way back is `wire::Frame → wire::Message → reveal::ReplyPlan → client`.
//! See `ARCHITECTURE.md` for a tour of one write and one read.

pub mod access;
#[cfg(not(fuzzing))]
pub mod bench;
#[cfg(not(fuzzing))]
pub mod cli;
pub mod code;
pub mod config;
pub mod document;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
pub mod keyring;
#[cfg(not(fuzzing))]
pub mod migrate;
#[cfg(not(fuzzing))]
pub mod observe;
pub mod policy;
#[cfg(not(fuzzing))]
pub mod proxy;
pub mod raw;
pub mod refusal;
pub mod reveal;
pub mod rewrite;
pub mod schema;
pub mod seal;
pub mod tls;
pub mod wire;
