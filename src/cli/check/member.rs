//! What the upstream of a route is: asked of it over the connection that the proxy would make,
//! without a login.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use tokio::task::JoinSet;

use crate::cli::load::Loaded;
use crate::config::{Address, Config};
use crate::proxy::question::ask;

/// How long a member may take for all its answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// MongoDB's code for who has not logged in.
const UNAUTHORIZED: i32 = 13;

/// The upstream of a route.
#[derive(Debug)]
pub(super) struct Asked {
    /// Where clients connect.
    pub(super) listen: String,
    pub(super) upstream: Address,
    /// What it is, or why it was not reached.
    pub(super) member: Result<Member, String>,
}

/// What a member says of itself.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// What it calls itself; none in no replica set.
    pub(super) name: Option<String>,
    /// The replica set.
    pub(super) set: Option<String>,
    /// What it does there: primary, secondary… or standalone, or mongos.
    pub(super) state: &'static str,
    /// The members that clients are told of.
    pub(super) others: Vec<String>,
    pub(super) version: Option<String>,
    /// Enterprise or community.
    pub(super) edition: Option<&'static str>,
    /// Whether a login is asked for, as far as that can be told.
    pub(super) authentication: Option<bool>,
    /// With `[tls.upstream]`: whether it answers without TLS all the same.
    pub(super) in_plain: Option<bool>,
}

/// Asks the upstream of every route, all at once; in the order of the routes.
pub(super) async fn ask_all(config: &Config, loaded: &Arc<Loaded>) -> Vec<Asked> {
    let mut tasks = JoinSet::new();
    for (index, route) in config.routes.iter().enumerate() {
        let (loaded, route) = (Arc::clone(loaded), route.clone());
        tasks.spawn(async move {
            let member = member(&route.upstream, &loaded).await;
            let asked = Asked {
                listen: route.listen.to_string(),
                upstream: route.upstream,
                member,
            };
            (index, asked)
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, asked)| asked).collect()
}

async fn member(upstream: &Address, loaded: &Loaded) -> Result<Member, String> {
    let tls = loaded.tls.upstream();
    let hello = doc! { "hello": 1, "$db": "admin" };
    let in_plain = async {
        // A Unix socket has no TLS.
        if tls.is_none() || matches!(upstream, Address::Unix(_)) {
            return None;
        }
        let answered = ask(
            upstream,
            None,
            &loaded.policy,
            std::slice::from_ref(&hello),
            PATIENCE,
        );
        Some(answered.await.is_ok())
    };
    let questions = [
        hello.clone(),
        doc! { "buildInfo": 1, "$db": "admin" },
        doc! { "listDatabases": 1, "nameOnly": true, "$db": "admin" },
    ];
    let answers = ask(upstream, tls.clone(), &loaded.policy, &questions, PATIENCE);
    let (answers, in_plain) = tokio::join!(answers, in_plain);
    let answers = answers.map_err(|error| error.to_string())?;
    let [hello, build, list] = answers.as_slice() else {
        return Err("it did not answer all".to_owned());
    };
    Ok(Member {
        in_plain,
        ..Member::of(hello, build, list)
    })
}

impl Member {
    fn of(hello: &Document, build: &Document, list: &Document) -> Self {
        let text = |name| hello.get_str(name).ok().map(str::to_owned);
        let enterprise = build.get_array("modules").is_ok_and(|modules| {
            let mut modules = modules.iter();
            modules.any(|module| module.as_str() == Some("enterprise"))
        });
        let version = build.get_str("version").ok().map(str::to_owned);
        let lists = ["hosts", "passives"].into_iter();
        let others = lists
            .filter_map(|name| hello.get_array(name).ok())
            .flatten()
            .filter_map(Bson::as_str)
            .map(str::to_ascii_lowercase);
        Self {
            name: text("me"),
            set: text("setName"),
            state: state(hello),
            others: others.collect(),
            edition: version.is_some().then_some(if enterprise {
                "enterprise"
            } else {
                "community"
            }),
            version,
            authentication: authentication(list),
            in_plain: None,
        }
    }
}

fn state(hello: &Document) -> &'static str {
    let is = |name| hello.get_bool(name).unwrap_or_default();
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        "mongos"
    } else if is("isreplicaset") {
        "not initiated"
    } else if !hello.contains_key("setName") {
        "standalone"
    } else if is("isWritablePrimary") || is("ismaster") {
        "primary"
    } else if is("arbiterOnly") {
        "arbiter"
    } else if is("secondary") {
        "secondary"
    } else {
        "not ready"
    }
}

/// What the answer to a command that needs a right says of logins.
fn authentication(list: &Document) -> Option<bool> {
    let ok = list.get("ok").and_then(|ok| match ok {
        Bson::Double(ok) => Some(*ok == 1.0),
        Bson::Int32(ok) => Some(*ok == 1),
        _ => None,
    });
    match (ok, list.get_i32("code").ok()) {
        (Some(true), _) => Some(false),
        (_, Some(UNAUTHORIZED)) => Some(true),
        // Rights are looked at before it is seen that a member is no primary.
        (_, Some(10107 | 13435 | 13436)) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_by_what_it_says() {
        let hello = doc! {
            "setName": "rs", "me": "DB-1:27017", "isWritablePrimary": true,
            "hosts": ["DB-1:27017", "db-2:27017"], "passives": ["db-3:27017"], "arbiters": ["db-4:27017"],
        };
        let build = doc! { "version": "6.0.5", "modules": ["enterprise"] };
        let member = Member::of(&hello, &build, &doc! { "ok": 1.0 });
        assert_eq!(member.state, "primary");
        assert_eq!(member.others, ["db-1:27017", "db-2:27017", "db-3:27017"]);
        assert_eq!(member.edition, Some("enterprise"));
        assert_eq!(member.authentication, Some(false));
        let build = doc! { "version": "6.0.5", "modules": [] };
        let member = Member::of(
            &doc! { "msg": "isdbgrid" },
            &build,
            &doc! { "ok": 0.0, "code": 13 },
        );
        assert_eq!(
            (member.state, member.edition),
            ("mongos", Some("community"))
        );
        assert_eq!(member.authentication, Some(true));
        let member = Member::of(&doc! {}, &doc! {}, &doc! { "ok": 0.0, "code": 1 });
        assert_eq!((member.state, member.edition), ("standalone", None));
        assert_eq!(member.authentication, None);
    }
}
