//! What sealing a field gains and what it leaves to be seen, in words, by what the schema says of it.
//!
//! The words are those of `SECURITY.md`, for one field. Each thing that is seen begins with
//! a word or two and a colon, which stand for it where there is little room.

use crate::keyring::Suite;
use crate::raw::kind;
use crate::schema::{CollectionRule, FieldRule, Mask, OnPlaintext, Types};

/// Header, nonce of suite 1, the byte of the type, and tag.
const AROUND: usize = 16 + 12 + 1 + 16;
/// How much longer the nonce of suite 2 is.
const LONGER: usize = 12;

/// What sealing the field keeps from whoever has the database, in a sentence or two.
pub fn protects(rule: &CollectionRule, field: &FieldRule) -> String {
    if rule.on_plaintext == OnPlaintext::Store {
        return "Nothing that is written now: `on_plaintext = \"store\"` stores it in plain. Values that were sealed before \
                stay sealed until they are written anew."
            .to_owned();
    }
    let whole = !field.elements && field.types.meets(containers());
    let what = if field.elements {
        "Its values, also each in an array"
    } else if whole {
        "Its values, with all that a subdocument or an array holds: names, values and how many"
    } else {
        "Its values"
    };
    let from = "from whoever has the database, its disks, backups, logs or administration, but neither keys nor a way to the proxy";
    format!("{what}, {from}.{}", through_the_proxy(field))
}

/// Who gets it through the proxy.
fn through_the_proxy(field: &FieldRule) -> String {
    let Some(roles) = &field.access.read else {
        return String::new();
    };
    let who = match roles.as_slice() {
        [] => "no role gets it".to_owned(),
        [role] => format!("only the role `{role}` gets it"),
        roles => format!("only the roles {} get it", quoted(roles)),
    };
    let others = match field.access.mask {
        Mask::Redact => "see `[redacted]`",
        Mask::Last4 => "see a string’s last four characters",
        Mask::First1 => "see a string’s first character",
        Mask::Email => "see the first character and the domain of an address",
        Mask::Hash => "see a keyed hash, which is the same for the same value",
        Mask::Null => "see null",
        Mask::Ciphertext => "see the sealed value",
    };
    format!(" Through the proxy {who}; others {others}.")
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// What the server can still see of the field, each in a sentence or two.
pub fn visible(rule: &CollectionRule, field: &FieldRule) -> Vec<String> {
    let mut seen = Vec::new();
    match rule.on_plaintext {
        OnPlaintext::Reject => {}
        OnPlaintext::Allow => seen.push(
            "Plain values: those that were not sealed yet, while `on_plaintext = \"allow\"`."
                .to_owned(),
        ),
        OnPlaintext::Store => {
            seen.push(
                "Plain values: all that is written, with `on_plaintext = \"store\"`.".to_owned(),
            );
        }
    }
    seen.push(
        "Presence: whether it is there, null or missing, under which name; that it is sealed, for which field and with \
         which cipher suite."
            .to_owned(),
    );
    seen.extend(path(field));
    seen.push(length(field));
    if field.elements {
        seen.push(
            "Elements: how many an array has, in which order, and the length of each; null in an array stays null.".to_owned(),
        );
    }
    seen.push(
        "Key version: under which version of which key a value was sealed, so roughly when it was written.".to_owned(),
    );
    seen.push("Changes: whether and when it is written.".to_owned());
    seen.push(
        "Queries: which filters, updates and pipelines name it, their operators and how many values they compare, when, by \
         whom and with which result."
            .to_owned(),
    );
    // What was stored before has its tokens still.
    if field.equality {
        equality(rule, field, &mut seen);
    }
    seen
}

/// What stands above it in its documents.
fn path(field: &FieldRule) -> Option<String> {
    let components: Vec<&str> = field.path.split('.').collect();
    let (_, above) = components.split_last()?;
    if components.contains(&"*") {
        return Some(
            "Path: the documents and arrays above it, with the names that `*` stands for, and how many there are.".to_owned(),
        );
    }
    (!above.is_empty()).then(|| {
        "Path: the documents and arrays above it; of an array, how many elements it has and which of them have a value."
            .to_owned()
    })
}

/// Types whose values have parts.
fn containers() -> Types {
    Types::of(kind::DOCUMENT).union(Types::of(kind::ARRAY))
}

/// The types whose values all have one length, with that length.
const FIXED: [(u8, usize); 10] = [
    (kind::BOOL, 1),
    (kind::INT32, 4),
    (kind::INT64, 8),
    (kind::DOUBLE, 8),
    (kind::DATE, 8),
    (kind::TIMESTAMP, 8),
    (kind::OBJECT_ID, 12),
    (kind::DECIMAL128, 16),
    (kind::MIN_KEY, 0),
    (kind::MAX_KEY, 0),
];

/// What the length of a sealed value tells.
fn length(field: &FieldRule) -> String {
    let fixed: Vec<(u8, usize)> = (FIXED.into_iter())
        .filter(|(kind, _)| field.types.allows(*kind))
        .collect();
    let types = fixed.iter().fold(Types::NONE, |types, (kind, _)| {
        types.union(Types::of(*kind))
    });
    // Elements of an array stand for themselves; an array sealed whole has any length.
    let all_fixed = field.types.values().without(types) == Types::NONE;
    let mut lengths: Vec<usize> = fixed.iter().map(|(_, length)| *length).collect();
    lengths.sort_unstable();
    lengths.dedup();
    match lengths.as_slice() {
        [length] if all_fixed => format!(
            "Length: that of every sealed value is {}, whatever it holds.",
            sealed_length(field, *length)
        ),
        [] => "Length: that of each value, to the byte; there is no padding.".to_owned(),
        _ => "Length: that of each value, to the byte; there is no padding. Types of one size, such as booleans, integers and \
              dates, can be told by it."
            .to_owned(),
    }
}

fn sealed_length(field: &FieldRule, length: usize) -> String {
    let length = AROUND + length;
    match field.suite {
        Some(Suite::Aes256Gcm) => format!("{length} bytes"),
        Some(Suite::Xaes256Gcm) => format!("{} bytes", length + LONGER),
        None => format!("{length} bytes, {} with XAES-256-GCM", length + LONGER),
    }
}

/// What tokens tell.
fn equality(rule: &CollectionRule, field: &FieldRule, seen: &mut Vec<String>) {
    let few = if field.types.within(Types::of(kind::BOOL)) {
        "A boolean has two values: who knows which is the more frequent one can read them all."
    } else {
        "Where values are few or unevenly spread, counting them can be enough to name them."
    };
    let numbers = Types::named("number").unwrap_or(Types::NONE);
    let kinds = [kind::DOUBLE, kind::INT32, kind::INT64, kind::DECIMAL128].into_iter();
    let several = kinds.filter(|kind| field.types.allows(*kind)).count() > 1;
    let across = if several && field.types.meets(numbers) {
        " Numbers that are equal show as equal, whatever their types."
    } else {
        ""
    };
    seen.push(format!(
        "Equal values: which documents, and which elements of arrays, have the same value, and how often each value occurs. {few}{across}"
    ));
    if let Some(domain) = &field.domain {
        seen.push(format!(
            "Joins: which values are equal to those of all other fields and collections of the domain `{domain}`, without any query."
        ));
    } else if rule.identity.is_some() || field.identity.is_some() {
        seen.push(
            "Joins: which values are equal to those of any other field that has the same identity and key.".to_owned(),
        );
    }
    seen.push(
        "Tokens: those that queries ask for. Who can both write or query values of their choice through the proxy and watch MongoDB \
         can collect the tokens of a dictionary."
            .to_owned(),
    );
    seen.push(
        "Rotation: a new key version leaves tokens as they are, until another index epoch takes their place. While both are \
         written, that two tokens are of one value."
            .to_owned(),
    );
}

/// How many bytes sealing adds to a stored value that is no array: exactly, while one index
/// epoch is written whose number has one digit.
pub fn bytes_added(field: &FieldRule, suite: Suite) -> usize {
    let nonce = match suite {
        Suite::Aes256Gcm => 0,
        Suite::Xaes256Gcm => LONGER,
    };
    // The length and the subtype of a Binary.
    let value = 4 + 1 + AROUND + nonce;
    if !field.equality {
        return value;
    }
    // A document of two elements: length, `c`, `e1` with its token, and the end.
    let token = 1 + "e1\0".len() + 4 + 1 + 16;
    4 + 1 + "c\0".len() + value + token + 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::schema::{Format, Schema};

    /// What is said of the field `f` of the collection `a.b`.
    fn said(of: &str, definition: &str) -> (String, String) {
        let text =
            format!("[collections.\"a.b\"]\n{of}\n[collections.\"a.b\".fields]\n{definition}\n");
        let schema = Schema::parse(&text, Format::Toml, "s.toml").unwrap();
        let rule = &schema.rules[0];
        let field = &rule.fields[0];
        (protects(rule, field), visible(rule, field).join("\n"))
    }

    fn seen(definition: &str) -> String {
        said("", definition).1
    }

    #[test]
    fn every_field_shows_presence_length_version_and_changes() {
        for definition in [
            "f = {}",
            "f = { type = \"string\", queries = [\"equality\"] }",
            "\"f.*.g\" = { type = \"bool\" }",
            "f = { elements = true }",
        ] {
            let seen = seen(definition);
            for short in [
                "Presence: ",
                "Length: ",
                "Key version: ",
                "Changes: ",
                "Queries: ",
            ] {
                assert_eq!(seen.matches(short).count(), 1, "{definition}: {seen}");
            }
        }
    }

    #[test]
    fn equality_shows_equal_values_and_only_equality_does() {
        let with = seen("f = { type = \"string\", queries = [\"equality\"] }");
        for short in ["Equal values: ", "Tokens: ", "Rotation: ", "Elements: "] {
            assert!(with.contains(short), "{with}");
        }
        assert!(!with.contains("Joins: ") && !with.contains("Numbers that are equal"));
        let without = seen("f = { type = \"string\" }");
        for short in [
            "Equal values",
            "Tokens",
            "Rotation",
            "Elements",
            "Joins",
            "Path",
        ] {
            assert!(!without.contains(short), "{without}");
        }
    }

    #[test]
    fn a_domain_or_an_identity_shows_what_is_equal_elsewhere() {
        let field = "f = { type = \"string\", queries = [\"equality\"], domain = \"phone\" }";
        assert!(seen(field).contains("of the domain `phone`, without any query"));
        let field = "f = { type = \"string\", queries = [\"equality\"], identity = \"g\" }";
        assert!(seen(field).contains("the same identity"));
        let field = "f = { type = \"string\", queries = [\"equality\"] }";
        assert!(
            said("identity = \"c.d\"", field)
                .1
                .contains("the same identity")
        );
    }

    #[test]
    fn types_of_one_length_are_told_with_it() {
        for (definition, length) in [
            (
                "f = { type = \"bool\", suite = \"aes-256-gcm\" }",
                "is 46 bytes, whatever",
            ),
            (
                "f = { type = \"int\", suite = \"xaes-256-gcm\" }",
                "is 61 bytes, whatever",
            ),
            (
                "f = { type = [\"date\", \"long\", \"double\"] }",
                "is 53 bytes, 65 with",
            ),
            ("f = { type = \"decimal\" }", "is 61 bytes, 73 with"),
            (
                "f = { type = \"objectId\", elements = true }",
                "is 57 bytes, 69 with",
            ),
            ("f = { type = [\"int\", \"string\"] }", "can be told by it"),
            ("f = { type = [\"int\", \"long\"] }", "can be told by it"),
            ("f = {}", "can be told by it"),
            (
                "f = { type = \"string\" }",
                "to the byte; there is no padding.",
            ),
        ] {
            assert!(
                seen(definition).contains(length),
                "{definition}: {}",
                seen(definition)
            );
        }
    }

    #[test]
    fn values_with_few_or_many_types_are_told_apart() {
        let bool = seen("f = { type = \"bool\", queries = [\"equality\"] }");
        assert!(bool.contains("A boolean has two values"));
        let number = seen("f = { type = \"number\", queries = [\"equality\"] }");
        assert!(number.contains("Numbers that are equal show as equal"));
        let int = seen("f = { type = \"int\", queries = [\"equality\"] }");
        assert!(!int.contains("Numbers that are equal"));
    }

    #[test]
    fn a_path_shows_what_stands_above_the_field() {
        assert!(
            seen("\"a.f\" = {}").contains("Path: the documents and arrays above it; of an array")
        );
        assert!(seen("\"a.*.f\" = {}").contains("the names that `*` stands for"));
    }

    #[test]
    fn plain_values_are_told_of_while_there_may_be_some() {
        assert!(!seen("f = {}").contains("Plain values"));
        let (_, allowed) = said("on_plaintext = \"allow\"", "f = {}");
        assert!(allowed.starts_with("Plain values: those that were not sealed yet"));
        let (protects, stored) = said("on_plaintext = \"store\"", "f = {}");
        assert!(protects.starts_with("Nothing that is written now"));
        assert!(stored.starts_with("Plain values: all that is written"));
    }

    #[test]
    fn who_gets_a_field_through_the_proxy_is_told_with_its_mask() {
        let roles = "f = { type = \"string\", read = [\"billing\", \"fraud\"], mask = \"last4\" }";
        let (protects, _) = said("", roles);
        assert!(protects.ends_with(
            "Through the proxy only the roles `billing`, `fraud` get it; others see a string’s last four characters."
        ));
        assert!(!said("", "f = {}").0.contains("Through the proxy"));
    }

    #[test]
    fn the_bytes_that_are_added_are_those_that_are_stored() {
        use crate::policy::fixture;
        use crate::raw::Writer;
        use crate::seal::SUBTYPE;

        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let (value, mut plain) = (b"\x04\0\0\0abc\0", Vec::new());
        Writer::new(&mut plain).value(kind::STRING, "f", value);
        for (path, equality) in [("ssn", true), ("visits.note", false)] {
            let field = collection
                .fields()
                .iter()
                .find(|field| field.path == path)
                .unwrap();
            let (mut sealed, mut stored) = (Vec::new(), Vec::new());
            field.seal(kind::STRING, value, &mut sealed);
            let mut writer = Writer::new(&mut stored);
            match &field.equality {
                Some(tokens) => {
                    let open = writer.begin_doc("f");
                    writer.binary("c", SUBTYPE, &sealed);
                    tokens.write(&mut writer, kind::STRING, value).unwrap();
                    writer.end(open);
                }
                None => writer.binary("f", SUBTYPE, &sealed),
            }
            let rule = fixture::field(path, Types::named("string").unwrap(), equality);
            let added = bytes_added(&rule, field.suite());
            assert_eq!(stored.len() - plain.len(), added, "{path}");
            assert_eq!(bytes_added(&rule, Suite::Xaes256Gcm), added + 12);
        }
    }

    #[test]
    fn each_thing_that_is_seen_has_a_short_name() {
        let definition =
            "\"a.*.f\" = { type = \"number\", queries = [\"equality\"], domain = \"d\" }";
        for sentence in said("on_plaintext = \"allow\"", definition).1.lines() {
            let (short, rest) = sentence.split_once(": ").unwrap();
            assert!(short.len() <= 16 && rest.ends_with('.'), "{sentence}");
        }
    }
}
