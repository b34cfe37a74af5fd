//! The shapes of the documents that open cursors hold.
//!
//! Their fields have keys. A cursor may be left open and never be read on, so what remembers it
//! holds none of them: the shapes are the policy's, and end with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Collection, Policy};

/// A cursor of one member: the route, and MongoDB's number for it.
pub type Cursor = (usize, i64);

/// Shapes that pipelines made, by the cursor that holds such documents.
#[derive(Debug, Default)]
pub(super) struct Shapes(Mutex<HashMap<Cursor, Arc<Collection>>>);

impl Shapes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Cursor, Arc<Collection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy {
    /// Keeps the shape of a cursor's documents, for everyone, for as long as this policy lasts.
    pub fn keep_shape(&self, cursor: Cursor, shape: Arc<Collection>) {
        self.shapes.lock().insert(cursor, shape);
    }

    /// The shape that was kept of a cursor's documents.
    pub fn kept_shape(&self, cursor: Cursor) -> Option<Arc<Collection>> {
        self.shapes.lock().get(&cursor).cloned()
    }

    /// Forgets the shape of a cursor's documents.
    pub fn forget_shape(&self, cursor: Cursor) {
        self.shapes.lock().remove(&cursor);
    }
}
