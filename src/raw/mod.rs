//! Raw BSON: a bounded cursor that knows where every element lies, and a
//! splicer that changes elements in place while it copies the rest unread.

mod cursor;
mod splice;
mod write;

pub use cursor::{Doc, Element, Elements, Malformed, kind};
pub use splice::{Checkpoint, Mark, Splicer};
pub use write::{Open, Writer};
