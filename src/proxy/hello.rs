//! The reply side of `hello`, so that a driver never finds a way round the proxy.

use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::rewrite;
use crate::wire::{Compressor, Message, Reply, WireError, finish};

use super::routes::{Routes, Table};

/// What a client may send in one message once something is sealed: half of
/// MongoDB's limit, so that a batch still fits after sealing made it longer.
const SEALING_MESSAGE_BYTES: i64 = 24_000_000;

/// MongoDB 6.0, the newest that is tested.
pub(super) const MAX_WIRE_VERSION: i64 = 17;

/// What a reply to `hello` is rewritten with.
pub(super) struct Rewriting<'a> {
    /// Where clients find the members.
    pub(super) routes: &'a Routes,
    /// The route that the client came by.
    pub(super) route: usize,
    /// The compressors to agree to.
    pub(super) compressors: &'a [Compressor],
    /// The longest message that the proxy takes.
    pub(super) message_bytes: usize,
    /// Whether anything is sealed.
    pub(super) sealing: bool,
}

/// The compressors that a `hello` offers and the proxy speaks, in the client's order.
pub(super) fn offered(request: &Message<'_>) -> Result<Vec<Compressor>, WireError> {
    let body = match request {
        Message::Msg(message) => message.body.clone(),
        Message::Query(query) => query.query.clone(),
    };
    let mut common = Vec::new();
    for name in rewrite::hello::compression(request.frame(), body)? {
        if let Some(compressor) = Compressor::named(name)
            && !common.contains(&compressor)
        {
            common.push(compressor);
        }
    }
    Ok(common)
}

/// The name that the member gives itself in a reply to `hello`.
pub(super) fn own_name<'a>(reply: &Reply<'a>) -> Result<Option<&'a str>, WireError> {
    let body = reply.body();
    let me = Doc::at(reply.frame(), body.start, body.end)?.find("me")?;
    Ok(me.and_then(|me| me.str()))
}

impl Rewriting<'_> {
    /// Builds in `out` what the client gets instead of `reply`.
    pub(super) fn apply(&self, reply: &Reply<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        if let Some(name) = own_name(reply)? {
            self.routes.learn(self.route, name);
        }
        let table = self.routes.now();
        let body = reply.body();
        let answer = Doc::at(reply.frame(), body.start, body.end)?;
        let mut splicer = Splicer::new(reply.frame(), out);
        let mark = splicer.mark();
        for element in answer.elements() {
            self.element(&element?, &table, &mut splicer)?;
        }
        let last = answer.end() - 1;
        splicer.replace(last, last, |out| self.agree(out));
        splicer.mend_length(answer.start(), mark)?;
        splicer.finish();
        finish(out)
    }

    fn element(
        &self,
        element: &Element<'_>,
        table: &Table,
        splicer: &mut Splicer<'_, '_>,
    ) -> Result<(), Malformed> {
        let (from, to) = (element.start, element.end);
        match element.key {
            "hosts" | "passives" | "arbiters" if element.kind == kind::ARRAY => {
                let names = self.names(&element.doc()?, table)?;
                splicer.replace(from, to, |out| write_names(element.key, &names, out));
            }
            "me" | "primary" => {
                let name = element.str().and_then(|name| self.name(name, table));
                splicer.replace(from, to, |out| {
                    if let Some(name) = name {
                        Writer::new(out).string(element.key, name);
                    }
                });
            }
            "maxMessageSizeBytes" => self.lower(element, self.message_bytes(), splicer),
            "maxWireVersion" => self.lower(element, MAX_WIRE_VERSION, splicer),
            // Not what MongoDB and the proxy agree on, but the proxy and its client.
            "compression" => splicer.replace(from, to, |_| ()),
            _ => {}
        }
        Ok(())
    }

    fn message_bytes(&self) -> i64 {
        let limit = i64::try_from(self.message_bytes).unwrap_or(i64::MAX);
        if self.sealing {
            limit.min(SEALING_MESSAGE_BYTES)
        } else {
            limit
        }
    }

    /// Replaces a number above `bound` by it.
    fn lower(&self, element: &Element<'_>, bound: i64, splicer: &mut Splicer<'_, '_>) {
        if element.integer().is_none_or(|number| number > bound) {
            let bound = i32::try_from(bound).unwrap_or(i32::MAX);
            splicer.replace(element.start, element.end, |out| {
                Writer::new(out).int32(element.key, bound);
            });
        }
    }

    fn name<'t>(&self, name: &str, table: &'t Table) -> Option<&'t str> {
        let advertised = table.advertised(self.route, name);
        if advertised.is_none() {
            self.routes.drop_unrouted(name);
        }
        advertised
    }

    fn names<'t>(&self, members: &Doc<'_>, table: &'t Table) -> Result<Vec<&'t str>, Malformed> {
        let mut names = Vec::new();
        for member in members.elements() {
            if let Some(name) = member?.str().and_then(|name| self.name(name, table)) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn agree(&self, out: &mut Vec<u8>) {
        if !self.compressors.is_empty() {
            let names: Vec<&str> = self
                .compressors
                .iter()
                .map(|compressor| compressor.name())
                .collect();
            write_names("compression", &names, out);
        }
    }
}

fn write_names(key: &str, names: &[&str], out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    let open = writer.begin_array(key);
    for (index, name) in names.iter().enumerate() {
        writer.string(&index.to_string(), name);
    }
    writer.end(open);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::config::Address;
    use crate::wire::testing::{body, document, msg, query, reply};
    use crate::wire::{MAX_MESSAGE, flag};

    fn routes() -> Routes {
        let tcp = |name: &str| Address::Tcp(name.to_owned());
        Routes::new([
            (tcp("10.0.0.1:27017"), "proxy:1".to_owned()),
            (tcp("mongo2:27017"), "proxy:2".to_owned()),
        ])
    }

    fn rewritten(
        frame: &[u8],
        routes: &Routes,
        compressors: &[Compressor],
        sealing: bool,
    ) -> Document {
        let rewriting = Rewriting {
            routes,
            route: 0,
            compressors,
            message_bytes: MAX_MESSAGE,
            sealing,
        };
        let mut out = Vec::new();
        rewriting
            .apply(&Reply::recognise(frame).unwrap(), &mut out)
            .unwrap();
        let reply = Reply::recognise(&out).unwrap();
        assert_eq!(out[4..16], frame[4..16], "the ids and the opcode stay");
        bson::deserialize_from_slice(&out[reply.body()]).unwrap()
    }

    fn primary() -> Document {
        doc! {
            "topologyVersion": {"processId": 1, "counter": 6_i64},
            "hosts": ["mongo1:27017", "mongo2:27017", "mongo9:27017"],
            "passives": ["mongo2:27017"],
            "arbiters": ["mongo8:27017"],
            "setName": "rs0",
            "isWritablePrimary": true,
            "primary": "mongo1:27017",
            "me": "mongo1:27017",
            "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000,
            "minWireVersion": 0,
            "maxWireVersion": 25,
            "saslSupportedMechs": ["SCRAM-SHA-256"],
            "speculativeAuthenticate": {"done": false},
            "ok": 1.0,
        }
    }

    #[test]
    fn every_name_of_a_member_goes_through_the_route_table_and_the_rest_stays_in_order() {
        let mut expected = primary();
        expected.insert("hosts", vec!["proxy:1", "proxy:2"]);
        expected.insert("passives", vec!["proxy:2"]);
        expected.insert("arbiters", Vec::<String>::new());
        expected.insert("primary", "proxy:1");
        expected.insert("me", "proxy:1");
        expected.insert("maxWireVersion", 17);
        for flags in [0, flag::MORE_TO_COME, flag::CHECKSUM_PRESENT] {
            let frame = msg(flags, &body(&primary()));
            let answer = rewritten(&frame, &routes(), &[], false);
            assert_eq!(answer, expected);
            assert!(answer.keys().eq(expected.keys()));
        }
        assert_eq!(
            rewritten(&reply(&primary()), &routes(), &[], false),
            expected
        );
    }

    #[test]
    fn a_primary_without_a_route_is_not_named() {
        let mut hello = primary();
        hello.insert("primary", "mongo9:27017");
        let answer = rewritten(&msg(0, &body(&hello)), &routes(), &[], false);
        assert!(!answer.contains_key("primary"));
        assert_eq!(answer.get_str("me").unwrap(), "proxy:1");
    }

    #[test]
    fn a_batch_still_fits_after_sealing() {
        let frame = msg(0, &body(&primary()));
        let size = |sealing| {
            rewritten(&frame, &routes(), &[], sealing)
                .get_i32("maxMessageSizeBytes")
                .unwrap()
        };
        assert_eq!((size(false), size(true)), (48_000_000, 24_000_000));
        let small = msg(
            0,
            &body(&doc! {"maxMessageSizeBytes": 1000, "maxWireVersion": 13}),
        );
        let expected = doc! {"maxMessageSizeBytes": 1000, "maxWireVersion": 13};
        assert_eq!(rewritten(&small, &routes(), &[], true), expected);
    }

    #[test]
    fn compressors_are_those_both_speak_in_the_clients_order() {
        let names = ["zstd", "lz4", "noop", "snappy", "zstd"];
        let hello = doc! {"isMaster": 1, "compression": names.to_vec()};
        let expected = vec![Compressor::Zstd, Compressor::Snappy];
        let frame = msg(0, &body(&hello));
        assert_eq!(
            offered(&Message::recognise(&frame).unwrap()).unwrap(),
            expected
        );
        let legacy = query("admin.$cmd", &document(&hello));
        assert_eq!(
            offered(&Message::recognise(&legacy).unwrap()).unwrap(),
            expected
        );

        let answer = msg(0, &body(&doc! {"compression": ["zlib"], "ok": 1.0}));
        let agreed = rewritten(&answer, &routes(), &expected, false);
        assert_eq!(agreed, doc! {"ok": 1.0, "compression": ["zstd", "snappy"]});
        assert_eq!(rewritten(&answer, &routes(), &[], false), doc! {"ok": 1.0});
    }

    #[test]
    fn a_standalones_reply_and_an_error_stay_as_they_are() {
        for answer in [
            doc! {"isWritablePrimary": true, "ok": 1.0},
            doc! {"ok": 0.0, "errmsg": "no", "code": 13},
        ] {
            assert_eq!(rewritten(&reply(&answer), &routes(), &[], true), answer);
        }
    }
}
