//! What a job has to change in one document, and the update that changes it.

use super::job::{Job, Verdict, Work};
use super::tally::Tally;
use super::walk::{self, Site};
use crate::raw::{Doc, Element, Malformed, Writer, kind};

/// The largest document that MongoDB stores.
const LARGEST: usize = 16 * 1024 * 1024;

/// Why a value is left that no path leads to, nor any update: of a document that is replaced
/// MongoDB keeps only the difference, by names. Where two differ that have one name, it ends
/// with a failed invariant (6.0), or its secondaries change the other one.
const TWICE: &str = "stands in a document that has a name twice, which MongoDB cannot change safely: insert it anew, with names that differ";

/// An element that another one takes the place of.
#[derive(Debug)]
struct Patch {
    /// Where it begins in the document.
    start: usize,
    /// Where it ends.
    end: usize,
    /// The new one: type, name and value.
    element: Vec<u8>,
}

/// A place whose values change, as a part of an update.
#[derive(Debug)]
struct Setting {
    /// The path that leads to it, if there is one.
    path: Option<String>,
    kind: u8,
    value: Vec<u8>,
}

/// What has to change in one document.
#[derive(Debug, Default)]
pub(super) struct Plan {
    patches: Vec<Patch>,
    settings: Vec<Setting>,
}

impl Plan {
    /// Judges every value of a document. What is left as it is is noted in `tally`.
    pub(super) fn of(job: &Job<'_>, doc: Doc<'_>, tally: &mut Tally) -> Result<Self, Malformed> {
        let mut plan = Self::default();
        let mut left = Tally::default();
        walk::sites::<Malformed>(&job.collection, doc, |site| plan.site(job, site, &mut left))?;
        if job.work == Work::Encrypt
            && let Some(field) = walk::misnamed(&job.collection, doc)?
            && job.concerns(field)
        {
            left.leave(
                Some(&field.path),
                "is stored under a field name with a dot in it, which no path leads to: nest it",
            );
        }
        if plan.length_after(doc) > LARGEST {
            // None of it is done: a document changes as a whole or not at all.
            left.fields.values_mut().for_each(|of| of.changed = 0);
            left.leave(
                None,
                format!(
                    "would be larger than the 16 MB that MongoDB takes once it is {}",
                    job.work.done()
                ),
            );
            plan = Self::default();
        }
        left.documents = 1;
        left.changed = u64::from(!plan.is_empty());
        tally.add(left);
        Ok(plan)
    }

    /// Whether nothing has to change.
    pub(super) fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    fn length_after(&self, doc: Doc<'_>) -> usize {
        let removed: usize = self
            .patches
            .iter()
            .map(|patch| patch.end - patch.start)
            .sum();
        let added: usize = self.patches.iter().map(|patch| patch.element.len()).sum();
        (doc.bytes().len() + added).saturating_sub(removed)
    }

    fn site(
        &mut self,
        job: &Job<'_>,
        site: &Site<'_, '_>,
        tally: &mut Tally,
    ) -> Result<(), Malformed> {
        if !job.concerns(site.field) {
            return Ok(());
        }
        let first = self.patches.len();
        let path = &site.field.path;
        site.values::<Malformed>(|value| {
            let mut element = Vec::new();
            let verdict = job.value(site, &value, &mut element)?;
            if !value.element.is_null() {
                tally.value(path, verdict == Verdict::Changed && !site.twice);
            }
            match verdict {
                Verdict::Right => {}
                Verdict::Left(why) => tally.leave(Some(path), why),
                Verdict::Changed if site.twice => tally.leave(Some(path), TWICE),
                Verdict::Changed => self.patches.push(Patch {
                    start: value.element.start,
                    end: value.element.end,
                    element,
                }),
            }
            Ok(())
        })?;
        let patches = self.patches.get(first..).unwrap_or_default();
        if patches.is_empty() {
            return Ok(());
        }
        let mut new = Vec::new();
        patch(&site.element, patches, &mut new)?;
        let key_end = 1 + site.element.key.len() + 1;
        let (Some(&kind), Some(value)) = (new.first(), new.get(key_end..)) else {
            return Err(Malformed("an element is cut off"));
        };
        self.settings.push(Setting {
            path: site.dotted(),
            kind,
            value: value.to_vec(),
        });
        Ok(())
    }

    /// Appends the statement of an `update` command that changes the document.
    ///
    /// The paths are those of this very document: it must not have changed since.
    pub(super) fn write(
        &self,
        doc: Doc<'_>,
        id: &Element<'_>,
        key: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let mut writer = Writer::new(out);
        let statement = writer.begin_doc(key);
        let query = writer.begin_doc("q");
        let equal = writer.begin_doc("_id");
        writer.value(id.kind, "$eq", id.value());
        writer.end(equal);
        writer.end(query);
        if self.settings.iter().all(|setting| setting.path.is_some()) {
            let update = writer.begin_doc("u");
            let set = writer.begin_doc("$set");
            for setting in &self.settings {
                let path = setting.path.as_deref().unwrap_or_default();
                writer.value(setting.kind, path, &setting.value);
            }
            writer.end(set);
            writer.end(update);
        } else {
            self.replacement(doc, &mut writer)?;
        }
        writer.end(statement);
        Ok(())
    }

    /// Where no path leads, the document is replaced as a whole. A pipeline does that
    /// with any names, and leaves timestamps as they are.
    fn replacement(&self, doc: Doc<'_>, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        let update = writer.begin_array("u");
        let stage = writer.begin_doc("0");
        let replace = writer.begin_doc("$replaceWith");
        let literal = writer.begin_doc("$literal");
        for element in doc.elements() {
            patch(&element?, &self.patches, writer.buffer())?;
        }
        writer.end(literal);
        writer.end(replace);
        writer.end(stage);
        writer.end(update);
        Ok(())
    }
}

/// Appends `element` with the patches that lie in it, which are in the order of the document.
fn patch(element: &Element<'_>, patches: &[Patch], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let first = patches.partition_point(|patch| patch.start < element.start);
    let after = patches.partition_point(|patch| patch.start < element.end);
    let within = patches.get(first..after).unwrap_or_default();
    match within {
        [] => out.extend_from_slice(element.bytes()),
        [whole, ..] if whole.start == element.start => out.extend_from_slice(&whole.element),
        _ => {
            let mut writer = Writer::new(out);
            let open = match element.kind {
                kind::ARRAY => writer.begin_array(element.key),
                _ => writer.begin_doc(element.key),
            };
            for item in element.doc()?.elements() {
                patch(&item?, within, writer.buffer())?;
            }
            writer.end(open);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Bson, Document, doc};

    use super::*;
    use crate::policy::{Policy, fixture};

    fn bytes(document: &Document) -> Vec<u8> {
        bson::serialize_to_vec(document).unwrap()
    }

    pub(in crate::migrate) fn plan(
        policy: &Policy,
        work: Work,
        fields: &[&str],
        stored: &[u8],
    ) -> (Document, Tally) {
        let job = Job {
            work,
            policy,
            collection: policy.collection("shop.customers").unwrap(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        };
        let mut tally = Tally::default();
        let doc = Doc::whole(stored).unwrap();
        let plan = Plan::of(&job, doc, &mut tally).unwrap();
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let open = writer.begin();
        if !plan.is_empty() {
            let id = doc.find("_id").unwrap().unwrap();
            plan.write(doc, &id, "0", writer.buffer()).unwrap();
        }
        writer.end(open);
        let command: Document = bson::deserialize_from_slice(&out).unwrap();
        let statement = command.get_document("0").cloned().unwrap_or_default();
        (statement, tally)
    }

    /// The document that a statement leaves behind.
    pub(in crate::migrate) fn applied(stored: &Document, statement: &Document) -> Document {
        let mut stored = stored.clone();
        if let Ok(stages) = statement.get_array("u") {
            let stage = stages[0].as_document().unwrap();
            let replace = stage.get_document("$replaceWith").unwrap();
            return replace.get_document("$literal").unwrap().clone();
        }
        let Ok(update) = statement.get_document("u") else {
            return stored;
        };
        for (path, value) in update.get_document("$set").unwrap() {
            let mut at = path.split('.').peekable();
            let first = at.next().unwrap();
            let mut place = stored.get_mut(first).unwrap();
            for component in at {
                place = match place {
                    Bson::Document(document) => document.get_mut(component).unwrap(),
                    Bson::Array(array) => &mut array[component.parse::<usize>().unwrap()],
                    other => panic!("{component} in {other}"),
                };
            }
            *place = value.clone();
        }
        stored
    }

    pub(in crate::migrate) fn everywhere() -> Document {
        doc! {
            "_id": 1, "name": "open",
            "ssn": "1", "payment": {"card": "2", "kind": "open"}, "age": -0.0, "tags": ["a", null, "b"],
            "address": {"street": "s", "b.c": {"$x": 1}}, "visits": [{"note": "n"}, {"other": 1}, {"note": null}],
            "contacts": {"home": {"phone": "3"}}, "notes": [1, ["nested"], {"a": 1}],
        }
    }

    #[test]
    fn what_is_sealed_and_then_opened_is_the_same_bytes() {
        let policy = fixture::policy();
        for stored in [everywhere(), {
            let mut odd = everywhere();
            odd.insert("contacts", doc! {"a.b": {"phone": "4"}, "": {"phone": "5"}});
            odd
        }] {
            let (statement, tally) = plan(&policy, Work::Encrypt, &[], &bytes(&stored));
            assert_eq!(tally.left(), 0, "{tally:?}");
            let sealed = applied(&stored, &statement);
            let text = sealed.to_string();
            for plain in ["\"1\"", "\"2\"", "\"3\"", "street", "nested", "\"n\""] {
                assert!(!text.contains(plain), "{plain}: {text}");
            }
            assert!(sealed.get_document("contacts").is_ok());
            let (again, _) = plan(&policy, Work::Encrypt, &[], &bytes(&sealed));
            assert!(again.is_empty(), "{again}");
            let (statement, tally) = plan(&policy, Work::Decrypt, &[], &bytes(&sealed));
            assert_eq!(tally.left(), 0, "{tally:?}");
            assert_eq!(bytes(&applied(&sealed, &statement)), bytes(&stored));
        }
    }

    #[test]
    fn only_exact_paths_are_set_and_only_what_has_to_change() {
        let policy = fixture::policy();
        let (statement, tally) = plan(&policy, Work::Encrypt, &[], &bytes(&everywhere()));
        assert_eq!(
            statement.get_document("q").unwrap(),
            &doc! {"_id": {"$eq": 1}}
        );
        let set = statement.get_document("u").unwrap();
        let set = set.get_document("$set").unwrap();
        assert_eq!(
            set.keys().collect::<Vec<_>>(),
            [
                "ssn",
                "payment.card",
                "age",
                "tags",
                "address",
                "visits.0.note",
                "contacts.home.phone",
                "notes"
            ]
        );
        assert_eq!(tally.changed, 1);
        let tags = tally.fields.get("tags").unwrap();
        assert_eq!((tags.seen, tags.changed), (2, 2));
    }

    #[test]
    fn a_job_on_one_field_leaves_the_others() {
        let policy = fixture::policy();
        let (statement, _) = plan(&policy, Work::Encrypt, &["ssn"], &bytes(&everywhere()));
        let set = statement.get_document("u").unwrap();
        let set = set.get_document("$set").unwrap();
        assert_eq!(set.keys().collect::<Vec<_>>(), ["ssn"]);
    }

    #[test]
    fn a_type_that_the_schema_does_not_take_is_counted_by_path_and_type_and_left() {
        let policy = fixture::policy();
        let stored = doc! {"_id": 1, "ssn": 4711, "tags": ["a", 4712], "address": [1, null]};
        let (statement, tally) = plan(&policy, Work::Encrypt, &[], &bytes(&stored));
        let left: Vec<String> = tally
            .left
            .keys()
            .map(|reason| format!("{} {}", reason.field.clone().unwrap(), reason.why))
            .collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(
            left[0].starts_with("address is an array that holds null"),
            "{left:?}"
        );
        assert_eq!(left[1], "ssn is int, and the schema takes string");
        assert_eq!(left[2], "tags is int, and the schema takes string");
        assert!(!format!("{tally:?}").contains("471"));
        let after = applied(&stored, &statement);
        assert_eq!(after.get("ssn"), stored.get("ssn"));
        assert!(after.get_array("tags").unwrap()[0].as_document().is_some());
        assert_eq!(after.get_array("tags").unwrap()[1], Bson::Int32(4712));
    }

    #[test]
    fn rotating_changes_what_is_under_an_older_version_and_no_token() {
        let mut keyring = fixture::keyring();
        let policy = fixture::policy();
        let stored = everywhere();
        let (statement, _) = plan(&policy, Work::Encrypt, &[], &bytes(&stored));
        let sealed = applied(&stored, &statement);
        let (same, _) = plan(&policy, Work::Rotate, &[], &bytes(&sealed));
        assert!(same.is_empty());

        keyring.rotate("default", None).unwrap();
        let policy = fixture::policy_with(keyring);
        let (statement, tally) = plan(&policy, Work::Rotate, &[], &bytes(&sealed));
        assert_eq!(tally.left(), 0);
        let anew = applied(&sealed, &statement);
        assert_eq!(
            anew.get_document("ssn").unwrap().get("e1"),
            sealed.get_document("ssn").unwrap().get("e1")
        );
        assert_ne!(anew.get("ssn"), sealed.get("ssn"));
        let (again, _) = plan(&policy, Work::Rotate, &[], &bytes(&anew));
        assert!(again.is_empty());
        let (statement, _) = plan(&policy, Work::Decrypt, &[], &bytes(&anew));
        assert_eq!(bytes(&applied(&anew, &statement)), bytes(&stored));
    }

    #[test]
    fn rotating_changes_the_suite_to_that_of_new_values() {
        let stored = doc! {"_id": 1, "ssn": "1", "address": 2};
        let (statement, _) = plan(&fixture::policy(), Work::Encrypt, &[], &bytes(&stored));
        let sealed = applied(&stored, &statement);
        let mut keyring = fixture::keyring();
        for version in &mut keyring.keys[0].versions {
            version.suite = Some(crate::keyring::Suite::Xaes256Gcm);
        }
        let policy = fixture::policy_with(keyring);
        let (statement, tally) = plan(&policy, Work::Rotate, &[], &bytes(&sealed));
        assert_eq!((tally.changed, tally.left()), (1, 0));
        let anew = applied(&sealed, &statement);
        assert_ne!(anew, sealed);
        let (again, _) = plan(&policy, Work::Rotate, &[], &bytes(&anew));
        assert!(again.is_empty(), "{again}");
    }

    #[test]
    fn a_name_that_stands_twice_is_left_and_the_rest_is_sealed() {
        let policy = fixture::policy();
        let mut stored = Vec::new();
        let mut writer = Writer::new(&mut stored);
        let open = writer.begin();
        for (name, value) in [("_id", "1"), ("ssn", "2"), ("ssn", "3"), ("address", "4")] {
            writer.string(name, value);
        }
        writer.end(open);
        let (statement, tally) = plan(&policy, Work::Encrypt, &[], &stored);
        let set = statement.get_document("u").unwrap();
        let set = set.get_document("$set").unwrap();
        assert_eq!(set.keys().collect::<Vec<_>>(), ["address"]);
        assert_eq!(tally.left(), 2, "{tally:?}");
        let reason = tally.left.keys().next().unwrap();
        assert!(reason.why.contains("a name twice"), "{tally:?}");
    }

    #[test]
    fn what_another_key_file_has_promoted_already_is_not_sealed_under_the_old_version_again() {
        let stored = doc! {"_id": 1, "ssn": "1"};
        let mut keyring = fixture::keyring();
        keyring.rotate("default", None).unwrap();
        let promoted = fixture::policy_with(keyring.clone());
        let (statement, _) = plan(&promoted, Work::Encrypt, &[], &bytes(&stored));
        let sealed = applied(&stored, &statement);
        let versions = &mut keyring.keys[0].versions;
        let last = versions.len() - 1;
        versions[last].state = crate::keyring::State::Staged;
        versions[last - 1].state = crate::keyring::State::Active;
        let behind = fixture::policy_with(keyring);
        let (statement, tally) = plan(&behind, Work::Rotate, &[], &bytes(&sealed));
        assert!(statement.is_empty(), "{statement}");
        assert_eq!(tally.left(), 0);
    }

    #[test]
    fn what_was_moved_or_damaged_or_has_no_key_is_counted_and_left() {
        let policy = fixture::policy();
        let stored = doc! {"_id": 1, "ssn": "1", "visits": [{"note": "a"}]};
        let (statement, _) = plan(&policy, Work::Encrypt, &[], &bytes(&stored));
        let mut sealed = applied(&stored, &statement);
        let ssn = sealed.get("ssn").unwrap().clone();
        sealed.insert("payment", doc! {"card": ssn});
        let visits = sealed.get_array_mut("visits").unwrap();
        let note = visits[0]
            .as_document_mut()
            .unwrap()
            .get_mut("note")
            .unwrap();
        if let Bson::Binary(binary) = note {
            *binary.bytes.last_mut().unwrap() ^= 1;
        }
        let other = fixture::policy_with({
            let mut keyring = fixture::keyring();
            keyring.keys[0].versions[1].state = crate::keyring::State::Retired;
            keyring.rotate("default", None).unwrap();
            keyring.keys[0].versions[1].state = crate::keyring::State::Disabled;
            keyring
        });
        for (policy, expected) in [
            (&policy, "tampered"),
            (&other, "key id 2, which is disabled"),
        ] {
            let (_, tally) = plan(policy, Work::Decrypt, &[], &bytes(&sealed));
            let why: Vec<&str> = tally
                .left
                .keys()
                .map(|reason| reason.why.as_str())
                .collect();
            assert!(why.iter().any(|why| why.contains("moved there")), "{why:?}");
            assert!(why.iter().any(|why| why.contains(expected)), "{why:?}");
        }
    }

    #[test]
    fn a_document_that_would_be_too_large_is_counted_and_left() {
        let policy = fixture::policy();
        let stored = doc! {"_id": 1, "ssn": "1", "open": "x".repeat(LARGEST - 60)};
        let (statement, tally) = plan(&policy, Work::Encrypt, &[], &bytes(&stored));
        assert!(statement.is_empty());
        assert_eq!((tally.changed, tally.left()), (0, 1));
    }
}
