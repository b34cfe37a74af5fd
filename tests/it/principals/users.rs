//! Users of MongoDB, by what drivers do.

use mongodb::Client;
use mongodb::bson::doc;
use mongodb::error::ErrorKind;

use super::{PASSWORD, as_user, binding, may_ask, proxy, status, told};

#[tokio::test]
async fn whoever_mongodb_lets_in_has_the_roles_of_that_user_and_no_others() {
    let roles = [
        binding("ada@admin", "agent"),
        binding("ada@shop", "other"),
        binding("old@admin", "old"),
        "[[access.principals]]\naddress = \"127.0.0.0/8\"\nroles = [\"near\"]\n".to_owned(),
        "[[access.principals]]\naddress = \"10.0.0.0/8\"\nroles = [\"far\"]\n".to_owned(),
    ];
    let proxy = proxy(&roles.concat()).await;
    for (user, database, password, roles) in [
        ("ada", "admin", PASSWORD, r#"["agent", "near"]"#),
        ("ada", "shop", PASSWORD, r#"["near", "other"]"#),
        ("bob", "admin", PASSWORD, r#"["near"]"#),
        ("old", "admin", "pencil", r#"["near", "old"]"#),
    ] {
        let options = as_user(&proxy.addresses()[0], user, database, password).await;
        let client = Client::with_options(options).unwrap();
        let name = format!("{user}@{database}");
        assert_eq!(status(&client).await.unwrap().join(", "), name);
        assert!(told(&proxy, &name, roles), "{name}: {}", proxy.log());
        client.shutdown().immediate(true).await;
    }
    // Before a login, and where there is none.
    assert!(told(&proxy, "127.0.0.1", r#"["near"]"#));
    let log = proxy.log();
    let mut lines = log.lines().filter(|line| line.contains("roles="));
    assert!(!lines.any(|line| line.contains("far")), "{log}");
    assert!(!proxy.log().contains("pencil"));
}

#[tokio::test]
async fn a_login_that_fails_gives_nothing_and_is_told_of_without_what_was_sent() {
    const GUESS: &str = "a guess 4711";
    let proxy = proxy(&binding("ada@admin", "agent")).await;
    for user in ["ada", "nobody\nWARN forged"] {
        let options = as_user(&proxy.addresses()[0], user, "admin", GUESS).await;
        let client = Client::with_options(options).unwrap();
        let error = status(&client).await.unwrap_err();
        assert!(
            matches!(*error.kind, ErrorKind::Authentication { .. }),
            "{error}"
        );
    }
    let log = proxy.log();
    let failed: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("a login failed"))
        .collect();
    assert!(
        failed
            .iter()
            .all(|line| line.contains("WARN") && line.contains("client=127.0.0.1:"))
    );
    assert!(
        failed
            .iter()
            .any(|line| line.contains(r#"user="ada@admin""#)),
        "{log}"
    );
    assert!(!log.contains(GUESS) && !log.contains("agent\"]"), "{log}");
    assert!(
        !log.lines().any(|line| line.starts_with("WARN forged")),
        "{log}"
    );
}

#[tokio::test]
async fn other_roles_hold_for_connections_that_are_open_already() {
    let mut proxy = proxy(&binding("ada@admin", "agent")).await;
    let options = as_user(&proxy.addresses()[0], "ada", "admin", PASSWORD).await;
    let client = Client::with_options(options).unwrap();
    assert!(may_ask(&client).await);
    assert!(told(&proxy, "ada@admin", r#"["agent"]"#));
    let logins = |log: &str| log.matches(" authenticated ").count();
    let before = logins(&proxy.log());
    let configuration = proxy.configuration();
    let text = std::fs::read_to_string(&configuration).unwrap();
    let others = text.replace("roles = [\"agent\"]", "roles = [\"auditor\"]");
    std::fs::write(&configuration, others).unwrap();
    proxy.process_mut().signal("HUP");
    proxy.wait_for_log(&["taken up anew"]).await;
    status(&client).await.unwrap();
    assert!(
        told(&proxy, "ada@admin", r#"["auditor"]"#),
        "{}",
        proxy.log()
    );
    assert_eq!(logins(&proxy.log()), before, "the same connection");
    assert!(!proxy.log().contains("needs a restart"));
}

#[tokio::test]
async fn what_a_role_opens_is_open_to_its_user_alone() {
    let proxy = proxy(&binding("ada@admin", "agent")).await;
    for (user, database, may) in [
        ("ada", "admin", true),
        ("ada", "shop", false),
        ("bob", "admin", false),
    ] {
        let options = as_user(&proxy.addresses()[0], user, database, PASSWORD).await;
        let client = Client::with_options(options).unwrap();
        assert_eq!(may_ask(&client).await, may, "{user}@{database}");
    }
}

#[tokio::test]
async fn a_read_and_a_write_go_on_as_the_user_that_logged_in() {
    let proxy = proxy("").await;
    let options = as_user(&proxy.addresses()[0], "bob", "admin", PASSWORD).await;
    let client = Client::with_options(options).unwrap();
    let name = crate::support::unique_database("principals");
    let people = client.database(&name).collection("people");
    people
        .insert_one(doc! { "_id": 1, "name": "Ada" })
        .await
        .unwrap();
    let found = people.find_one(doc! { "name": "Ada" }).await.unwrap();
    assert_eq!(found, Some(doc! { "_id": 1, "name": "Ada" }));
}
