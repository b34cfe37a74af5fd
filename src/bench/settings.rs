//! What is compared: the ways to MongoDB, and what is sealed on each.

use serde_json::{Map, Value, json};

use super::report::{Group, Operation, Setting};
use crate::keyring::Suite;
use crate::schema::{CollectionRule, FieldRule};

/// What can be left out or asked for alone. Without the proxy, through it with nothing
/// sealed, and what others are compared with is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Part {
    /// Each sealed field alone.
    Fields,
    /// All fields, as the schema says.
    All,
    /// All fields without equality tokens.
    Tokens,
    /// All fields with the other cipher suite.
    Suites,
    /// TLS with clients, with MongoDB, with both.
    Tls,
    /// Unix sockets in the place of TCP.
    Sockets,
}

/// How two speak with each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// Over TCP.
    #[default]
    Tcp,
    /// Over TLS.
    Tls,
    /// Over a Unix socket.
    Unix,
}

/// A setting, and what it takes to measure it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the report says of it.
    pub setting: Setting,
    /// None for the way without the proxy.
    pub proxy: Option<Sides>,
    /// The fields that are sealed.
    pub sealed: Vec<FieldRule>,
    /// Whether the equality query is measured.
    pub equality: bool,
    /// Whether it is measured with every number of connections, and not with the first alone.
    pub scales: bool,
}

/// How the proxy speaks with clients and with MongoDB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sides {
    /// With clients.
    pub listen: Transport,
    /// With MongoDB.
    pub upstream: Transport,
}

/// What can be measured here, and what was asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The parts that were asked for; all if empty.
    pub only: Vec<Part>,
    /// How many fields are measured alone.
    pub fields: usize,
    /// Whether MongoDB has TLS and a Unix socket to offer: one that was started for this.
    pub own_mongodb: bool,
    /// Whether the addresses of Unix sockets fit.
    pub sockets: bool,
    /// The field whose values are looked for, by its place.
    pub asked: Option<usize>,
}

impl Wish {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether anything is compared with all fields.
    fn needs_all(&self) -> bool {
        let parts = [
            Part::All,
            Part::Tokens,
            Part::Suites,
            Part::Tls,
            Part::Sockets,
        ];
        parts.into_iter().any(|part| self.has(part))
    }
}

/// Where the ways without the proxy, with nothing sealed and with all fields are in the list.
pub const DIRECT: usize = 0;
/// See [`DIRECT`].
pub const RELAY: usize = 1;

/// The settings for the collection that `rule` is for.
pub fn plans(rule: &CollectionRule, wish: &Wish) -> Vec<Plan> {
    let fields = sealed_fields(rule);
    let direct = plan("direct", Group::Direct, None, "Without the proxy.");
    let relay = plan(
        "relay",
        Group::Relay,
        Some(DIRECT),
        "Through the proxy, to a collection that the schema does not name: nothing is sealed.",
    );
    let mut plans = vec![
        Plan {
            proxy: None,
            equality: wish.asked.is_some(),
            scales: true,
            ..direct
        },
        Plan {
            equality: wish.asked.is_some(),
            scales: true,
            ..relay
        },
    ];
    if wish.has(Part::Fields) {
        for (place, field) in fields.iter().enumerate().take(wish.fields) {
            plans.push(Plan {
                sealed: vec![field.clone()],
                equality: wish.asked == Some(place),
                ..plan(
                    &format!("only {}", field.path),
                    Group::Field(place),
                    Some(RELAY),
                    &format!("Of all fields `{}` alone is sealed.", field.path),
                )
            });
        }
    }
    if wish.needs_all() {
        let all = plans.len();
        plans.push(Plan {
            sealed: fields.clone(),
            equality: wish.asked.is_some(),
            scales: true,
            ..plan(
                "all fields",
                Group::All,
                Some(RELAY),
                "All fields are sealed, as the schema says.",
            )
        });
        beside_all(&mut plans, all, &fields, wish);
    }
    plans
}

/// What all fields are compared with.
fn beside_all(plans: &mut Vec<Plan>, all: usize, fields: &[FieldRule], wish: &Wish) {
    let equality = wish.asked.is_some();
    if wish.has(Part::Tokens) && fields.iter().any(|field| field.equality) {
        plans.push(Plan {
            sealed: fields.iter().cloned().map(without_tokens).collect(),
            ..plan(
                "no tokens",
                Group::Tokens,
                Some(all),
                "All fields are sealed, none with an equality token: none can be searched.",
            )
        });
    }
    for suite in Suite::ALL {
        let same = |field: &FieldRule| field.suite.unwrap_or(Suite::Aes256Gcm) == suite;
        if wish.has(Part::Suites) && !fields.iter().all(same) {
            let sealed = fields.iter().cloned().map(|field| FieldRule {
                suite: Some(suite),
                ..field
            });
            plans.push(Plan {
                sealed: sealed.collect(),
                equality,
                ..plan(
                    suite.word(),
                    Group::Suite,
                    Some(all),
                    &format!("All fields are sealed with {}.", suite.word()),
                )
            });
        }
    }
    for (part, group, transport, name, over) in [
        (Part::Tls, Group::Tls, Transport::Tls, "TLS", "TLS"),
        (
            Part::Sockets,
            Group::Socket,
            Transport::Unix,
            "socket",
            "a Unix socket",
        ),
    ] {
        if !wish.has(part) || (part == Part::Sockets && !wish.sockets) {
            continue;
        }
        let tcp = Transport::Tcp;
        for (side, listen, upstream, between) in [
            ("listen", transport, tcp, "between client and proxy"),
            ("upstream", tcp, transport, "between proxy and MongoDB"),
            ("both", transport, transport, "on both sides of the proxy"),
        ] {
            if upstream != tcp && !wish.own_mongodb {
                continue;
            }
            plans.push(Plan {
                proxy: Some(Sides { listen, upstream }),
                sealed: fields.to_vec(),
                equality,
                ..plan(
                    &format!("{name} {side}"),
                    group,
                    Some(all),
                    &format!("All fields are sealed; {over} {between}."),
                )
            });
        }
    }
}

fn plan(name: &str, group: Group, against: Option<usize>, says: &str) -> Plan {
    Plan {
        setting: Setting {
            name: name.to_owned(),
            group,
            against,
            says: says.to_owned(),
        },
        proxy: Some(Sides::default()),
        sealed: Vec::new(),
        equality: false,
        scales: false,
    }
}

/// The fields of `rule` as they are measured.
pub fn sealed_fields(rule: &CollectionRule) -> Vec<FieldRule> {
    rule.fields.iter().map(plain_rule).collect()
}

/// The field without what names others: roles are not measured, and in a collection of
/// another name it is another field in any case.
fn plain_rule(field: &FieldRule) -> FieldRule {
    FieldRule {
        identity: None,
        access: crate::schema::AccessRule::default(),
        ..field.clone()
    }
}

/// Arrays are sealed as before: `elements` stays.
fn without_tokens(field: FieldRule) -> FieldRule {
    FieldRule {
        equality: false,
        domain: None,
        ..field
    }
}

/// The text of a schema file that seals `fields` in each of `collections`, as JSON.
pub fn schema_text(collections: &[&str], fields: &[FieldRule]) -> String {
    let fields: Map<String, Value> = fields
        .iter()
        .map(|field| (field.path.clone(), field_entry(field)))
        .collect();
    let collections: Map<String, Value> = collections
        .iter()
        .map(|name| ((*name).to_owned(), json!({"fields": fields})))
        .collect();
    json!({"collections": collections}).to_string()
}

fn field_entry(field: &FieldRule) -> Value {
    let mut entry = Map::new();
    if let Some(names) = field.types.names() {
        entry.insert("type".to_owned(), json!(names));
    }
    if field.equality {
        entry.insert("queries".to_owned(), json!(["equality"]));
    } else if field.elements {
        entry.insert("elements".to_owned(), json!(true));
    }
    if let Some(domain) = &field.domain {
        entry.insert("domain".to_owned(), json!(domain));
    }
    entry.insert("key".to_owned(), json!(field.key));
    if let Some(suite) = field.suite {
        entry.insert("suite".to_owned(), json!(suite.word()));
    }
    Value::Object(entry)
}

/// What is measured of a plan: with many documents in a command only if there are to be many.
pub fn operations(plan: &Plan, batch: usize) -> Vec<Operation> {
    let mut operations = vec![Operation::Read, Operation::Write];
    if batch > 1 {
        operations.extend([Operation::BatchRead, Operation::BatchWrite]);
    }
    if plan.equality {
        operations.push(Operation::EqualityQuery);
    }
    operations
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::schema::{Format, Schema};

    const SCHEMA: &str = r#"
        [collections."shop.people"]
        identity = "people"
        fields.ssn = { type = "string", queries = ["equality"], domain = "who", key = "a" }
        fields.tags = { type = "string", elements = true, suite = "xaes-256-gcm" }
        fields."pay.*.card" = { identity = "card", read = ["support"], mask = "null" }
    "#;

    fn rule() -> CollectionRule {
        let mut schema = Schema::parse(SCHEMA, Format::Toml, "s.toml").unwrap();
        schema.rules.remove(0)
    }

    fn names(wish: &Wish) -> Vec<String> {
        let plans = plans(&rule(), wish);
        plans.into_iter().map(|plan| plan.setting.name).collect()
    }

    fn everything() -> Wish {
        Wish {
            only: Vec::new(),
            fields: 12,
            own_mongodb: true,
            sockets: true,
            asked: Some(0),
        }
    }

    #[test]
    fn each_choice_of_the_schema_and_of_the_transport_is_a_setting() {
        let expected = [
            "direct",
            "relay",
            "only ssn",
            "only tags",
            "only pay.*.card",
            "all fields",
            "no tokens",
            "aes-256-gcm",
            "xaes-256-gcm",
            "TLS listen",
            "TLS upstream",
            "TLS both",
            "socket listen",
            "socket upstream",
            "socket both",
        ];
        assert_eq!(names(&everything()), expected);
        let plans = plans(&rule(), &everything());
        for (place, plan) in plans.iter().enumerate() {
            assert!(plan.setting.against.is_none_or(|against| against < place));
        }
        let asked = |name: &str| {
            plans
                .iter()
                .find(|plan| plan.setting.name == name)
                .unwrap()
                .equality
        };
        assert!(asked("direct") && asked("relay") && asked("only ssn") && asked("all fields"));
        assert!(!asked("only tags") && !asked("no tokens"));
    }

    #[test]
    fn what_is_asked_for_alone_comes_with_what_it_is_compared_with() {
        let only = |part| Wish {
            only: vec![part],
            ..everything()
        };
        assert_eq!(names(&only(Part::All)), ["direct", "relay", "all fields"]);
        assert_eq!(
            names(&Wish {
                fields: 1,
                ..only(Part::Fields)
            }),
            ["direct", "relay", "only ssn"]
        );
        let tls = Wish {
            own_mongodb: false,
            ..only(Part::Tls)
        };
        assert_eq!(names(&tls), ["direct", "relay", "all fields", "TLS listen"]);
    }

    #[test]
    fn a_schema_that_is_written_seals_what_the_one_that_was_read_does() {
        for plan in plans(&rule(), &everything()) {
            if plan.sealed.is_empty() {
                continue;
            }
            let text = schema_text(&["bench.read", "bench.write"], &plan.sealed);
            let schema = Schema::parse(&text, Format::Json, "s.json").unwrap();
            for namespace in ["bench.read", "bench.write"] {
                let fields = &schema.rule(namespace).unwrap().fields;
                assert_eq!(fields.len(), plan.sealed.len());
                for (read, meant) in fields.iter().zip(&plan.sealed) {
                    assert_eq!(format!("{read:?}"), format!("{meant:?}"));
                }
            }
        }
    }
}
