//! The files of a schema, read and checked together.

use std::path::{Path, PathBuf};

use super::check::{Draft, check_together};
use super::field::{read_field, read_key_name};
use super::{
    CollectionRule, DEFAULT_KEY, FieldRule, OnPlaintext, Schema, SchemaErrors, Tree, TreeError,
    namespace,
};
use crate::document::{self, Format, Keys, Mistake, Node, Place, Reader};

const TOP: Keys = Keys {
    of: "the schema",
    // `$schema` is where editors look for the JSON Schema of a file.
    known: &["collections", "$schema"],
    later: &[],
};

const COLLECTION: Keys = Keys {
    of: "a collection",
    known: &["fields", "identity", "on_plaintext", "key"],
    later: &[
        "mask",
        "read",
        "write",
        "normalize",
        "bind",
        "suite",
        "padding",
        "audit",
    ],
};

impl Schema {
    /// Loads a file, or all schema files of a directory; every mistake is reported.
    pub fn load(path: &Path) -> Result<Self, SchemaErrors> {
        let files = files_of(path).map_err(|mistake| SchemaErrors(vec![mistake]))?;
        let mut drafts = Vec::new();
        let mut mistakes = Vec::new();
        for (file, format) in files {
            let name = file.display().to_string();
            let parsed =
                document::read(&file).and_then(|text| document::parse(&text, format, &name));
            match parsed {
                Ok(node) => read_file(&name, &node, &mut drafts, &mut mistakes),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        finish(drafts, mistakes)
    }

    /// Parses the text of one schema file; `file` is its name in messages.
    pub fn parse(text: &str, format: Format, file: &str) -> Result<Self, SchemaErrors> {
        let node =
            document::parse(text, format, file).map_err(|mistake| SchemaErrors(vec![mistake]))?;
        let mut drafts = Vec::new();
        let mut mistakes = Vec::new();
        read_file(file, &node, &mut drafts, &mut mistakes);
        finish(drafts, mistakes)
    }
}

/// The schema files at `path`: the file itself, or those of a directory, by name.
pub(crate) fn files_of(path: &Path) -> Result<Vec<(PathBuf, Format)>, Mistake> {
    let name = path.display().to_string();
    let unreadable =
        |error: std::io::Error| Mistake::of_file(&name, format_args!("cannot be read: {error}"));
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        let format = Format::of(path).ok_or_else(|| {
            Mistake::of_file(&name, "a schema file ends in .toml, .json, .yaml or .yml")
        })?;
        return Ok(vec![(path.to_owned(), format)]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        // Files that begin with a dot are those of editors and of mounted volumes.
        let hidden = file
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if let (Some(format), false, false) = (Format::of(&file), hidden, file.is_dir()) {
            files.push((file, format));
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Mistake::of_file(
            &name,
            "has no files that end in .toml, .json, .yaml or .yml",
        ));
    }
    Ok(files)
}

fn read_file(file: &str, node: &Node, drafts: &mut Vec<Draft>, mistakes: &mut Vec<Mistake>) {
    let mut reader = Reader::new(file);
    let top = Place::default();
    let table = reader.table(&top, node, &TOP);
    if let Some((place, node)) = table.entry(&top, "collections") {
        for entry in reader.entries(&place, node) {
            let place = place.of(entry);
            let draft = read_collection(&mut reader, file, place, &entry.key, &entry.node);
            drafts.push(draft);
        }
    }
    mistakes.extend(reader.into_mistakes());
}

fn read_collection(
    reader: &mut Reader,
    file: &str,
    place: Place,
    pattern: &str,
    node: &Node,
) -> Draft {
    if let Some(what) = namespace::mistake(pattern) {
        reader.mistake(&place, what);
    }
    let table = reader.table(&place, node, &COLLECTION);
    let identity = table
        .entry(&place, "identity")
        .and_then(|(at, node)| reader.name(&at, node).map(str::to_owned));
    let on_plaintext = table
        .entry(&place, "on_plaintext")
        .and_then(|(at, node)| reader.word(&at, node, &["reject", "allow", "store"]));
    let key = table
        .entry(&place, "key")
        .and_then(|(at, node)| read_key_name(reader, &at, node));
    let key = key.as_deref().unwrap_or(DEFAULT_KEY);
    let mut fields = Vec::new();
    let mut field_places = Vec::new();
    match table.entry(&place, "fields") {
        Some((at, node)) => {
            let entries = reader.entries(&at, node);
            if entries.is_empty() {
                reader.mistake(
                    &at,
                    "names no field; leave the collection out if nothing in it is sealed",
                );
            }
            for entry in entries {
                let at = at.of(entry);
                fields.push(read_field(reader, &at, &entry.key, &entry.node, key));
                field_places.push(at);
            }
        }
        None => reader.mistake(
            &place,
            "has no `fields`; leave the collection out if nothing in it is sealed",
        ),
    }
    let tree = build_tree(reader, &fields, &field_places);
    Draft {
        file: file.to_owned(),
        place,
        rule: CollectionRule {
            pattern: pattern.to_owned(),
            identity,
            on_plaintext: match on_plaintext {
                Some("allow") => OnPlaintext::Allow,
                Some("store") => OnPlaintext::Store,
                _ => OnPlaintext::Reject,
            },
            fields,
            tree,
        },
        field_places,
    }
}

/// Builds the tree; after a mistake, again without the path at fault, to find the next one.
fn build_tree(reader: &mut Reader, fields: &[FieldRule], places: &[Place]) -> Tree {
    let mut left: Vec<(&str, &Place)> = fields
        .iter()
        .map(|field| field.path.as_str())
        .zip(places)
        .collect();
    loop {
        match Tree::build(left.iter().map(|(path, _)| *path)) {
            Ok(tree) => return tree,
            Err(error) => {
                let at_fault = match &error {
                    TreeError::Nested { inner, .. } => inner,
                    TreeError::Overlap(path) => path,
                };
                let Some(index) = left.iter().position(|(path, _)| path == at_fault) else {
                    reader.mistake(&Place::default(), &error);
                    return Tree::default();
                };
                let (_, place) = left.remove(index);
                reader.mistake(place, &error);
            }
        }
    }
}

/// What can be wrong between collections, then the schema.
fn finish(drafts: Vec<Draft>, mut mistakes: Vec<Mistake>) -> Result<Schema, SchemaErrors> {
    check_together(&drafts, &mut mistakes);
    if !mistakes.is_empty() {
        mistakes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        return Err(SchemaErrors(mistakes));
    }
    Ok(Schema::from_rules(
        drafts.into_iter().map(|draft| draft.rule).collect(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::schema::{Step, Types};

    fn toml(text: &str) -> Result<Schema, SchemaErrors> {
        Schema::parse(text, Format::Toml, "s.toml")
    }

    /// The mistakes in one field of the collection `a.b`, as `line: path: what`.
    fn field(definition: &str) -> Vec<String> {
        mistakes(&format!("[collections.\"a.b\".fields]\n{definition}\n"))
    }

    fn mistakes(text: &str) -> Vec<String> {
        match toml(text) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[track_caller]
    fn one(found: &[String], place: &str, what: &str) {
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(place), "{found:?}");
        assert!(found[0].contains(what), "{found:?}");
    }

    const RICH: &str = r#"
        [collections."shop.customers"]
        identity = "old.customers"
        on_plaintext = "allow"
        key = "people"
        [collections."shop.customers".fields]
        ssn = { type = "string", queries = ["equality"], identity = "social" }
        address = {}
        "visits.note" = { type = ["string", "int"], elements = true, key = "notes" }
        "contacts.*.phone" = { type = "string", queries = "equality", domain = "phone" }
        [collections."tenant_*.people".fields]
        phone = { type = "string", queries = { queryType = "equality" }, domain = "phone", key = "people" }
    "#;

    #[test]
    fn a_schema_is_read_as_it_is_written() {
        let schema = toml(RICH).unwrap();
        let rule = schema.rule("shop.customers").unwrap();
        assert_eq!(rule.identity("shop.customers"), "old.customers");
        assert_eq!(rule.on_plaintext, OnPlaintext::Allow);
        let [ssn, address, note, phone] = rule.fields.as_slice() else {
            panic!("four fields: {rule:?}");
        };
        assert_eq!((ssn.path.as_str(), ssn.identity()), ("ssn", "social"));
        assert_eq!(ssn.types, Types::named("string").unwrap());
        assert!(ssn.equality && ssn.elements);
        assert_eq!(ssn.key, "people");
        assert_eq!(
            (address.types, address.equality, address.elements),
            (Types::ANY, false, false)
        );
        assert_eq!((note.elements, note.key.as_str()), (true, "notes"));
        assert_eq!(
            (phone.domain.as_deref(), phone.identity()),
            (Some("phone"), "contacts.*.phone")
        );
        assert_eq!(rule.tree.step(Tree::ROOT, "address"), Step::Sealed(1));
        assert_eq!(Vec::from_iter(schema.key_names()), ["notes", "people"]);
        assert_eq!(schema.rules[1].on_plaintext, OnPlaintext::Reject);
    }

    #[test]
    fn json_and_yaml_mean_the_same_as_toml() {
        let json = r#"{"$schema": "x", "collections": {"a.b": {"fields": {
            "c.d": {"type": ["int", "long"], "queries": [{"equality": {}}]}, "e": {}}}}}"#;
        let yaml = "collections:\n  a.b:\n    fields:\n      c.d:\n        type: [int, long]\n        queries: [equality]\n      e: {}\n";
        let toml = "[collections.\"a.b\".fields]\n\"c.d\" = { type = [\"int\", \"long\"], queries = [\"equality\"] }\ne = {}";
        let read = |text, format| {
            let schema = Schema::parse(text, format, "s").unwrap();
            format!("{:?}", schema.rule("a.b").unwrap().fields)
        };
        let expected = read(toml, Format::Toml);
        assert_eq!(read(json, Format::Json), expected);
        assert_eq!(read(yaml, Format::Yaml), expected);
    }

    #[test]
    fn a_namespace_has_its_own_rule_before_that_of_a_pattern() {
        let schema = toml(
            "[collections.\"a.b\".fields]\nx = {}\n[collections.\"*.b\".fields]\ny = {}\n[collections.\"t_*.c*\".fields]\nz = {}\n",
        )
        .unwrap();
        let path = |namespace: &str| {
            schema
                .rule(namespace)
                .map(|rule| rule.fields[0].path.as_str())
        };
        assert_eq!(path("a.b"), Some("x"));
        assert_eq!(path("z.b"), Some("y"));
        assert_eq!(path("t_1.cats"), Some("z"));
        assert_eq!(path("t_1.dogs"), None);
        assert_eq!(path("admin.b"), None);
        assert!(schema.may_seal_in("anything") && !schema.may_seal_in("admin"));
        assert!(!schema.is_empty());
    }

    #[test]
    fn only_databases_that_a_rule_names_may_hold_sealed_fields() {
        let schema = toml("[collections.\"shop_*.b\".fields]\nx = {}\n").unwrap();
        assert!(schema.may_seal_in("shop_1") && !schema.may_seal_in("shop"));
        assert_eq!(schema.rule("shop_1.b.c").map(|rule| &rule.pattern), None);
    }

    #[test]
    fn an_empty_schema_seals_nothing() {
        let schema = toml("# nothing yet\n").unwrap();
        assert!(schema.is_empty() && schema.rule("a.b").is_none() && !schema.may_seal_in("a"));
    }

    #[test]
    fn all_mistakes_are_reported_together_in_the_order_of_the_file() {
        let found = mistakes(
            "[collections.\"shop.customers\".fields]\nssn = { type = \"strng\", querys = [] }\n_id = {}\n[collections.shop]\nfield = {}\n",
        );
        assert_eq!(found.len(), 6, "{found:#?}");
        assert_eq!(
            found[0],
            "s.toml:2: collections.\"shop.customers\".fields.ssn.querys: unknown key of a sealed field; did you mean `queries`?"
        );
        assert_eq!(
            found[1],
            "s.toml:2: collections.\"shop.customers\".fields.ssn.type: unknown type \"strng\"; did you mean \"string\"?"
        );
        assert!(found[2].starts_with(
            "s.toml:3: collections.\"shop.customers\".fields._id: `_id` cannot be sealed"
        ));
        assert!(found[3].starts_with("s.toml:4: collections.shop: must be `database.collection`"));
        assert!(
            found
                .iter()
                .any(|mistake| mistake.contains("has no `fields`"))
        );
        assert!(
            found
                .iter()
                .any(|mistake| mistake.ends_with("did you mean `fields`?"))
        );
    }

    #[test]
    fn every_field_within_another_is_reported() {
        let found = field("a = {}\n\"a.b\" = {}\n\"x.*\" = {}\n\"x.y.z\" = {}\n\"a.c\" = {}");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].starts_with("s.toml:3: ")
                && found[0].contains("lies within the sealed field `a`")
        );
        assert!(found[1].starts_with("s.toml:5: ") && found[1].contains("overlaps"));
        assert!(found[2].starts_with("s.toml:6: "));
    }

    #[test]
    fn one_namespace_in_two_files_and_patterns_that_overlap_are_refused() {
        let found = mistakes(
            "[collections.\"*.b\".fields]\nx = {}\n[collections.\"a.*\".fields]\nx = {}\n",
        );
        one(
            &found,
            "s.toml:3: collections.\"a.*\":",
            "\"*.b\" (s.toml:1)",
        );

        let directory =
            std::env::temp_dir().join(format!("fieldseal-schema-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(
            directory.join("1.toml"),
            "[collections.\"a.b\".fields]\nx = {}\n",
        )
        .unwrap();
        std::fs::write(
            directory.join("2.yml"),
            "collections:\n  a.b:\n    fields: {y: {}}\n",
        )
        .unwrap();
        std::fs::write(directory.join("notes.txt"), "not a schema").unwrap();
        std::fs::write(directory.join(".3.toml"), "not a schema").unwrap();
        let errors = Schema::load(&directory).unwrap_err();
        std::fs::remove_file(directory.join("2.yml")).unwrap();
        let alone = Schema::load(&directory);
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert!(errors.0[0].file.ends_with("2.yml"), "{errors}");
        assert_eq!(errors.0[0].line, Some(2));
        assert!(errors.0[0].what.contains("1.toml:1"), "{errors}");
        assert!(alone.unwrap().rule("a.b").is_some());
    }

    #[test]
    fn a_missing_file_and_an_unknown_ending_are_refused() {
        let missing = Schema::load(Path::new("no-such.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("no-such.toml: cannot be read"),
            "{missing}"
        );
        let ending = Schema::load(Path::new("Cargo.lock"))
            .unwrap_err()
            .to_string();
        assert!(ending.contains(".toml, .json, .yaml or .yml"), "{ending}");
    }

    #[test]
    fn two_fields_of_one_identity_are_refused() {
        one(
            &field("a = {}\nb = { identity = \"a\" }"),
            "s.toml:3",
            "same identity \"a\"",
        );
    }

    #[test]
    fn fields_of_one_domain_have_one_key_and_queries() {
        one(
            &field("a = { domain = \"d\" }"),
            "s.toml:2: collections.\"a.b\".fields.a.domain",
            "queries",
        );
        let equality = "type = \"string\", queries = [\"equality\"], domain = \"d\"";
        one(
            &field(&format!(
                "a = {{ {equality} }}\nb = {{ {equality}, key = \"k\" }}"
            )),
            "s.toml:3",
            "one key",
        );
    }

    #[test]
    fn the_example_schema_is_right() {
        let schema = Schema::load(Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/schema/musiccorp.toml"
        )))
        .unwrap();
        let customers = schema.rule("musiccorp.customers").unwrap();
        let paths: Vec<_> = customers
            .fields
            .iter()
            .map(|field| (field.path.as_str(), field.equality))
            .collect();
        assert_eq!(
            paths,
            [
                ("name", false),
                ("email", true),
                ("address", false),
                ("card.number", true)
            ]
        );
        assert!(
            schema.rule("musiccorp.logs").is_some() && schema.rule("musiccorp.catalogue").is_none()
        );
    }

    #[test]
    fn the_json_schema_names_the_types_and_keys_that_are_read() {
        let text = include_str!("../../schema/fieldseal.schema.json");
        let schema: serde_json::Value = serde_json::from_str(text).unwrap();
        let strings = |value: &serde_json::Value| -> Vec<String> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|word| word.as_str().unwrap().to_owned())
                .collect()
        };
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            strings(&schema["$defs"]["type"]["enum"]),
            Vec::from_iter(Types::aliases())
        );
        assert_eq!(
            keys(&schema["$defs"]["collection"]["properties"]),
            COLLECTION.known
        );
        assert_eq!(
            keys(&schema["$defs"]["field"]["properties"]),
            super::super::field::FIELD.known
        );
    }
}
