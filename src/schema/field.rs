//! One field of the schema file: its path, its types, its queries.

use super::access::read_access;
use super::{FieldRule, Types};
use crate::document::{Keys, Node, Place, Reader, Table, Value, nearest};
use crate::keyring::{self, Suite};

pub(super) const FIELD: Keys = Keys {
    of: "a sealed field",
    known: &[
        "type", "queries", "elements", "domain", "identity", "key", "suite", "read", "write",
        "mask", "audit",
    ],
    later: &["normalize", "bind", "padding"],
};

const QUERY: Keys = Keys {
    of: "a query",
    known: &["queryType", "equality"],
    later: &["range", "prefix", "suffix", "substring"],
};

/// MongoDB nests documents no deeper.
const MAX_COMPONENTS: usize = 100;

/// What is wrong with a path.
pub(super) fn path_mistake(path: &str) -> Option<String> {
    let components: Vec<&str> = path.split('.').collect();
    if components.len() > MAX_COMPONENTS {
        return Some(format!(
            "is deeper than the {MAX_COMPONENTS} levels that MongoDB takes"
        ));
    }
    if components.first() == Some(&"_id") {
        return Some(
            "`_id` cannot be sealed: MongoDB finds, routes and replicates documents by it"
                .to_owned(),
        );
    }
    if components.first() == Some(&"*") {
        return Some("a path cannot begin with `*`: that would seal `_id` too".to_owned());
    }
    components.into_iter().find_map(|component| {
        if component.is_empty() {
            Some("a path must not be empty or have an empty part between its dots".to_owned())
        } else if component.contains('\0') {
            Some("a path must not hold a NUL character".to_owned())
        } else if component.starts_with('$') {
            Some(format!("{component:?}: a part of a path must not begin with `$`"))
        } else if component.bytes().all(|byte| byte.is_ascii_digit()) {
            Some(format!(
                "{component:?}: a part of a path must not be a number; paths go through arrays without naming the index"
            ))
        } else if component != "*" && component.contains('*') {
            Some(format!("{component:?}: `*` stands for a whole name, not for a part of one"))
        } else {
            None
        }
    })
}

/// The name of a key, where the file gives one.
pub(super) fn read_key_name(reader: &mut Reader, place: &Place, node: &Node) -> Option<String> {
    let name = reader.text(place, node)?;
    match keyring::name_mistake(name) {
        Some(what) => {
            reader.mistake(place, what);
            None
        }
        None => Some(name.to_owned()),
    }
}

/// Reads the field at `path`; what is wrong goes to `reader`.
pub(super) fn read_field(
    reader: &mut Reader,
    place: &Place,
    path: &str,
    node: &Node,
    default_key: &str,
) -> FieldRule {
    if let Some(what) = path_mistake(path) {
        reader.mistake(place, what);
    }
    hint_at_unquoted_path(reader, place, path, node);
    let table = reader.table(place, node, &FIELD);
    let types = table
        .entry(place, "type")
        .map(|(at, node)| (at.clone(), read_types(reader, &at, node)));
    let equality = table
        .entry(place, "queries")
        .is_some_and(|(at, node)| read_queries(reader, &at, node));
    let elements = table
        .entry(place, "elements")
        .and_then(|(at, node)| Some((at.clone(), reader.boolean(&at, node)?)));
    let mut name = |key: &str| {
        let (at, node) = table.entry(place, key)?;
        reader.name(&at, node).map(str::to_owned)
    };
    let (domain, identity) = (name("domain"), name("identity"));
    let key = table
        .entry(place, "key")
        .and_then(|(at, node)| read_key_name(reader, &at, node));
    let suite = table
        .entry(place, "suite")
        .and_then(|(at, node)| Suite::named(reader.word(&at, node, &Suite::WORDS)?));
    let named = types.as_ref().and_then(|(_, types)| *types);
    let access = read_access(reader, place, table, named.unwrap_or(Types::ANY));
    check_types(reader, place, types.as_ref(), equality);
    check_elements(reader, types.as_ref(), elements.as_ref(), equality);
    check_domain(reader, place, table, equality);
    FieldRule {
        path: path.to_owned(),
        types: types.and_then(|(_, types)| types).unwrap_or(Types::ANY),
        equality,
        elements: equality || elements.is_some_and(|(_, elements)| elements),
        domain,
        identity,
        key: key.unwrap_or_else(|| default_key.to_owned()),
        suite,
        access,
    }
}

/// In TOML, `payment.card = {}` without quotes makes a table `payment`.
fn hint_at_unquoted_path(reader: &mut Reader, place: &Place, path: &str, node: &Node) {
    let Value::Table(entries) = &node.value else {
        return;
    };
    for entry in entries {
        let known =
            FIELD.known.contains(&entry.key.as_str()) || FIELD.later.contains(&entry.key.as_str());
        if !known && matches!(entry.node.value, Value::Table(_)) {
            let whole = format!("{path}.{}", entry.key);
            reader.mistake(
                &place.of(entry),
                format_args!("a path with dots is one key, in quotes: {whole:?}"),
            );
        }
    }
}

fn read_types(reader: &mut Reader, place: &Place, node: &Node) -> Option<Types> {
    let Value::List(nodes) = &node.value else {
        return read_type(reader, place, node);
    };
    if nodes.is_empty() {
        reader.mistake(place, "must name a type; leave it out to allow every type");
        return None;
    }
    let mut all = Some(Types::NONE);
    for (index, node) in nodes.iter().enumerate() {
        let types = read_type(reader, &place.element(index, node), node);
        all = all.zip(types).map(|(all, types)| all.union(types));
    }
    all
}

fn read_type(reader: &mut Reader, place: &Place, node: &Node) -> Option<Types> {
    let alias = reader.text(place, node)?;
    let types = Types::named(alias);
    if types.is_none() {
        match nearest(alias, Types::aliases()) {
            Some(word) => reader.mistake(
                place,
                format_args!("unknown type {alias:?}; did you mean {word:?}?"),
            ),
            None => {
                let known = Types::aliases().collect::<Vec<_>>().join(", ");
                reader.mistake(
                    place,
                    format_args!("unknown type {alias:?}; MongoDB's names are: {known}"),
                );
            }
        }
    }
    types
}

/// Whether `queries` asks for equality. One query or a list; by name, as
/// `{ equality = {} }`, or as in `encryptedFields`, `{ queryType = "equality" }`.
fn read_queries(reader: &mut Reader, place: &Place, node: &Node) -> bool {
    let Value::List(nodes) = &node.value else {
        return read_query(reader, place, node);
    };
    let mut equality = false;
    for (index, node) in nodes.iter().enumerate() {
        let at = place.element(index, node);
        if read_query(reader, &at, node) {
            if equality {
                reader.mistake(&at, "\"equality\" stands twice");
            }
            equality = true;
        }
    }
    equality
}

fn read_query(reader: &mut Reader, place: &Place, node: &Node) -> bool {
    let Value::Table(entries) = &node.value else {
        return read_query_name(reader, place, node);
    };
    let table = reader.table(place, node, &QUERY);
    if entries.len() > 1 {
        reader.mistake(place, "a query has one name; write a list of queries");
        return false;
    }
    if let Some((at, node)) = table.entry(place, "queryType") {
        return read_query_name(reader, &at, node);
    }
    match table.entry(place, "equality") {
        Some((at, options)) => {
            reader.table(
                &at,
                options,
                &Keys {
                    of: "`equality`",
                    known: &[],
                    later: &[],
                },
            );
            true
        }
        None => {
            if entries.is_empty() {
                reader.mistake(place, "must name a query: \"equality\"");
            }
            false
        }
    }
}

fn read_query_name(reader: &mut Reader, place: &Place, node: &Node) -> bool {
    if let Value::Text(name) = &node.value
        && QUERY.later.contains(&name.as_str())
    {
        reader.mistake(
            place,
            format_args!(
                "{name:?} queries are not supported by this version of fieldseal; \"equality\" is"
            ),
        );
        return false;
    }
    let words: Vec<&str> = ["equality"].iter().chain(QUERY.later).copied().collect();
    reader.word(place, node, &words).is_some()
}

type PlacedTypes = (Place, Option<Types>);

fn check_types(reader: &mut Reader, place: &Place, types: Option<&PlacedTypes>, equality: bool) {
    match types {
        None if equality => reader.mistake(place, "a field with queries must name its `type`"),
        Some((at, Some(types))) if equality && !types.within(Types::with_equality()) => {
            let with = Types::with_equality().describe();
            reader.mistake(at, format_args!("equality is for values of type {with}"));
        }
        _ => {}
    }
}

fn check_elements(
    reader: &mut Reader,
    types: Option<&PlacedTypes>,
    elements: Option<&(Place, bool)>,
    equality: bool,
) {
    match elements {
        Some((at, false)) if equality => {
            reader.mistake(
                at,
                "a field with queries seals an array element by element; it cannot be false",
            );
        }
        Some((_, true)) if !equality => {
            let named = types.and_then(|(at, types)| Some((at, (*types)?)));
            if let (Some((at, types)), Some(array)) = (named, Types::named("array"))
                && array.within(types)
            {
                reader.mistake(
                        at,
                        "with `elements`, the type is that of the elements, and an array in an array cannot be named",
                    );
            }
        }
        _ => {}
    }
}

fn check_domain(reader: &mut Reader, place: &Place, table: Table<'_>, equality: bool) {
    if let (Some((at, _)), false) = (table.entry(place, "domain"), equality) {
        reader.mistake(
            &at,
            "a domain is for fields with `queries = [\"equality\"]`: they share its token keys",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use crate::keyring::Suite;
    use crate::schema::{Format, Schema};

    /// The mistakes in one field of the collection `a.b`, as `line: path: what`.
    fn field(definition: &str) -> Vec<String> {
        let text = format!("[collections.\"a.b\".fields]\n{definition}\n");
        match Schema::parse(&text, Format::Toml, "s.toml") {
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

    #[test]
    fn paths_that_cannot_be_sealed_are_refused() {
        for path in [
            "", "a..b", ".a", "a.", "_id", "_id.x", "$a", "a.$", "a.0", "7", "*", "*.a", "a.b*",
            "a\\u0000",
        ] {
            let found = field(&format!("\"{path}\" = {{}}"));
            one(&found, "s.toml:2: collections.\"a.b\".fields.", "");
        }
        let deep = vec!["a"; 101].join(".");
        one(&field(&format!("\"{deep}\" = {{}}")), "s.toml:2", "deeper");
        for path in ["a", "a.*", "a.*.b", "_idx", "x._id", "a0.b1"] {
            assert_eq!(field(&format!("\"{path}\" = {{}}")), Vec::<String>::new());
        }
    }

    #[test]
    fn equality_needs_types_that_have_tokens() {
        one(
            &field("a = { queries = [\"equality\"] }"),
            "s.toml:2: collections.\"a.b\".fields.a:",
            "`type`",
        );
        for types in [
            "\"object\"",
            "\"array\"",
            "[\"string\", \"regex\"]",
            "\"minKey\"",
        ] {
            one(
                &field(&format!(
                    "a = {{ type = {types}, queries = [\"equality\"] }}"
                )),
                "s.toml:2",
                "equality is for",
            );
        }
        one(&field("a = { type = [] }"), "s.toml:2", "must name a type");
        one(
            &field("a = { type = 2 }"),
            "s.toml:2",
            "must be a string, not an integer",
        );
    }

    #[test]
    fn elements_and_array_types_are_refused_where_they_contradict() {
        let equality = "type = \"string\", queries = [\"equality\"]";
        one(
            &field(&format!("a = {{ {equality}, elements = false }}")),
            "s.toml:2",
            "cannot be false",
        );
        assert!(field(&format!("a = {{ {equality}, elements = true }}")).is_empty());
        one(
            &field("a = { type = [\"array\", \"string\"], elements = true }"),
            "s.toml:2",
            "elements",
        );
        assert!(field("a = { type = [\"array\", \"string\"] }").is_empty());
        assert!(field("a = { elements = true }").is_empty());
        one(&field("a = { elements = 1 }"), "s.toml:2", "true or false");
    }

    #[test]
    fn what_a_later_version_does_is_refused_and_not_ignored() {
        for key in ["normalize", "bind", "padding"] {
            let found = field(&format!("a = {{ {key} = \"x\" }}"));
            one(&found, "s.toml:2", "not supported by this version");
        }
        for query in ["range", "prefix", "suffix", "substring"] {
            for form in [
                format!("\"{query}\""),
                format!("{{ {query} = {{}} }}"),
                format!("{{ queryType = \"{query}\" }}"),
            ] {
                let found = field(&format!("a = {{ type = \"string\", queries = [{form}] }}"));
                one(
                    &found,
                    "s.toml:2: collections.\"a.b\".fields.a.queries[0]",
                    "not supported by this version",
                );
            }
        }
    }

    #[test]
    fn a_suite_is_one_of_those_that_there_are() {
        for word in Suite::WORDS {
            assert!(field(&format!("a = {{ suite = \"{word}\" }}")).is_empty());
        }
        one(
            &field("a = { suite = \"xaes-256-gmc\" }"),
            "s.toml:2: collections.\"a.b\".fields.a.suite",
            "did you mean \"xaes-256-gcm\"?",
        );
        one(&field("a = { suite = 2 }"), "s.toml:2", "must be a string");
    }

    #[test]
    fn queries_that_are_not_queries_are_refused() {
        let with =
            |queries: &str| field(&format!("a = {{ type = \"string\", queries = {queries} }}"));
        one(
            &with("[\"equalty\"]"),
            "s.toml:2",
            "did you mean \"equality\"?",
        );
        one(&with("[\"equality\", \"equality\"]"), "s.toml:2", "twice");
        one(&with("[{}]"), "s.toml:2", "must name a query");
        one(&with("[3]"), "s.toml:2", "must be a string");
        one(
            &with("{ equality = { contention = 4 } }"),
            "s.toml:2",
            "unknown key of `equality`",
        );
        one(
            &with("{ equality = {}, queryType = \"equality\" }"),
            "s.toml:2",
            "one name",
        );
    }

    #[test]
    fn a_path_whose_quotes_were_forgotten_is_explained() {
        let found = field("payment.card = { type = \"string\" }");
        assert!(
            found
                .iter()
                .any(|mistake| mistake.ends_with("in quotes: \"payment.card\"")),
            "{found:?}"
        );
    }

    #[test]
    fn names_of_keys_are_plain() {
        one(&field("a = { key = \"no spaces\" }"), "s.toml:2", "letters");
        one(&field("a = { identity = \"\" }"), "s.toml:2", "empty");
    }
}
