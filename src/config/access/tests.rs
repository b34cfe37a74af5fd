//! `[access]` as it is written, right and wrong.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use super::*;
use crate::config::Config;

const LEAST: &str = r#"schema = "schema.toml"
[keyring]
file = "keyring.json"
unseal = { file = "unseal" }
[[route]]
listen = "127.0.0.1:27117"
upstream = "127.0.0.1:27017"
"#;

fn parse(access: &str) -> Result<AccessConfig, Vec<String>> {
    let text = format!("{LEAST}{access}");
    let config = Config::parse(&text, Path::new("/etc/f.toml"), []);
    config.map(|config| config.access).map_err(|errors| {
        let lines = errors.0.iter().map(ToString::to_string);
        lines.collect()
    })
}

#[track_caller]
fn mistakes(access: &str, expected: &[&str]) {
    let found = parse(access).unwrap_err();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, expected) in found.iter().zip(expected) {
        let from = format!("/etc/f.toml:{expected}");
        let (start, what) = from.split_once(" … ").unwrap();
        assert!(line.starts_with(start) && line.contains(what), "{line}");
    }
}

#[test]
fn without_it_everybody_may_do_everything() {
    let access = parse("").unwrap();
    assert!(access.allow.is_empty() && access.roles.is_empty());
    assert!(access.principals.is_empty() && access.credentials.is_empty());
    assert_eq!(access.javascript, JavaScript::Deny);
}

#[test]
fn all_that_it_holds_is_read() {
    let access = parse(
        r#"
[access]
allow = ["10.0.0.0/8", "192.168.1.7", "fd00::/8"]
javascript = "allow"
[access.roles.agent]
allow_commands = ["find", "getMore"]
deny_commands = ["dropDatabase"]
[access.roles.auditor]
[[access.principals]]
user = "ada@work@admin"
certificate = "CN=shop"
address = "10.1.0.0/16"
roles = ["agent", "auditor"]
[[access.principals]]
roles = ["everyone"]
[[access.credential]]
certificate = "DNS:shop.example"
user = "shop@admin"
password = { file = "secrets/shop" }
"#,
    )
    .unwrap();
    let networks: Vec<String> = access.allow.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8"]);
    assert_eq!(access.javascript, JavaScript::Allow);
    let [agent, auditor] = &access.roles[..] else {
        panic!("two roles: {:?}", access.roles);
    };
    let allowed = agent.allow_commands.as_ref().unwrap();
    assert!(allowed.iter().eq(["find", "getmore"]));
    assert!(agent.deny_commands.iter().eq(["dropdatabase"]));
    assert_eq!(
        (&auditor.allow_commands, auditor.deny_commands.len()),
        (&None, 0)
    );
    let [ada, everyone] = &access.principals[..] else {
        panic!("two principals: {:?}", access.principals);
    };
    assert_eq!(ada.user.as_deref(), Some("ada@work@admin"));
    assert_eq!(ada.certificate.as_deref(), Some("CN=shop"));
    assert_eq!(ada.address, Some("10.1.0.0/16".parse().unwrap()));
    assert_eq!((ada.roles.len(), &everyone.user), (2, &None));
    let names: Vec<&str> = access.role_names().collect();
    assert_eq!(names, ["agent", "auditor", "agent", "auditor", "everyone"]);
    let expected = Credential {
        certificate: "DNS:shop.example".to_owned(),
        user: "shop".to_owned(),
        database: "admin".to_owned(),
        password: "/etc/secrets/shop".into(),
    };
    assert_eq!(access.credentials, [expected]);
}

#[test]
fn an_empty_list_of_commands_allows_none_and_no_list_allows_all() {
    let access = parse("[access.roles.none]\nallow_commands = []\n").unwrap();
    assert_eq!(access.roles[0].allow_commands, Some(BTreeSet::new()));
}

#[test]
fn mistakes_are_reported_together_with_their_lines() {
    mistakes(
        r#"[access]
alow = []
javascript = "no"
[access.roles."a b"]
[access.roles.agent]
deny_command = ["drop"]
[[access.principals]]
user = "ada"
rolls = ["agent"]
[[access.credential]]
certificate = ""
user = "@admin"
"#,
        &[
            "9: access.alow … did you mean `allow`?",
            "10: access.javascript … unknown word",
            "11: access.roles.\"a b\" … ",
            "13: access.roles.agent.deny_command … did you mean `deny_commands`?",
            "14: access.principals[0] … `roles` is missing",
            "15: access.principals[0].user … must be `user@db`",
            "16: access.principals[0].rolls … did you mean `roles`?",
            "17: access.credential[0] … `password` is missing",
            "18: access.credential[0].certificate … must not be empty",
            "19: access.credential[0].user … must be `user@db`",
        ],
    );
}

#[test]
fn a_network_has_no_bits_beyond_its_prefix_and_one_form() {
    mistakes(
        "[access]\nallow = [\"10.0.0.1/8\", \"10.0.0.0/33\", \"db.example\", \"::ffff:10.0.0.1\", \"\", 7]\n",
        &[
            "9: access.allow[0] … say \"10.0.0.0/8\"",
            "9: access.allow[1] … must be a network",
            "9: access.allow[2] … must be a network",
            "9: access.allow[3] … write it as IPv4",
            "9: access.allow[4] … must be a network",
            "9: access.allow[5] … must be a string, not an integer",
        ],
    );
    mistakes(
        "[[access.principals]]\naddress = \"10.0.0.1/24\"\nroles = [\"a\"]\n",
        &["9: access.principals[0].address … say \"10.0.0.0/24\""],
    );
}

#[test]
fn whoever_is_named_has_a_role_and_none_twice() {
    mistakes(
        "[[access.principals]]\nroles = []\n",
        &["9: access.principals[0].roles … at least one role"],
    );
    mistakes(
        "[[access.principals]]\nroles = [\"a\", \"b\", \"a\"]\n",
        &["9: access.principals[0].roles[2] … the same as roles[0]"],
    );
    mistakes(
        "[[access.principals]]\nroles = [\"a\"]\n[[access.principals]]\nroles = [\"a\"]\n",
        &["10: access.principals[1] … the same as principals[0]"],
    );
    mistakes(
        "[[access.principals]]\nroles = \"a\"\n",
        &["9: access.principals[0].roles … must be a list, not a string"],
    );
}

#[test]
fn a_certificate_has_one_credential() {
    let credential = |user: &str| {
        format!(
            "[[access.credential]]\ncertificate = \"CN=a\"\nuser = \"{user}\"\npassword = {{ file = \"p\" }}\n"
        )
    };
    mistakes(
        &[credential("a@admin"), credential("b@admin")].concat(),
        &["12: access.credential[1] … the same as credential[0]"],
    );
}

#[test]
fn a_password_that_stands_where_its_file_belongs_is_not_repeated() {
    for (password, what) in [
        ("\"hunter2\"", "must be { file"),
        ("[\"hunter2\"]", "must be { file"),
        ("{ hunter2 = \"x\" }", "`file` is missing"),
        ("{ file = [\"hunter2\"] }", "must be a string, not a list"),
        ("{ file = \"p\", value = \"hunter2\" }", "unknown key"),
        ("{ file = \"\" }", "must not be empty"),
    ] {
        let found = parse(&format!(
            "[[access.credential]]\ncertificate = \"CN=a\"\nuser = \"a@admin\"\npassword = {password}\n"
        ))
        .unwrap_err();
        let text = found.join("\n");
        assert!(text.contains(what), "{text}");
        assert!(
            text.contains("/etc/f.toml:11: access.credential[0].password"),
            "{text}"
        );
        assert!(
            !text.contains("= \"hunter2") && !text.contains("\"hunter2\""),
            "{text}"
        );
    }
}
