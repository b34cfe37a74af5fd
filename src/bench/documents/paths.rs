//! Where in a document the values of a path of the schema are.

use bson::{Bson, Document};

/// The values at a path, each with the path by which a query finds it. As in MongoDB's own
/// paths, each item of an array on the way is where the array is; `*` stands for every name.
/// An array at the end of the path is one value.
pub fn values_at<'d>(document: &'d Document, path: &str) -> Vec<(String, &'d Bson)> {
    let mut found = Vec::new();
    let components: Vec<&str> = path.split('.').collect();
    below(document, &components, String::new(), &mut found);
    found
}

fn below<'d>(
    document: &'d Document,
    components: &[&str],
    so_far: String,
    found: &mut Vec<(String, &'d Bson)>,
) {
    let Some((first, rest)) = components.split_first() else {
        return;
    };
    for (key, value) in document {
        if *first != "*" && first != key {
            continue;
        }
        let path = match so_far.is_empty() {
            true => key.clone(),
            false => format!("{so_far}.{key}"),
        };
        match rest.is_empty() {
            true => found.push((path, value)),
            false => through(value, rest, &path, found),
        }
    }
}

fn through<'d>(value: &'d Bson, rest: &[&str], path: &str, found: &mut Vec<(String, &'d Bson)>) {
    match value {
        Bson::Document(document) => below(document, rest, path.to_owned(), found),
        Bson::Array(items) => {
            for item in items {
                through(item, rest, path, found);
            }
        }
        _ => {}
    }
}

/// Whether a query by `path` for `value` finds the document, and an index can be on it: other
/// than the paths of a schema, those of MongoDB do not lead through arrays in arrays, nor to
/// names that are empty, hold a dot or begin with a dollar.
pub fn leads_to(document: &Document, path: &str, value: &Bson) -> bool {
    let components: Vec<&str> = path.split('.').collect();
    let named = |name: &&str| !name.is_empty() && !name.starts_with('$');
    components.iter().all(named) && holds(document, &components, value)
}

fn holds(document: &Document, components: &[&str], value: &Bson) -> bool {
    let Some((first, rest)) = components.split_first() else {
        return false;
    };
    let Some(found) = document.get(first) else {
        return false;
    };
    match found {
        found if rest.is_empty() => {
            found == value || found.as_array().is_some_and(|items| items.contains(value))
        }
        Bson::Document(inner) => holds(inner, rest, value),
        Bson::Array(items) => {
            let mut inner = items.iter().filter_map(Bson::as_document);
            inner.any(|inner| holds(inner, rest, value))
        }
        _ => false,
    }
}

/// The paths with names in the places of `*`: for each, one of `names`.
pub fn with_names(path: &str, names: &[&str]) -> Vec<String> {
    match path.contains('*') {
        true => names.iter().map(|name| path.replace('*', name)).collect(),
        false => vec![path.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn paths_go_through_arrays_and_stars_stand_for_names() {
        let document = doc! {
            "a": [{"b": 1}, {"b": [2, 3]}, [{"b": 4}], 5],
            "c": {"x": {"d": 6}, "y": {"d": 7, "e": 8}},
        };
        let at = |path| values_at(&document, path);
        let (list, one, four) = (
            Bson::from([2, 3].map(Bson::from).to_vec()),
            1.into(),
            4.into(),
        );
        let found = [
            ("a.b".to_owned(), &one),
            ("a.b".to_owned(), &list),
            ("a.b".to_owned(), &four),
        ];
        assert_eq!(at("a.b"), found);
        let (six, seven) = (6.into(), 7.into());
        assert_eq!(
            at("c.*.d"),
            [("c.x.d".to_owned(), &six), ("c.y.d".to_owned(), &seven)]
        );
        assert_eq!(at("a.b.c"), []);
        assert_eq!(at("z"), []);
    }

    #[test]
    fn a_query_finds_what_its_own_path_leads_to() {
        let document = doc! {
            "a": [{"b": 1}, [{"b": 4}]],
            "c": {"": {"d": 5}, "x.y": {"d": 6}, "$z": {"d": 7}, "0": {"d": [8, [9]]}},
        };
        let found = |path, value: i32| leads_to(&document, path, &value.into());
        assert!(found("a.b", 1) && found("c.0.d", 8));
        for (path, value) in [("a.b", 4), ("c..d", 5), ("c.x.y.d", 6), ("c.$z.d", 7)] {
            assert!(!found(path, value), "{path}");
        }
        assert!(!found("c.0.d", 9) && !found("c.0.d", 7) && !found("c", 5));
    }

    #[test]
    fn a_star_is_given_names() {
        assert_eq!(with_names("a.*.b", &["one", "two"]), ["a.one.b", "a.two.b"]);
        assert_eq!(with_names("a.b", &["one", "two"]), ["a.b"]);
    }
}
