//! `database.collection`, where `*` stands for any characters.
//!
//! The first dot parts the two; a `*` does not cross it.

/// MongoDB's own bound, for unsharded and sharded collections alike.
const MAX_BYTES: usize = 255;
/// MongoDB's bound on the name of a database.
const MAX_DATABASE_BYTES: usize = 63;

/// Databases of MongoDB itself.
const RESERVED_DATABASES: &[&str] = &["admin", "local", "config"];
/// Collections of MongoDB itself begin so.
const RESERVED_COLLECTIONS: &str = "system.";

fn parts(namespace: &str) -> (&str, &str) {
    namespace.split_once('.').unwrap_or((namespace, ""))
}

/// Whether `namespace` holds a `*`.
pub(super) fn is_pattern(namespace: &str) -> bool {
    namespace.contains('*')
}

/// Whether the database is one of MongoDB's own.
pub(super) fn is_reserved_database(database: &str) -> bool {
    RESERVED_DATABASES.contains(&database)
}

/// Whether the collection is one of MongoDB's own, which nothing is sealed in.
pub(super) fn is_reserved(namespace: &str) -> bool {
    let (database, collection) = parts(namespace);
    is_reserved_database(database) || collection.starts_with(RESERVED_COLLECTIONS)
}

/// What is wrong with a namespace of the schema.
pub(super) fn mistake(namespace: &str) -> Option<String> {
    let (database, collection) = parts(namespace);
    if database.is_empty() || collection.is_empty() {
        return Some("must be `database.collection`".to_owned());
    }
    if namespace.len() > MAX_BYTES {
        return Some(format!(
            "is longer than the {MAX_BYTES} bytes that MongoDB takes"
        ));
    }
    if database.len() > MAX_DATABASE_BYTES {
        return Some(format!(
            "the name of the database is longer than {MAX_DATABASE_BYTES} bytes"
        ));
    }
    if let Some(found) = database.chars().find(|found| "/\\ \"$\0".contains(*found)) {
        return Some(format!(
            "MongoDB takes no {found:?} in the name of a database"
        ));
    }
    if let Some(found) = collection.chars().find(|found| "$\0".contains(*found)) {
        return Some(format!(
            "MongoDB takes no {found:?} in the name of a collection"
        ));
    }
    if is_reserved_database(database) {
        return Some(format!(
            "the database {database:?} is MongoDB's own; nothing can be sealed in it"
        ));
    }
    if collection.starts_with(RESERVED_COLLECTIONS) {
        return Some(
            "collections named `system.…` are MongoDB's own; nothing can be sealed in them"
                .to_owned(),
        );
    }
    None
}

/// Whether `namespace` is one that `pattern` stands for.
pub(super) fn matches(pattern: &str, namespace: &str) -> bool {
    let (database, collection) = parts(namespace);
    let (of_database, of_collection) = parts(pattern);
    glob(of_database.as_bytes(), database.as_bytes())
        && glob(of_collection.as_bytes(), collection.as_bytes())
}

/// Whether a collection of `database` can be one that `pattern` stands for.
pub(crate) fn database_matches(pattern: &str, database: &str) -> bool {
    glob(parts(pattern).0.as_bytes(), database.as_bytes())
}

/// Whether some namespace is one that both patterns stand for.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (one_database, one_collection) = parts(one);
    let (other_database, other_collection) = parts(other);
    globs_meet(one_database.as_bytes(), other_database.as_bytes())
        && globs_meet(one_collection.as_bytes(), other_collection.as_bytes())
}

/// Matches without recursion: after a mismatch, the last `*` takes one byte more.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if wanted == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Whether some text matches both: which prefixes of `one` can be paired with
/// which prefixes of `other`, one row for each prefix of `one`.
fn globs_meet(one: &[u8], other: &[u8]) -> bool {
    let mut above = vec![true];
    for byte in other {
        above.push(*byte == b'*' && above.last() == Some(&true));
    }
    for byte in one {
        let mut row = vec![*byte == b'*' && above.first() == Some(&true)];
        for ((wanted, diagonal), up) in other.iter().zip(&above).zip(above.iter().skip(1)) {
            let left = row.last() == Some(&true);
            row.push(if *byte == b'*' || *wanted == b'*' {
                // A star takes nothing, or all that the other side has next.
                *up || left
            } else {
                *diagonal && byte == wanted
            });
        }
        above = row;
    }
    above.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_does_not_cross_the_first_dot() {
        assert!(matches("tenant_*.customers", "tenant_a.customers"));
        assert!(matches("tenant_*.customers", "tenant_.customers"));
        assert!(!matches("tenant_*.customers", "tenant_a.b.customers"));
        assert!(matches("shop.*", "shop.a.b.c"));
        assert!(!matches("sh*", "shop.a"));
        assert!(matches("shop.logs.*", "shop.logs.2024"));
        assert!(!matches("shop.logs.*", "shop.logs"));
    }

    #[test]
    fn what_mongodb_would_refuse_is_a_mistake() {
        for good in ["a.b", "a.b.c", "*.b", "a*.*b", "shop.système"] {
            assert_eq!(mistake(good), None);
        }
        let long = format!("a.{}", "b".repeat(254));
        let long_database = format!("{}.b", "a".repeat(64));
        for bad in [
            "",
            "a",
            ".b",
            "a.",
            "*",
            "admin.b",
            "local.oplog.rs",
            "config.x",
            "a.system.users",
            "a b.c",
            "a.b$c",
            "a\0.b",
            &long,
            &long_database,
        ] {
            assert!(mistake(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_that_can_match_one_namespace_overlap() {
        for (one, other, expected) in [
            ("*.a", "b.*", true),
            ("a*.x", "*b.x", true),
            ("a*.x", "b*.x", false),
            ("*.x", "*.y", false),
            ("a.*x", "a.x*", true),
            ("a.*aa*", "a.b*b", true),
            ("a.x*y", "a.x*z", false),
            ("a.b", "a.b", true),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    fn slow_glob(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| slow_glob(rest, &text[at..])),
            ([p, pattern @ ..], [t, text @ ..]) => p == t && slow_glob(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_their_definition_says(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                slow_glob(pattern.as_bytes(), text.as_bytes())
            );
        }

        #[test]
        fn globs_that_share_a_text_meet(one in "[ab*]{0,5}", other in "[ab*]{0,5}") {
            // Two patterns of 5 that meet at all meet in a text of at most 10.
            let mut texts = vec![String::new()];
            let mut met = false;
            for _ in 0..=10 {
                met |= texts.iter().any(|t| glob(one.as_bytes(), t.as_bytes()) && glob(other.as_bytes(), t.as_bytes()));
                texts = texts.iter().flat_map(|t| [format!("{t}a"), format!("{t}b")]).collect();
            }
            prop_assert_eq!(globs_meet(one.as_bytes(), other.as_bytes()), met);
        }
    }
}
