//! How often a reply showed the value of a field whose reads are noted.

use crate::seal::FieldId;

/// The audited fields that one reply, or several, showed in plain, and how often each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reads(Vec<(FieldId, u64)>);

impl Reads {
    /// Counts one value of a field.
    pub(super) fn note(&mut self, field: FieldId) {
        match self.0.iter_mut().find(|(known, _)| *known == field) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => self.0.push((field, 1)),
        }
    }

    /// The fields and how many values of each were shown.
    pub fn fields(&self) -> &[(FieldId, u64)] {
        &self.0
    }

    /// Whether nothing was shown that is to be noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
