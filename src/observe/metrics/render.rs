//! The counts as Prometheus reads them.

use super::{Extras, Snapshot};

/// What [`render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text for one scrape.
pub fn render(_snapshot: &Snapshot, _extras: &Extras) -> String {
    String::new()
}
