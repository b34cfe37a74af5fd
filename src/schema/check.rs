//! What can be wrong between the collections of a schema.

use std::collections::HashMap;

use super::{CollectionRule, FieldRule, namespace};
use crate::document::{Mistake, Place};

/// A rule, and where in which file it and its fields stand.
pub(super) struct Draft {
    pub(super) file: String,
    pub(super) place: Place,
    pub(super) rule: CollectionRule,
    pub(super) field_places: Vec<Place>,
}

impl Draft {
    fn mistake(&self, place: &Place, what: String) -> Mistake {
        Mistake {
            file: self.file.clone(),
            line: place.line,
            path: place.path.clone(),
            what,
        }
    }

    /// The fields with their places.
    fn fields(&self) -> impl Iterator<Item = (&FieldRule, &Place)> {
        self.rule.fields.iter().zip(&self.field_places)
    }

    /// Where the draft is, for messages about another one.
    fn describe(&self) -> String {
        match self.place.line {
            Some(line) => format!("{:?} ({}:{line})", self.rule.pattern, self.file),
            None => format!("{:?} ({})", self.rule.pattern, self.file),
        }
    }
}

/// Checks what no collection shows by itself.
pub(super) fn check_together(drafts: &[Draft], mistakes: &mut Vec<Mistake>) {
    check_namespaces(drafts, mistakes);
    check_identities(drafts, mistakes);
    check_domains(drafts, mistakes);
}

fn check_namespaces(drafts: &[Draft], mistakes: &mut Vec<Mistake>) {
    let mut seen: HashMap<&str, &Draft> = HashMap::new();
    let mut patterns: Vec<&Draft> = Vec::new();
    for draft in drafts {
        let pattern = draft.rule.pattern.as_str();
        if let Some(first) = seen.get(pattern) {
            let what = format!("is named a second time; the first is {}", first.describe());
            mistakes.push(draft.mistake(&draft.place, what));
            continue;
        }
        seen.insert(pattern, draft);
        if !namespace::is_pattern(pattern) {
            continue;
        }
        if let Some(first) = patterns
            .iter()
            .find(|first| namespace::overlap(&first.rule.pattern, pattern))
        {
            let what = format!(
                "can stand for a namespace that {} stands for too",
                first.describe()
            );
            mistakes.push(draft.mistake(&draft.place, what));
        }
        patterns.push(draft);
    }
}

/// A reader tells the fields of a collection apart by their ids alone.
fn check_identities(drafts: &[Draft], mistakes: &mut Vec<Mistake>) {
    for draft in drafts {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (field, place) in draft.fields() {
            if let Some(first) = seen.insert(field.identity(), &field.path) {
                let what = format!(
                    "has the same identity {:?} as the field {first:?}",
                    field.identity()
                );
                mistakes.push(draft.mistake(place, what));
            }
        }
    }
}

/// Fields of one domain share token keys, which one key gives.
fn check_domains(drafts: &[Draft], mistakes: &mut Vec<Mistake>) {
    let mut seen: HashMap<&str, (&FieldRule, &Draft)> = HashMap::new();
    for draft in drafts {
        for (field, place) in draft.fields() {
            let Some(domain) = field.domain.as_deref() else {
                continue;
            };
            let (first, of) = *seen.entry(domain).or_insert((field, draft));
            if first.key != field.key {
                let what = format!(
                    "fields of one domain have one key: this has {:?}, but the field {:?} of {} has {:?}",
                    field.key,
                    first.path,
                    of.describe(),
                    first.key
                );
                mistakes.push(draft.mistake(place, what));
            }
        }
    }
}
