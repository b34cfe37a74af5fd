//! What a job counted.

use std::collections::BTreeMap;

use bson::{Document, doc};

/// More kinds of reasons than these are counted together.
const MOST_REASONS: usize = 200;
/// How many documents are named whose sealed value another one has.
const MOST_DUPLICATES: usize = 20;

/// Why a value, or a document, was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The field, as the schema has it; none if it is the document as a whole.
    pub field: Option<String>,
    /// What is the matter, without any value.
    pub why: String,
}

/// What was done to the values of one field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfField {
    /// Values that were seen, null not among them.
    pub seen: u64,
    /// Values that had to be changed.
    pub changed: u64,
}

/// What a pass over a collection counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Documents that were seen.
    pub documents: u64,
    /// Documents that had to be changed.
    pub changed: u64,
    /// By field, as the schema names it.
    pub fields: BTreeMap<String, OfField>,
    /// What was left, and why.
    pub left: BTreeMap<Reason, u64>,
    /// The `_id` of documents that were refused by a unique index, as far as they are named.
    pub duplicates: Vec<String>,
}

impl Tally {
    /// Notes that something is left as it is.
    pub fn leave(&mut self, field: Option<&str>, why: impl Into<String>) {
        let mut reason = Reason {
            field: field.map(str::to_owned),
            why: why.into(),
        };
        if self.left.len() >= MOST_REASONS && !self.left.contains_key(&reason) {
            reason = Reason {
                field: None,
                why: "is left for further reasons".to_owned(),
            };
        }
        *self.left.entry(reason).or_default() += 1;
    }

    /// Notes a document that a unique index refuses.
    pub fn duplicate(&mut self, id: String) {
        self.leave(
            None,
            "has a value in a unique index that another document has",
        );
        if self.duplicates.len() < MOST_DUPLICATES && !self.duplicates.contains(&id) {
            self.duplicates.push(id);
        }
    }

    /// Counts one value of a field.
    pub fn value(&mut self, field: &str, changed: bool) {
        // No name is made anew for each value.
        if !self.fields.contains_key(field) {
            self.fields.insert(field.to_owned(), OfField::default());
        }
        if let Some(of_field) = self.fields.get_mut(field) {
            of_field.seen += 1;
            of_field.changed += u64::from(changed);
        }
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: Self) {
        self.documents += other.documents;
        self.changed += other.changed;
        for (field, more) in other.fields {
            let of_field = self.fields.entry(field).or_default();
            of_field.seen += more.seen;
            of_field.changed += more.changed;
        }
        for (reason, count) in other.left {
            *self.left.entry(reason).or_default() += count;
        }
        for id in other.duplicates {
            if self.duplicates.len() < MOST_DUPLICATES && !self.duplicates.contains(&id) {
                self.duplicates.push(id);
            }
        }
    }

    /// What the next pass begins with: what was changed in each field so far.
    pub(super) fn next(&self) -> Self {
        let mut next = Self {
            fields: self.fields.clone(),
            ..Self::default()
        };
        next.forget_sight();
        next
    }

    /// Counts nothing as changed: it was only looked at.
    pub(super) fn forget_changes(&mut self) {
        self.changed = 0;
        self.fields.values_mut().for_each(|of| of.changed = 0);
    }

    /// Counts nothing as seen: it has been counted when it was looked at.
    pub(super) fn forget_sight(&mut self) {
        self.documents = 0;
        self.fields.values_mut().for_each(|of| of.seen = 0);
    }

    /// How many values, or documents, were left.
    pub fn left(&self) -> u64 {
        self.left.values().sum()
    }

    /// The form in which it is kept between two runs.
    pub(super) fn to_document(&self) -> Document {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let fields: Vec<Document> = self
            .fields
            .iter()
            .map(|(field, of)| doc! {"field": field, "seen": number(of.seen), "changed": number(of.changed)})
            .collect();
        let left: Vec<Document> = self
            .left
            .iter()
            .map(|(reason, count)| {
                doc! {"field": &reason.field, "why": &reason.why, "count": number(*count)}
            })
            .collect();
        doc! {
            "documents": number(self.documents), "changed": number(self.changed),
            "fields": fields, "left": left, "duplicates": &self.duplicates,
        }
    }

    /// Reads that form; what is not there counts as nothing.
    pub(super) fn from_document(kept: &Document) -> Self {
        let mut tally = Self {
            documents: number(kept, "documents"),
            changed: number(kept, "changed"),
            ..Self::default()
        };
        for of in documents(kept, "fields") {
            let counts = OfField {
                seen: number(of, "seen"),
                changed: number(of, "changed"),
            };
            let field = of.get_str("field").unwrap_or_default();
            tally.fields.insert(field.to_owned(), counts);
        }
        for reason in documents(kept, "left") {
            let key = Reason {
                field: reason.get_str("field").ok().map(str::to_owned),
                why: reason.get_str("why").unwrap_or_default().to_owned(),
            };
            tally.left.insert(key, number(reason, "count"));
        }
        if let Ok(ids) = kept.get_array("duplicates") {
            let ids = ids.iter().filter_map(|id| id.as_str().map(str::to_owned));
            tally.duplicates.extend(ids.take(MOST_DUPLICATES));
        }
        tally
    }
}

fn number(kept: &Document, key: &str) -> u64 {
    u64::try_from(kept.get_i64(key).unwrap_or_default()).unwrap_or_default()
}

fn documents<'d>(kept: &'d Document, key: &str) -> impl Iterator<Item = &'d Document> {
    let array = kept.get_array(key).map(Vec::as_slice).unwrap_or_default();
    array.iter().filter_map(bson::Bson::as_document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Tally {
        let mut tally = Tally {
            documents: 5,
            changed: 2,
            ..Tally::default()
        };
        tally.value("ssn", true);
        tally.value("ssn", false);
        tally.value("visits.note", false);
        tally.leave(Some("ssn"), "is int");
        tally.duplicate("7".to_owned());
        tally
    }

    #[test]
    fn what_was_counted_is_kept_between_two_runs() {
        assert_eq!(Tally::from_document(&some().to_document()), some());
        assert_eq!(Tally::from_document(&doc! {}), Tally::default());
    }

    #[test]
    fn two_counts_make_one() {
        let mut both = some();
        both.add(some());
        assert_eq!((both.documents, both.changed, both.left()), (10, 4, 4));
        let ssn = OfField {
            seen: 4,
            changed: 2,
        };
        assert_eq!(both.fields.get("ssn"), Some(&ssn));
        assert_eq!(both.duplicates, ["7"]);
    }

    #[test]
    fn reasons_without_number_are_counted_together() {
        let mut tally = Tally::default();
        for id in 0..10_000 {
            tally.leave(Some("ssn"), format!("key {id}"));
        }
        assert_eq!(tally.left(), 10_000);
        assert!(tally.left.len() <= MOST_REASONS + 1);
    }
}
