//! The worked example of the documentation, with its own schema and roles.

use super::*;

/// The blocks of a page that are in this language.
fn blocks<'t>(page: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    let parts = page.split(begin.as_str()).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap())
        .collect()
}

/// The page's schema and `[access]`, with the database and the addresses of this test.
fn of_the_page(database: &str) -> (String, String) {
    let page = include_str!("../../../docs/access.md");
    let [schema, access, ..] = blocks(page, "toml")[..] else {
        panic!("the page has no example");
    };
    let mut access = access.to_owned();
    for (user, role) in [
        ("support", Role::Support),
        ("billing", Role::Billing),
        ("web", Role::Intake),
    ] {
        let condition = format!("user  = \"{user}@admin\"");
        assert!(access.contains(&condition));
        let address = format!("address = \"{}/32\"", role.address());
        access = access.replace(&condition, &address);
    }
    (schema.replace("shop.", &format!("{database}.")), access)
}

fn ada() -> Document {
    doc! {
        "_id": 1,
        "name": "Ada Marsh",
        "email": "ada@example.com",
        "phone": "+44 131 496 0000",
        "plan": "gold",
        "payment": { "card": "4929123456789012", "expires": "09/29" },
        "ssn": "078-05-1120",
    }
}

#[tokio::test]
async fn the_call_centre_sees_the_customer_and_not_the_card() {
    let database = unique_database("call_centre");
    let (schema, configuration) = of_the_page(&database);
    let options = ProxyOptions {
        schema: &schema,
        configuration: &configuration,
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_with(shared_replica_set().await, options).await;
    let mut web = Client::connect(&proxy, Role::Intake, &database).await;
    let mut support = Client::connect(&proxy, Role::Support, &database).await;
    let mut billing = Client::connect(&proxy, Role::Billing, &database).await;
    web.run(&doc! { "insert": "customers", "documents": [ada()] })
        .await;

    let by = |filter: Document| doc! { "find": "customers", "filter": filter };
    let by_email = by(doc! { "email": "ada@example.com" });
    let masked = |phone: &str| {
        let mut seen = ada();
        seen.insert("phone", phone);
        seen.insert("payment", doc! { "card": "****9012", "expires": "09/29" });
        seen.insert("ssn", "[redacted]");
        [Bson::Document(seen)]
    };
    assert_eq!(support.found(&by_email).await, masked("+44 131 496 0000"));
    assert_eq!(web.found(&by_email).await, masked("[redacted]"));
    assert_eq!(billing.found(&by_email).await, [ada().into()]);

    let by_phone = by(doc! { "phone": "+44 131 496 0000" });
    assert_eq!(support.found(&by_phone).await.len(), 1);
    assert_eq!(billing.found(&by_phone).await.len(), 1);
    web.refused(&by_phone).await;
    for asked in [
        doc! { "ssn": "078-05-1120" },
        doc! { "ssn": { "$exists": true } },
    ] {
        support.refused(&by(asked.clone())).await;
        web.refused(&by(asked.clone())).await;
        assert_eq!(billing.found(&by(asked)).await.len(), 1);
    }

    let update =
        |u: Document| doc! { "update": "customers", "updates": [{ "q": { "_id": 1 }, "u": u }] };
    let set = |path: &str, value: &str| update(doc! { "$set": { path: value } });
    for client in [&mut support, &mut billing, &mut web] {
        client.run(&set("plan", "gold")).await;
    }
    support
        .refused(&set("payment.card", "4111111111111111"))
        .await;
    support.refused(&update(ada())).await;
    support
        .refused(&doc! { "insert": "customers", "documents": [{ "_id": 2, "ssn": "1" }] })
        .await;
    support
        .refused(&doc! { "delete": "customers", "deletes": [{ "q": { "_id": 1 }, "limit": 1 }] })
        .await;
    let answer = web.ask(&set("payment.card", "****9012")).await;
    assert!(answer.contains_key("writeErrors"), "{answer}");
    web.run(&set("payment.card", "4929123456789012")).await;
    assert_eq!(billing.found(&by_email).await, [ada().into()]);

    // Nothing that the call centre was ever sent holds what it may not see.
    for secret in ["4929123456789012", "078-05-1120"] {
        let seen =
            |client: &Client| memchr::memmem::find(&client.received, secret.as_bytes()).is_some();
        assert!(!seen(&support), "{secret}");
        assert!(seen(&billing), "{secret}");
    }
    web.run(&doc! { "delete": "customers", "deletes": [{ "q": { "_id": 1 }, "limit": 1 }] })
        .await;
}
