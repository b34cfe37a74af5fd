//! Which commands the holders of a role may send.

use mongodb::bson::doc;

use super::*;
use crate::support::{error_text, fieldseal};

const ROLES: &str = "[access.roles.reader]\nallow_commands = [\"find\", \"aggregate\", \"explain\"]\n\
    [access.roles.careful]\ndeny_commands = [\"delete\", \"dropIndexes\"]\n\
    [[access.principals]]\naddress = \"127.0.0.2\"\nroles = [\"reader\"]\n\
    [[access.principals]]\naddress = \"127.0.0.3\"\nroles = [\"careful\"]\n";

#[tokio::test]
async fn a_reader_writes_by_no_command_and_who_has_no_role_does_as_before() {
    let proxy = start(ROLES).await;
    let database = &unique_database("limits");
    let mut free = one(&proxy).await;
    writes_and_finds(&mut free, database, 1).await;
    let mut reader = other(&proxy).await;
    reader.hello().await;
    assert!(reader.works().await);
    let find = doc! { "find": "people", "filter": { "ssn": "000000001" }, "$db": database };
    assert_eq!(code(&reader.ask(&find).await), 0);
    let explain = |command: Document| doc! { "explain": command, "$db": database };
    assert_eq!(
        code(&reader.ask(&explain(doc! { "find": "people" })).await),
        0
    );
    for command in [
        doc! { "insert": "people", "documents": [{ "_id": 2 }], "$db": database },
        doc! { "delete": "people", "deletes": [{ "q": {}, "limit": 0 }], "$db": database },
        doc! { "findandmodify": "people", "query": {}, "remove": true, "$db": database },
        doc! { "drop": "people", "$db": database },
        doc! { "aggregate": "open", "pipeline": [{ "$out": "people" }], "cursor": {}, "$db": database },
        doc! { "aggregate": "open", "pipeline": [{ "$merge": "copy" }], "cursor": {}, "$db": database },
        doc! { "applyOps": [], "$db": "admin" },
        explain(doc! { "count": "people" }),
    ] {
        let answer = reader.ask(&command).await;
        assert_eq!(code(&answer), 13, "{command}: {answer}");
        assert_eq!(answer.get_str("codeName").ok(), Some("Unauthorized"));
        let message = answer.get_str("errmsg").unwrap();
        assert!(!message.contains("careful"), "{message}");
    }
    let mut careful = Wire::connect_from("127.0.0.3", &proxy.addresses()[0]).await;
    writes_and_finds(&mut careful, database, 3).await;
    for command in [
        doc! { "delete": "people", "deletes": [{ "q": {}, "limit": 0 }], "$db": database },
        doc! { "findAndModify": "people", "query": {}, "remove": true, "$db": database },
        doc! { "deleteIndexes": "people", "index": "*", "$db": database },
    ] {
        assert_eq!(code(&careful.ask(&command).await), 13, "{command}");
    }
    let count = doc! { "count": "people", "$db": database };
    assert_eq!(free.ask(&count).await.get_i32("n").ok(), Some(2));
}

#[tokio::test]
async fn a_misspelt_command_in_a_rule_is_a_mistake_that_names_the_nearest_one() {
    let proxy = start("").await;
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    let rules = "[access.roles.x]\nallow_commands = [\"agregate\"]\ndeny_commands = [\"hello\", \"find\"]\n";
    let file = proxy.directory().join("ruled.toml");
    std::fs::write(&file, format!("{text}{rules}")).unwrap();
    let checked = fieldseal(&["check"], &file);
    assert_eq!(checked.status.code(), Some(1));
    let error = error_text(&checked);
    for part in [
        "access.roles.x.allow_commands: \"agregate\" is no command; did you mean \"aggregate\"?",
        "access.roles.x.deny_commands: \"hello\" cannot be denied",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
