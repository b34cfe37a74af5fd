//! The route table: what clients are told instead of the members' own names.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Address;

/// How many names without a route are remembered as already logged.
const UNROUTED: usize = 256;

/// Which members there are and where clients find them; read by all sessions, swapped as a whole.
pub(super) struct Routes(ArcSwap<Table>);

/// One state of the route table.
#[derive(Clone)]
pub(super) struct Table {
    members: Vec<Member>,
    unrouted: BTreeSet<String>,
}

#[derive(Clone)]
struct Member {
    /// The upstream as configured.
    configured: Option<String>,
    /// What the upstream calls itself.
    learned: Option<String>,
    advertised: String,
}

impl Routes {
    /// A table of (upstream, advertised name), in the order of the routes.
    pub(super) fn new(members: impl IntoIterator<Item = (Address, String)>) -> Self {
        let members = members
            .into_iter()
            .map(|(upstream, advertised)| Member {
                configured: match upstream {
                    Address::Tcp(name) => Some(name.to_ascii_lowercase()),
                    Address::Unix(_) => None,
                },
                learned: None,
                advertised,
            })
            .collect();
        Self(ArcSwap::from_pointee(Table {
            members,
            unrouted: BTreeSet::new(),
        }))
    }

    /// The table as it is now.
    pub(super) fn now(&self) -> Arc<Table> {
        self.0.load_full()
    }

    /// Notes that the upstream of route `route` calls itself `name`.
    pub(super) fn learn(&self, route: usize, name: &str) {
        let name = name.to_ascii_lowercase();
        let known = |table: &Table| {
            let member = table.members.get(route);
            member.is_none_or(|member| member.learned.as_ref() == Some(&name))
        };
        if known(&self.now()) {
            return;
        }
        tracing::info!(route, member = %name, "a member of the replica set is known by its name");
        self.0.rcu(|table| {
            let mut table = Table::clone(table);
            if let Some(member) = table.members.get_mut(route) {
                member.learned = Some(name.clone());
            }
            table
        });
    }

    /// Logs, once for each name, that a member has no route and clients are not told of it.
    pub(super) fn drop_unrouted(&self, name: &str) {
        let table = self.now();
        if table.unrouted.contains(name) || table.unrouted.len() >= UNROUTED {
            return;
        }
        tracing::warn!(
            member = %name,
            "a member of the replica set has no [[route]], so clients are not told of it"
        );
        self.0.rcu(|table| {
            let mut table = Table::clone(table);
            table.unrouted.insert(name.to_owned());
            table
        });
    }
}

impl Table {
    /// What clients are told instead of `name`, if it has a route. `route` is the one that asks:
    /// its own member has the name under which this client found it.
    pub(super) fn advertised(&self, route: usize, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        let own = self.members.get(route).filter(|member| member.is(&name));
        // What a member calls itself counts for more than what the configuration calls it.
        own.or_else(|| {
            self.members
                .iter()
                .find(|member| member.learned.as_ref() == Some(&name))
        })
        .or_else(|| self.members.iter().find(|member| member.is(&name)))
        .map(|member| member.advertised.as_str())
    }

    /// The routes whose upstream has not yet said what it calls itself.
    pub(super) fn unknown(&self) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        members
            .filter(|(_, member)| member.learned.is_none())
            .map(|(route, _)| route)
            .collect()
    }
}

impl Member {
    /// Whether this member is called `name`. Once it has said its name, only that counts.
    fn is(&self, name: &str) -> bool {
        self.learned
            .as_ref()
            .or(self.configured.as_ref())
            .is_some_and(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let tcp = |name: &str| Address::Tcp(name.to_owned());
        Routes::new([
            (tcp("10.0.0.1:27017"), "proxy:1".to_owned()),
            (tcp("Mongo2:27017"), "proxy:2".to_owned()),
            (
                Address::Unix("/run/mongod.sock".into()),
                "proxy:3".to_owned(),
            ),
        ])
    }

    #[test]
    fn a_member_is_known_by_its_configured_name_in_any_case() {
        let table = routes().now();
        assert_eq!(table.advertised(0, "mongo2:27017"), Some("proxy:2"));
        assert_eq!(table.advertised(0, "MONGO2:27017"), Some("proxy:2"));
        assert_eq!(table.advertised(0, "mongo1:27017"), None);
    }

    #[test]
    fn a_member_is_known_by_the_name_it_gives_itself() {
        let routes = routes();
        assert_eq!(routes.now().unknown(), [0, 1, 2]);
        routes.learn(0, "mongo1:27017");
        routes.learn(2, "mongo3:27017");
        let table = routes.now();
        assert_eq!(table.advertised(1, "mongo1:27017"), Some("proxy:1"));
        assert_eq!(table.advertised(1, "mongo3:27017"), Some("proxy:3"));
        assert_eq!(table.unknown(), [1]);
    }

    #[test]
    fn of_two_routes_to_one_member_each_tells_its_own() {
        let routes = routes();
        routes.learn(0, "same:1");
        routes.learn(2, "same:1");
        assert_eq!(routes.now().advertised(0, "same:1"), Some("proxy:1"));
        assert_eq!(routes.now().advertised(2, "same:1"), Some("proxy:3"));
        assert_eq!(routes.now().advertised(1, "same:1"), Some("proxy:1"));
    }

    #[test]
    fn a_member_without_a_route_is_remembered_as_logged() {
        let routes = routes();
        for _ in 0..3 {
            routes.drop_unrouted("stranger:1");
        }
        assert_eq!(routes.now().unrouted.len(), 1);
    }
}
