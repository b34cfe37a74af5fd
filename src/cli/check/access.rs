//! Who has which roles, as `check` prints it.

use serde_json::{Value, json};

use super::super::table::table;
use crate::config::{AccessConfig, PrincipalRule};

/// For people; nothing if there is nothing to say.
pub(super) fn show(access: &AccessConfig) -> String {
    let mut text = String::new();
    let dash = || "-".to_owned();
    if !access.principals.is_empty() {
        let rows = access.principals.iter().map(|who| {
            [
                who.user.clone().unwrap_or_else(dash),
                who.certificate.clone().unwrap_or_else(dash),
                who.address.map_or_else(dash, |address| address.to_string()),
                who.roles.join(", "),
            ]
        });
        let rows: Vec<_> = rows.collect();
        text.push_str(&table(["user", "certificate", "address", "roles"], &rows));
    }
    for credential in &access.credentials {
        text.push_str(&format!(
            "clients with the certificate {:?} are {}@{} at MongoDB\n",
            credential.certificate, credential.user, credential.database
        ));
    }
    text
}

/// For programs.
pub(super) fn describe(access: &AccessConfig) -> Value {
    let principal = |who: &PrincipalRule| {
        json!({
            "user": who.user,
            "certificate": who.certificate,
            "address": who.address.map(|address| address.to_string()),
            "roles": who.roles,
        })
    };
    let mut roles: Vec<&str> = access.role_names().collect();
    roles.sort_unstable();
    roles.dedup();
    let principals: Vec<Value> = access.principals.iter().map(principal).collect();
    let credentials = access.credentials.iter().map(|credential| {
        let user = format!("{}@{}", credential.user, credential.database);
        json!({ "certificate": credential.certificate, "user": user })
    });
    let credentials: Vec<Value> = credentials.collect();
    json!({ "roles": roles, "principals": principals, "credentials": credentials })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::super::keys::tests::{Workplace, init};
    use super::super::tests::run;
    use super::*;

    const SCHEMA: &str = "[collections.\"a.b\".fields]\nx = { read = [\"agent\"] }\n";

    fn place(name: &str, access: &str) -> Workplace {
        let place = Workplace::new(name, SCHEMA);
        let text = std::fs::read_to_string(place.config()).unwrap();
        place.write("fieldseal.toml", &format!("{text}\n{access}"));
        place
    }

    #[test]
    fn it_is_said_who_has_which_roles_and_as_whom_certificates_log_in() {
        let access = r#"
[[access.principals]]
user = "ada@admin"
address = "10.0.0.0/8"
roles = ["agent", "auditor"]
[[access.credential]]
certificate = "CN=shop"
user = "shop@admin"
password = { file = "password" }
[access.roles.auditor]
"#;
        let place = place("check-access", access);
        place.write("password", "hunter2");
        init(&place);
        let report = run(&place.config(), false).unwrap();
        let lines: Vec<String> = report
            .text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for expected in [
            "user certificate address roles",
            "ada@admin - 10.0.0.0/8 agent, auditor",
            "clients with the certificate \"CN=shop\" are shop@admin at MongoDB",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{}", report.text);
        }
        assert!(report.text.ends_with("keyring generation 1\n"));
        let json = run(&place.config(), true).unwrap().text;
        assert!(!report.text.contains("hunter2") && !json.contains("hunter2"));
        let json: Value = serde_json::from_str(&json).unwrap();
        let access = &json["access"];
        assert_eq!(access["roles"], json!(["agent", "auditor"]));
        assert_eq!(access["principals"][0]["user"], "ada@admin");
        assert_eq!(access["principals"][0]["certificate"], Value::Null);
        assert_eq!(access["principals"][0]["address"], "10.0.0.0/8");
        assert_eq!(access["credentials"][0]["user"], "shop@admin");
    }

    #[test]
    fn every_role_that_is_not_known_and_every_password_that_cannot_be_read_is_told_of() {
        let place = place("check-roles", "[access.roles.agnet]\n");
        place.write(
            "schema.toml",
            "[collections.\"a.b\".fields]\nx = { read = [\"agent\"], write = [\"boss\", \"agent\"] }\ny = { read = [\"agent\"] }\n",
        );
        let text = std::fs::read_to_string(place.config()).unwrap();
        let credential = "[[access.credential]]\ncertificate = \"CN=a\"\nuser = \"a@admin\"\npassword = { file = \"none\" }\n";
        init(&place);
        place.write("fieldseal.toml", &format!("{text}{credential}"));
        let failure = run(&place.config(), false).unwrap_err();
        let [x, boss, y, password] = failure.lines() else {
            panic!("four lines: {failure:?}");
        };
        for (line, path) in [(x, "`x`"), (y, "`y`")] {
            let expected = format!(
                "a.b: {path} names the role \"agent\", which [access] does not have; did you mean \"agnet\"? [FS2004]"
            );
            assert!(line.ends_with(&expected), "{line}");
        }
        assert!(boss.contains("the role \"boss\"") && boss.contains("[[access.principals]]"));
        assert!(
            password.contains("access.credential[0]") && password.contains("none: cannot be read")
        );
    }

    #[test]
    fn what_has_no_effect_is_warned_of() {
        let access = r#"
[access.roles.auditor]
[[access.principals]]
certificate = "CN=a"
roles = ["auditr", "agent"]
[[access.credential]]
certificate = "CN=a"
user = "a@admin"
password = { file = "password" }
"#;
        let place = place("check-effect", access);
        place.write("password", "hunter2");
        init(&place);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(place.path("password"), mode).unwrap();
        let warnings = run(&place.config(), false).unwrap().warnings;
        for expected in [
            "nobody has the role \"auditor\"",
            "the role \"auditr\" means nothing; did you mean \"auditor\"?",
            "set tls.listen.client_ca",
            "read or write this password; run `chmod 600",
        ] {
            assert!(
                warnings.iter().any(|line| line.contains(expected)),
                "{warnings:#?}"
            );
        }
        assert_eq!(warnings.len(), 4, "{warnings:#?}");
    }
}
