//! Who has which roles.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::config::{self, RoleRule};
use crate::tls::AlternativeName;

fn rule(roles: &[&str]) -> PrincipalRule {
    PrincipalRule {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..PrincipalRule::default()
    }
}

fn of_user(user: &str, roles: &[&str]) -> PrincipalRule {
    PrincipalRule {
        user: Some(user.to_owned()),
        ..rule(roles)
    }
}

fn compiled(principals: Vec<PrincipalRule>) -> Access {
    Access::compile(&AccessConfig {
        principals,
        ..AccessConfig::default()
    })
    .unwrap()
}

fn certificate() -> ClientCertificate {
    ClientCertificate {
        subject: "CN=shop,O=MusicCorp".to_owned(),
        names: vec![AlternativeName::Dns("shop.example".to_owned())],
    }
}

fn roles(access: &Access, principal: &Principal) -> Vec<String> {
    let held = access.roles_of(principal);
    access.names_of(held).map(str::to_owned).collect()
}

#[test]
fn the_roles_of_all_that_fits_are_united() {
    let access = compiled(vec![
        of_user("ada@admin", &["agent"]),
        rule(&["everyone"]),
        of_user("ada@admin", &["auditor", "agent"]),
        of_user("bob@admin", &["other"]),
    ]);
    let ada = Principal {
        user: Some("ada@admin".to_owned()),
        ..Principal::default()
    };
    assert_eq!(roles(&access, &ada), ["agent", "auditor", "everyone"]);
    assert_eq!(roles(&access, &Principal::default()), ["everyone"]);
}

#[test]
fn a_user_is_one_of_its_database_and_compared_as_it_is() {
    let access = compiled(vec![of_user("ada@admin", &["agent"])]);
    for user in [
        "ada@shop",
        "Ada@admin",
        "ada@Admin",
        "ada",
        "ada@admin ",
        "x@ada@admin",
    ] {
        let other = Principal {
            user: Some(user.to_owned()),
            ..Principal::default()
        };
        assert!(roles(&access, &other).is_empty(), "{user}");
    }
}

#[test]
fn all_that_an_entry_says_has_to_hold() {
    let access = compiled(vec![PrincipalRule {
        user: Some("ada@admin".to_owned()),
        certificate: Some("DNS:shop.example".to_owned()),
        address: Some("10.0.0.0/8".parse().unwrap()),
        ..rule(&["agent"])
    }]);
    let whole = Principal {
        user: Some("ada@admin".to_owned()),
        certificate: Some(certificate()),
        address: Some("10.1.2.3".parse().unwrap()),
    };
    assert_eq!(roles(&access, &whole), ["agent"]);
    let mapped = Principal {
        address: Some("::ffff:10.1.2.3".parse().unwrap()),
        ..whole.clone()
    };
    assert_eq!(roles(&access, &mapped), ["agent"]);
    let without = [
        Principal {
            user: None,
            ..whole.clone()
        },
        Principal {
            certificate: None,
            ..whole.clone()
        },
        Principal {
            address: None,
            ..whole.clone()
        },
        Principal {
            address: Some("11.1.2.3".parse().unwrap()),
            ..whole
        },
    ];
    for principal in without {
        assert!(roles(&access, &principal).is_empty(), "{principal:?}");
    }
}

#[test]
fn only_the_networks_that_are_allowed_may_connect_if_any_is() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let everyone = Access::default();
    assert!(everyone.admits(address("8.8.8.8")));
    let some = Access::compile(&AccessConfig {
        allow: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        ..AccessConfig::default()
    })
    .unwrap();
    for inside in ["10.255.0.1", "::ffff:10.0.0.1", "fd12::1"] {
        assert!(some.admits(address(inside)), "{inside}");
    }
    for outside in ["11.0.0.1", "::1", "::ffff:11.0.0.1", "127.0.0.1"] {
        assert!(!some.admits(address(outside)), "{outside}");
    }
}

#[test]
fn a_role_that_is_named_only_in_a_binding_is_known() {
    let access = Access::compile(&AccessConfig {
        roles: vec![RoleRule {
            name: "auditor".to_owned(),
            allow_commands: None,
            deny_commands: ["drop".to_owned()].into(),
        }],
        principals: vec![rule(&["agent"])],
        ..AccessConfig::default()
    })
    .unwrap();
    assert!(access.role_names().eq(["agent", "auditor"]));
    assert!(access.role("agent").is_some() && access.role("agnt").is_none());
    let auditor = access.role("auditor").unwrap();
    assert!(access.commands_of(auditor).deny.contains("drop"));
    let agent = access.role("agent").unwrap();
    assert!(access.commands_of(agent).is_empty());
}

#[test]
fn more_roles_than_a_set_holds_are_refused() {
    let name = |number: usize| format!("r{number}");
    let many = |count: usize| AccessConfig {
        principals: (0..count).map(|number| rule(&[&name(number)])).collect(),
        ..AccessConfig::default()
    };
    Access::compile(&many(128)).unwrap();
    Access::compile(&many(129)).unwrap_err();
}

#[test]
fn every_password_that_cannot_be_read_is_told_of_and_the_first_credential_that_fits_counts() {
    let file = std::env::temp_dir().join(format!("fieldseal-access-{}", std::process::id()));
    let credential = |certificate: &str, user: &str| config::Credential {
        certificate: certificate.to_owned(),
        user: user.to_owned(),
        database: "admin".to_owned(),
        password: file.clone(),
    };
    let config = AccessConfig {
        credentials: vec![
            credential("CN=other", "other"),
            credential("shop.example", "first"),
            credential("CN=shop,O=MusicCorp", "second"),
        ],
        ..AccessConfig::default()
    };
    let errors = Access::load(&config).unwrap_err();
    assert_eq!(errors.len(), 3);
    let line = errors[1].to_string();
    assert!(
        line.starts_with("access.credential[1]: the password "),
        "{line}"
    );
    std::fs::write(&file, "pencil\n").unwrap();
    let access = Access::load(&config);
    std::fs::remove_file(&file).unwrap();
    let access = access.unwrap();
    let found = access.credential_for(&certificate()).unwrap();
    assert_eq!(found.name(), "first@admin");
    let stranger = ClientCertificate {
        subject: String::new(),
        names: Vec::new(),
    };
    assert!(access.credential_for(&stranger).is_none());
}

#[test]
fn a_principal_is_named_on_one_line() {
    let mut principal = Principal {
        user: Some("a\nb\u{2028}\u{e9}@admin".to_owned()),
        certificate: Some(certificate()),
        address: Some("10.0.0.1".parse().unwrap()),
    };
    assert_eq!(principal.to_string(), "a\\u{a}b\\u{2028}\u{e9}@admin");
    principal.user = None;
    assert_eq!(principal.to_string(), "CN=shop,O=MusicCorp");
    principal.certificate = Some(ClientCertificate {
        subject: String::new(),
        ..certificate()
    });
    assert_eq!(principal.to_string(), "DNS:shop.example");
    principal.certificate = None;
    assert_eq!(principal.to_string(), "10.0.0.1");
    assert_eq!(Principal::default().to_string(), "local");
}
