//! What MongoDB's catalog has to say: indexes that queries lack, validators in the way, users
//! who may go round the proxy. For this a login may be needed.

use bson::{Bson, Document, doc};
use mongodb::Client;
use mongodb::error::Error;

use super::validators;
use crate::cli::load::Loaded;
use crate::cli::status::Task;
use crate::migrate::database::{Listed, Standing, sealed_namespaces, told};
use crate::policy::{Collection, Field};
use crate::schema::OnPlaintext;

/// How many users are named.
const NAMED: usize = 10;

/// What was found in the catalog.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// The feature compatibility version.
    pub(super) compatibility: Option<String>,
    /// What should not stay so.
    pub(super) findings: Vec<Task>,
    /// What was not looked at, and why.
    pub(super) untold: Vec<String>,
    /// Whether every user has addresses from which alone it may log in; none: not known, or
    /// there are no users.
    pub(super) users_are_bound: Option<bool>,
}

/// Looks at all of it. What MongoDB does not tell is told of.
pub(super) async fn look(client: &Client, loaded: &Loaded) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.compatibility(client).await;
    catalog.users(client).await;
    match sealed_namespaces(client, &loaded.policy, &[]).await {
        Ok(all) => {
            for listed in &all {
                if let Some(collection) = loaded.policy.collection(&listed.namespace) {
                    catalog.collection(client, listed, &collection).await;
                }
            }
            catalog.profilers(client, &all).await;
        }
        Err(error) => catalog.untold.push(format!("collections: {error}")),
    }
    catalog
}

impl Catalog {
    fn not_told(&mut self, what: &str, error: &Error) {
        self.untold.push(format!("{what}: {}", told(error)));
    }

    async fn compatibility(&mut self, client: &Client) {
        let command = doc! { "getParameter": 1, "featureCompatibilityVersion": 1 };
        match client.database("admin").run_command(command).await {
            Ok(answer) => {
                let version = answer.get_document("featureCompatibilityVersion");
                let version = version.and_then(|version| version.get_str("version"));
                self.compatibility = version.ok().map(str::to_owned);
            }
            Err(error) => self.not_told("feature compatibility version", &error),
        }
    }

    async fn users(&mut self, client: &Client) {
        match unbound(client).await {
            Ok(None) => {}
            Ok(Some(unbound)) => {
                self.users_are_bound = Some(unbound.is_empty());
                if unbound.is_empty() {
                    return;
                }
                let more = unbound.len().saturating_sub(NAMED);
                let mut names = unbound
                    .iter()
                    .take(NAMED)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ");
                if more > 0 {
                    names.push_str(&format!(" and {more} more"));
                }
                self.findings.push(Task::new(
                    "users",
                    format!("{names} may log in from any address, and so past the proxy"),
                    "bind services to the proxies' addresses: db.updateUser(NAME, {authenticationRestrictions: [{clientSource: [\"ADDRESS\"]}]})",
                ));
            }
            Err(error) => self.not_told("users", &error),
        }
    }

    async fn collection(&mut self, client: &Client, listed: &Listed, collection: &Collection) {
        let namespace = &listed.namespace;
        let advice = match listed.standing {
            Standing::Missing => return,
            Standing::View => {
                self.findings.push(Task::new(
                    namespace,
                    "is a view, and the schema seals fields of it",
                    "name the collection under it in the schema: views show what is sealed there",
                ));
                return;
            }
            Standing::TimeSeries => Some(
                "measurements cannot be changed, so no job seals them, nor seals them anew when a key rotates",
            ),
            Standing::Capped => Some(
                "documents cannot change in length, so no job seals them, nor seals them anew when a key rotates",
            ),
            Standing::Collection => None,
        };
        if let Some(advice) = advice {
            let what = format!("is a {}: {advice}", listed.standing.word());
            self.findings.push(Task::new(
                namespace,
                what,
                "see that old documents go before their key does",
            ));
        }
        if collection.on_plaintext == OnPlaintext::Store {
            return;
        }
        if let Ok(validator) = listed.options.get_document("validator") {
            for (path, what) in validators::in_the_way(collection, validator) {
                self.findings.push(Task::new(
                    format!("{namespace} `{path}`"),
                    format!("the collection's validator asks for {what}, which no sealed value is"),
                    format!("give the validator anew through the proxy, which rewrites it: collMod of {:?}", listed.collection()),
                ));
            }
        }
        if listed.standing == Standing::TimeSeries {
            return;
        }
        match indexes(client, listed).await {
            Ok(indexes) => self.findings.extend(lacking(listed, collection, &indexes)),
            Err(error) => self.not_told(&format!("indexes of {namespace}"), &error),
        }
    }

    async fn profilers(&mut self, client: &Client, all: &[Listed]) {
        let mut databases: Vec<&str> = all.iter().map(Listed::database).collect();
        databases.dedup();
        for name in databases {
            match client
                .database(name)
                .run_command(doc! { "profile": -1 })
                .await
            {
                Ok(answer) if answer.get_i32("was").is_ok_and(|level| level > 0) => {
                    self.findings.push(Task::new(
                        format!("database {name}"),
                        "the profiler is on: system.profile keeps commands as MongoDB gets them, sealed where the schema says so, with all tokens and open fields",
                        "db.setProfilingLevel(0), or give nobody system.profile to read",
                    ));
                }
                Ok(_) => {}
                Err(error) => self.not_told(&format!("profiler of {name}"), &error),
            }
        }
    }
}

/// The users who may log in from anywhere; none if there are no users.
async fn unbound(client: &Client) -> Result<Option<Vec<String>>, Error> {
    let admin = client.database("admin");
    let all = admin
        .run_command(doc! { "usersInfo": { "forAllDBs": true } })
        .await?;
    let exact: Vec<Bson> = users(&all)
        .filter_map(|user| {
            let (name, of) = (user.get_str("user").ok()?, user.get_str("db").ok()?);
            Some(Bson::Document(doc! { "user": name, "db": of }))
        })
        .collect();
    if exact.is_empty() {
        return Ok(None);
    }
    // Restrictions are told of users that are named alone.
    let question = doc! { "usersInfo": exact, "showAuthenticationRestrictions": true };
    let told = admin.run_command(question).await?;
    let unbound = users(&told).filter(|user| !is_bound(user)).map(|user| {
        let text = |name| user.get_str(name).unwrap_or_default().to_owned();
        format!("{}@{}", text("user"), text("db"))
    });
    Ok(Some(unbound.collect()))
}

fn users(answer: &Document) -> impl Iterator<Item = &Document> {
    let users = answer.get_array("users").map(Vec::as_slice);
    users
        .unwrap_or_default()
        .iter()
        .filter_map(Bson::as_document)
}

/// Whether any restriction names the addresses of clients. MongoDB shows those of a user as a
/// list, or as a list of lists.
fn is_bound(user: &Document) -> bool {
    fn names_source(restriction: &Bson) -> bool {
        match restriction {
            Bson::Array(all) => all.iter().any(names_source),
            Bson::Document(one) => one.get_array("clientSource").is_ok_and(|of| !of.is_empty()),
            _ => false,
        }
    }
    let names = [
        "authenticationRestrictions",
        "inheritedAuthenticationRestrictions",
    ];
    names
        .iter()
        .any(|name| user.get(name).is_some_and(names_source))
}

async fn indexes(client: &Client, listed: &Listed) -> Result<Vec<Document>, Error> {
    let database = client.database(listed.database());
    let command = doc! { "listIndexes": listed.collection() };
    let mut cursor = database.run_cursor_command(command).await?;
    let mut indexes = Vec::new();
    while cursor.advance().await? {
        indexes.push(cursor.deserialize_current()?);
    }
    Ok(indexes)
}

/// The fields that may be asked for by equality and have no index that begins with their tokens.
fn lacking(listed: &Listed, collection: &Collection, indexes: &[Document]) -> Vec<Task> {
    let fields = collection.fields().iter();
    let fields = fields.filter(|field| !field.path.contains('*'));
    fields
        .filter_map(|field| index_of(listed, field, indexes))
        .collect()
}

fn index_of(listed: &Listed, field: &Field, indexes: &[Document]) -> Option<Task> {
    let equality = field.equality.as_ref()?;
    let first = |index: &Document| index.get_document("key").ok()?.keys().next().cloned();
    let begins = |path: &str| {
        indexes
            .iter()
            .any(|index| first(index).as_deref() == Some(path))
    };
    let path = &field.path;
    if begins(&format!("{path}{}", equality.suffix)) {
        return None;
    }
    let place = format!("{} `{path}`", listed.namespace);
    let mut older = equality.written().iter();
    let older = older.find(|tokens| begins(&format!("{path}.{}", tokens.name)));
    let epoch = equality.epoch;
    Some(match older {
        Some(tokens) => Task::new(
            place,
            format!(
                "has an index on the tokens of index epoch {}, and none on those of {epoch}, which queries use",
                tokens.epoch
            ),
            format!("`fieldseal migrate reindex {}`", listed.namespace),
        ),
        None => Task::new(
            place,
            "may be asked for by equality, and has no index: every query reads the whole collection",
            format!(
                "through the proxy: db.runCommand({{createIndexes: {:?}, indexes: [{{key: {{{path:?}: 1}}, name: {:?}}}]}})",
                listed.collection(),
                format!("{path}_1")
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::fixture;

    fn told(indexes: &[Document]) -> Vec<String> {
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let listed = Listed {
            namespace: "shop.customers".to_owned(),
            standing: Standing::Collection,
            options: doc! {},
        };
        let told = lacking(&listed, &collection, indexes);
        told.iter()
            .map(Task::line)
            .filter(|line| line.contains("`ssn`"))
            .collect()
    }

    #[test]
    fn an_index_on_tokens_that_is_missing_is_told_with_the_command_that_makes_it() {
        let other = doc! {"key": {"name": 1, "ssn.e1": 1}};
        let [line] = &told(&[other])[..] else {
            panic!("one line")
        };
        assert!(line.contains("createIndexes: \"customers\""), "{line}");
        assert!(
            line.contains("{key: {\"ssn\": 1}, name: \"ssn_1\"}"),
            "{line}"
        );
        for key in [
            doc! {"ssn.e1": -1},
            doc! {"ssn.e1": "hashed"},
            doc! {"ssn.e1": 1, "name": 1},
        ] {
            assert!(told(&[doc! {"key": key}]).is_empty());
        }
        assert_eq!(told(&[doc! {"key": {"ssn": 1}}]).len(), 1);
    }

    #[test]
    fn a_user_is_bound_by_the_addresses_of_a_restriction() {
        let source = || doc! {"clientSource": ["10.0.0.1"]};
        let server = || doc! {"serverAddress": ["10.0.0.2"]};
        for (user, bound) in [
            (doc! {}, false),
            (doc! {"authenticationRestrictions": []}, false),
            (doc! {"authenticationRestrictions": [server()]}, false),
            (doc! {"authenticationRestrictions": [source()]}, true),
            (doc! {"authenticationRestrictions": [[source()]]}, true),
            (
                doc! {"inheritedAuthenticationRestrictions": [[source()]]},
                true,
            ),
        ] {
            assert_eq!(is_bound(&user), bound, "{user}");
        }
    }
}
