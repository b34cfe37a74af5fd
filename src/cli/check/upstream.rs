//! What is behind the routes, and whether clients could go round the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::catalog::{self, Catalog};
use super::member::{self, Asked, Member};
use crate::cli::Failure;
use crate::cli::database::DatabaseArgs;
use crate::cli::load::Loaded;
use crate::cli::status::Task;
use crate::cli::table::table;
use crate::code::Code;
use crate::config::Config;

/// The versions of MongoDB that this version was tested with.
const TESTED: [&str; 1] = ["6.0."];

/// What was found out.
#[derive(Debug)]
pub(super) struct Upstreams {
    routes: Vec<Asked>,
    /// None: nobody was there to be asked, or a login is needed.
    catalog: Option<Catalog>,
    /// Why the catalog was not looked at, if it was not.
    unseen: Option<String>,
}

/// Asks every upstream, and MongoDB's catalog where that can be done.
pub(super) async fn look(
    config: &Config,
    loaded: &Arc<Loaded>,
    database: &DatabaseArgs,
) -> Upstreams {
    let routes = member::ask_all(config, loaded).await;
    let (catalog, unseen) = match catalog(config, loaded, database, &routes).await {
        Ok(catalog) => (Some(catalog), None),
        Err(why) => (None, why),
    };
    Upstreams {
        routes,
        catalog,
        unseen,
    }
}

async fn catalog(
    config: &Config,
    loaded: &Loaded,
    database: &DatabaseArgs,
    routes: &[Asked],
) -> Result<Catalog, Option<String>> {
    let members = || routes.iter().filter_map(|asked| asked.member.as_ref().ok());
    if !database.is_named() {
        if members().any(|member| member.authentication != Some(false)) {
            return Err(Some(
                "indexes, validators and users were not looked at: MongoDB asks for a login; give one who may see them with --uri or FIELDSEAL_URI".to_owned(),
            ));
        }
        if !members().any(|member| ["primary", "mongos", "standalone"].contains(&member.state)) {
            return Err(None);
        }
    }
    let told = |failure: Failure| {
        let why = failure.lines().join("; ");
        Some(format!(
            "indexes, validators and users were not looked at: {why}"
        ))
    };
    let client = database.connect(config).await.map_err(told)?;
    let catalog = catalog::look(&client, loaded).await;
    client.shutdown().immediate(true).await;
    Ok(catalog)
}

impl Upstreams {
    /// A table, to stand behind that of the fields.
    pub(super) fn show(&self) -> String {
        let heading = [
            "route", "upstream", "member", "set", "state", "version", "edition", "login", "TLS",
        ];
        let rows: Vec<_> = self.routes.iter().map(row).collect();
        let mut text = format!("\n{}", table(heading, &rows));
        let compatibility = self
            .catalog
            .as_ref()
            .and_then(|it| it.compatibility.as_ref());
        if let Some(version) = compatibility {
            text.push_str(&format!("feature compatibility version {version}\n"));
        }
        text
    }

    /// What should not stay so.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.unreached();
        lines.extend(self.findings().iter().map(Task::line));
        lines.extend(self.unseen.clone());
        let untold = self.catalog.iter().flat_map(|catalog| &catalog.untold);
        lines.extend(untold.map(|what| format!("not looked at: {what}")));
        lines
    }

    fn unreached(&self) -> Vec<String> {
        let unreached = self.routes.iter().filter_map(|asked| {
            let why = asked.member.as_ref().err()?;
            Some(format!("route {}: not reached: {why}", asked.upstream))
        });
        unreached.collect()
    }

    /// With `--require-upstream`: what was not reached.
    pub(super) fn failure(&self) -> Option<Failure> {
        Failure::of_all(Code::NotReached, self.unreached())
    }

    fn findings(&self) -> Vec<Task> {
        let mut findings: Vec<Task> = self
            .routes
            .iter()
            .flat_map(|it| self.of_route(it))
            .collect();
        findings.extend(self.of_set());
        let found = self.catalog.iter().flat_map(|catalog| &catalog.findings);
        findings.extend(found.cloned());
        findings
    }

    fn of_route(&self, asked: &Asked) -> Vec<Task> {
        let Ok(member) = &asked.member else {
            return Vec::new();
        };
        let task = |what: String, remedy: &str| {
            Task::new(format!("route {}", asked.upstream), what, remedy)
        };
        let mut tasks = Vec::new();
        if member.authentication == Some(false) {
            tasks.push(task(
                "it asks for no login: whoever reaches it reads what is not sealed, and goes round the proxy".to_owned(),
                "set security.authorization, or a keyFile, and give each service a user",
            ));
        }
        if member.in_plain == Some(true) {
            tasks.push(task(
                "it answers without TLS as well: clients that go round the proxy may do so in plain".to_owned(),
                "set net.tls.mode to requireTLS",
            ));
        }
        let bound = self.catalog.as_ref().and_then(|it| it.users_are_bound);
        if !asked.upstream.is_local() && bound != Some(true) {
            tasks.push(task(
                "other machines may reach it, and so clients past the proxy".to_owned(),
                "let in the proxies and the members alone: by a firewall, net.bindIp, or authenticationRestrictions of every user",
            ));
        }
        if let Some(version) = &member.version
            && !TESTED.iter().any(|tested| version.starts_with(tested))
        {
            tasks.push(task(
                format!("its version {version} is not one that was tested, of 6.0"),
                "try what the services do before they rely on it",
            ));
        }
        if member.state == "not initiated" {
            tasks.push(task(
                "it is in no replica set yet".to_owned(),
                "run rs.initiate() there",
            ));
        }
        tasks
    }

    /// What the members say of each other.
    fn of_set(&self) -> Vec<Task> {
        let members: Vec<(&Asked, &Member)> = (self.routes.iter())
            .filter_map(|asked| Some((asked, asked.member.as_ref().ok()?)))
            .collect();
        let mut tasks = Vec::new();
        let mut routed: BTreeSet<String> = self
            .routes
            .iter()
            .map(|asked| asked.upstream.to_string().to_ascii_lowercase())
            .collect();
        routed.extend(
            members
                .iter()
                .filter_map(|(_, it)| it.name.as_ref()?.to_ascii_lowercase().into()),
        );
        let told: BTreeSet<&String> = members.iter().flat_map(|(_, it)| &it.others).collect();
        for name in told {
            if !routed.contains(name.as_str()) {
                tasks.push(Task::new(
                    format!("member {name}"),
                    "has no [[route]]: clients are not told of it, and stand still while it is the primary",
                    format!("add a [[route]] with upstream = {name:?}"),
                ));
            }
        }
        let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (asked, member) in &members {
            if let Some(name) = &member.name {
                by_name
                    .entry(name)
                    .or_default()
                    .push(asked.upstream.to_string());
            }
        }
        for (name, routes) in by_name.iter().filter(|(_, routes)| routes.len() > 1) {
            tasks.push(Task::new(
                format!("routes {}", routes.join(", ")),
                format!("all lead to the member {name}"),
                "leave one of them",
            ));
        }
        let sets: BTreeSet<&str> = members
            .iter()
            .filter_map(|(_, it)| it.set.as_deref())
            .collect();
        if sets.len() > 1 {
            let sets: Vec<&str> = sets.into_iter().collect();
            tasks.push(Task::new(
                "routes",
                format!("lead to several replica sets: {}", sets.join(", ")),
                "run a proxy for each",
            ));
        }
        tasks
    }

    /// All of it, for programs.
    pub(super) fn describe(&self) -> Value {
        let routes: Vec<Value> = self.routes.iter().map(describe_route).collect();
        let findings: Vec<Value> = self.findings().iter().map(Task::describe).collect();
        json!({
            "routes": routes,
            "feature_compatibility_version": self.catalog.as_ref().and_then(|it| it.compatibility.as_ref()),
            "catalog": self.catalog.is_some(),
            "not_looked_at": self.unseen.iter().chain(self.catalog.iter().flat_map(|it| &it.untold)).collect::<Vec<_>>(),
            "findings": findings,
        })
    }
}

fn row(asked: &Asked) -> [String; 9] {
    let dash = || "-".to_owned();
    let (listen, upstream) = (asked.listen.clone(), asked.upstream.to_string());
    let Ok(member) = &asked.member else {
        let lost = "not reached".to_owned();
        return [
            listen,
            upstream,
            dash(),
            dash(),
            lost,
            dash(),
            dash(),
            dash(),
            dash(),
        ];
    };
    let login = match member.authentication {
        Some(true) => "needed",
        Some(false) => "not needed",
        None => "-",
    };
    let tls = match member.in_plain {
        Some(true) => "offered",
        Some(false) => "required",
        None => "-",
    };
    [
        listen,
        upstream,
        member.name.clone().unwrap_or_else(dash),
        member.set.clone().unwrap_or_else(dash),
        member.state.to_owned(),
        member.version.clone().unwrap_or_else(dash),
        member.edition.unwrap_or("-").to_owned(),
        login.to_owned(),
        tls.to_owned(),
    ]
}

fn describe_route(asked: &Asked) -> Value {
    let mut described = json!({
        "listen": asked.listen,
        "upstream": asked.upstream.to_string(),
        "local": asked.upstream.is_local(),
    });
    let more = match &asked.member {
        Err(why) => json!({ "reached": false, "why": why }),
        Ok(member) => json!({
            "reached": true,
            "member": member.name,
            "set": member.set,
            "state": member.state,
            "members": member.others,
            "version": member.version,
            "edition": member.edition,
            "authentication": member.authentication,
            "answers_without_tls": member.in_plain,
        }),
    };
    if let (Some(all), Value::Object(more)) = (described.as_object_mut(), more) {
        all.extend(more);
    }
    described
}
