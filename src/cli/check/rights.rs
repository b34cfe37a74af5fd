//! Who may read and write the sealed fields.

use serde_json::{Value, json};

use super::fields;
use crate::cli::table::table;
use crate::schema::{AccessRule, FieldRule, Schema};

/// A table of the fields that are not open to everyone or whose reads are noted; nothing
/// if there are none.
pub(super) fn show(schema: &Schema) -> String {
    let rows: Vec<_> = fields(schema)
        .filter(|(_, field)| field.access != AccessRule::default())
        .map(|(rule, field)| {
            let access = &field.access;
            let mask = access.read.as_ref().map_or("-", |_| access.mask.word());
            [
                rule.pattern.clone(),
                field.path.clone(),
                roles(access.read.as_ref()),
                roles(writers(field)),
                mask.to_owned(),
                if access.audit { "yes" } else { "-" }.to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let heading = ["namespace", "field", "read", "write", "mask", "audit"];
    format!("\n{}", table(heading, &rows))
}

fn roles(open: Option<&Vec<String>>) -> String {
    match open.map(Vec::as_slice) {
        None => "everyone".to_owned(),
        Some([]) => "nobody".to_owned(),
        Some(names) => names.join(", "),
    }
}

/// Who may read a field may write it, unless it is said who may.
fn writers(field: &FieldRule) -> Option<&Vec<String>> {
    let access = &field.access;
    access.write.as_ref().or(access.read.as_ref())
}

/// The same of one field, for programs. Null is for everyone.
pub(super) fn describe(field: &FieldRule) -> Value {
    let access = &field.access;
    json!({
        "read": access.read,
        "write": writers(field),
        "mask": access.read.as_ref().map(|_| access.mask.word()),
        "audit": access.audit,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::schema::CollectionRule;

    fn of(access: AccessRule) -> Schema {
        let field = FieldRule {
            access,
            ..crate::policy::fixture::field("card", crate::schema::Types::ANY, false)
        };
        Schema::from_rules(vec![CollectionRule {
            pattern: "shop.customers".to_owned(),
            identity: None,
            on_plaintext: crate::schema::OnPlaintext::Reject,
            tree: crate::schema::Tree::build(["card"]).unwrap(),
            fields: vec![field],
        }])
    }

    #[test]
    fn who_may_read_and_write_is_shown_where_not_everyone_may() {
        assert_eq!(show(&of(AccessRule::default())), "");
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let line = |access: AccessRule| {
            let text = show(&of(access));
            let words: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
            words[2..].join(" ")
        };
        let read = AccessRule {
            read: names(&["billing", "risk"]),
            ..AccessRule::default()
        };
        assert_eq!(line(read.clone()), "billing, risk billing, risk redact -");
        let write = AccessRule {
            write: names(&[]),
            audit: true,
            ..read.clone()
        };
        assert_eq!(line(write), "billing, risk nobody redact yes");
        let written = AccessRule {
            write: names(&["billing"]),
            ..AccessRule::default()
        };
        assert_eq!(line(written), "everyone billing - -");

        let described = describe(&of(read).rules[0].fields[0]);
        let expected = json!({"read": ["billing", "risk"], "write": ["billing", "risk"], "mask": "redact", "audit": false});
        assert_eq!(described, expected);
    }
}
