//! One client's connection: requests in order, each with its replies.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::frames::{FrameReader, give_back};
use super::hello::{self, Rewriting};
use super::link::{Ended, Link};
use super::stream::Stream;
use super::upstream::Upstream;
use super::{Shared, stopped, views};
use crate::policy::{Policy, Views};
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::{self, ReplyPlan, Revealed};
use crate::rewrite::{self, Decision};
use crate::wire::{self, Compressor, Header, Message, Reply, ReplyForm, WireError, flag, opcode};

/// One client and its connection to MongoDB.
pub(super) struct Session {
    shared: Arc<Shared>,
    route: usize,
    link: Link,
    stop: watch::Receiver<bool>,
    /// Numbers the replies that are made here.
    replies: i32,
    buffers: Buffers,
    /// Views that only this client was told of.
    views: Views,
}

/// Memory that is used again for every message.
#[derive(Default)]
struct Buffers {
    /// The request as it came.
    request: Vec<u8>,
    /// The request inflated; later, the reply compressed.
    other: Vec<u8>,
    /// The request rewritten; later, the reply rewritten.
    built: Vec<u8>,
    /// The reply as it came.
    reply: Vec<u8>,
}

/// What of a request matters for its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    request_id: i32,
    form: ReplyForm,
    compressor: Option<Compressor>,
    wants_reply: bool,
}

/// How to treat the replies.
struct Treatment {
    plan: ReplyPlan,
    /// The cursor that the request reads on.
    cursor: Option<i64>,
    policy: Arc<Policy>,
    /// What a `hello` offered to compress with.
    compressors: Vec<Compressor>,
}

impl Session {
    /// A client that came by route `route`.
    pub(super) fn new(
        client: Stream,
        upstream: Upstream,
        shared: Arc<Shared>,
        route: usize,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let stall = Some(shared.limits.handshake_timeout);
        let link = Link {
            requests: FrameReader::new(client.read, shared.limits.message_bytes, stall),
            client: client.write,
            upstream,
        };
        Self {
            shared,
            route,
            link,
            stop,
            replies: 0,
            buffers: Buffers::default(),
            views: Views::default(),
        }
    }

    /// Serves the client until one side is through.
    pub(super) async fn run(mut self) -> Ended {
        match self.serve().await {
            Err(ended) => ended,
            Ok(never) => match never {},
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Ended> {
        let first = timeout(self.shared.limits.handshake_timeout, self.request()).await;
        let mut header = first.map_err(|_| Ended::Handshake)??;
        loop {
            self.operation(header).await?;
            let buffers = &mut self.buffers;
            for buffer in [
                &mut buffers.request,
                &mut buffers.other,
                &mut buffers.built,
                &mut buffers.reply,
            ] {
                give_back(buffer);
            }
            header = self.request().await?;
        }
    }

    /// The next request. Meanwhile nothing is going on, so this is where a session stops.
    async fn request(&mut self) -> Result<Header, Ended> {
        let Link {
            requests, upstream, ..
        } = &mut self.link;
        tokio::select! {
            header = requests.next(&mut self.buffers.request) => match header {
                Ok(Some(header)) => Ok(header),
                Ok(None) => Err(Ended::ClientClosed),
                Err(error) => Err(Ended::Client(error)),
            },
            () = upstream.replies.closed() => Err(Ended::UpstreamClosed),
            () = stopped(&mut self.stop) => Err(Ended::Stopping),
        }
    }

    /// One request and all its replies, under one policy.
    async fn operation(&mut self, header: Header) -> Result<(), Ended> {
        let policy = self.shared.policy.load_full();
        let Buffers {
            request,
            other,
            built,
            reply,
        } = &mut self.buffers;
        let (frame, compressor) = if header.opcode == opcode::COMPRESSED {
            let limit = self.shared.limits.message_bytes;
            let compressor = wire::inflate(request, limit, other)
                .map_err(|error| Ended::Client(error.into()))?;
            (&*other, Some(compressor))
        } else {
            (&*request, None)
        };
        let message = match Message::recognise(frame) {
            Ok(message) => message,
            Err(error) => {
                let asked = malformed(frame, compressor);
                return self.part(asked, error).await;
            }
        };
        let asked = Asked {
            request_id: header.request_id,
            form: ReplyForm::answering(&message),
            compressor,
            wants_reply: message.wants_reply(),
        };
        if let Some(database) = rewrite::views::unlisted(&message, &policy, &self.views) {
            views::list(&mut self.link, &policy, &self.views, database, built, reply).await?;
        }
        if let Err(refusal) = rewrite::views::refuse_unknown(&message, &policy, &self.views) {
            return self.refuse(asked, &refusal).await;
        }
        match rewrite::decide(&message, &policy, built) {
            Decision::Refuse(refusal) => self.refuse(asked, &refusal).await,
            Decision::Forward { cleared, plan } => {
                let compressors = match plan {
                    ReplyPlan::Hello => {
                        hello::offered(&message).map_err(|error| Ended::Client(error.into()))?
                    }
                    _ => Vec::new(),
                };
                self.link.send(&cleared, asked.wants_reply).await?;
                let cursor = match plan {
                    ReplyPlan::More(cursor) => Some(cursor),
                    _ => None,
                };
                let treatment = Treatment {
                    plan: self.shared.cursors.settle(self.route, plan, &policy),
                    cursor,
                    policy,
                    compressors,
                };
                if asked.wants_reply {
                    self.replies(asked, &treatment).await
                } else {
                    Ok(())
                }
            }
        }
    }

    /// The replies to what was sent: one, or a stream of them.
    async fn replies(&mut self, asked: Asked, treatment: &Treatment) -> Result<(), Ended> {
        let mut expected = asked.request_id;
        let mut streaming = false;
        loop {
            let header = tokio::select! {
                header = self.link.reply(&mut self.buffers.reply) => header?,
                () = stopped(&mut self.stop), if streaming => return Err(Ended::Stopping),
            };
            // Each reply of a stream answers the one before it.
            if header.response_to != expected {
                return Err(Ended::Answer);
            }
            expected = header.request_id;
            let more = self.deliver(asked, treatment, streaming).await?;
            if !more {
                return Ok(());
            }
            streaming = true;
        }
    }

    /// Hands on the reply that is in its buffer. Gives whether another one follows.
    async fn deliver(
        &mut self,
        asked: Asked,
        treatment: &Treatment,
        streaming: bool,
    ) -> Result<bool, Ended> {
        let Buffers {
            reply: frame,
            built,
            ..
        } = &mut self.buffers;
        let upstream = |error: WireError| Ended::Upstream(error.into());
        let reply = Reply::recognise(frame).map_err(upstream)?;
        let more = reply.more_to_come();
        let revealed = match (&treatment.plan, &reply) {
            (ReplyPlan::Hello, _) => {
                let rewriting = Rewriting {
                    routes: &self.shared.routes,
                    route: self.route,
                    compressors: &treatment.compressors,
                    message_bytes: self.shared.limits.message_bytes,
                    // A stream of replies outlives the policy that it began under.
                    sealing: !self.shared.policy.load().is_empty(),
                };
                rewriting.apply(&reply, built).map_err(upstream)?;
                Revealed::Rewritten
            }
            (ReplyPlan::Pass, Reply::Legacy(_)) if asked.form == ReplyForm::Legacy => {
                Revealed::Unchanged
            }
            (_, Reply::Legacy(_)) => return Err(Ended::Answer),
            (plan, Reply::Msg(_)) => match reveal::reveal(frame, plan, &treatment.policy, built) {
                Ok(revealed) => revealed,
                Err(refusal) if more || streaming => return Err(Ended::Stream(refusal)),
                Err(refusal) => return self.refuse(asked, &refusal).await.map(|()| false),
            },
        };
        let cursors = &self.shared.cursors;
        cursors.note(self.route, &treatment.plan, treatment.cursor, frame);
        let bytes = match revealed {
            Revealed::Unchanged => &self.buffers.reply,
            Revealed::Rewritten => &self.buffers.built,
        };
        self.link
            .answer(bytes, asked.compressor, &mut self.buffers.other)
            .await?;
        Ok(more)
    }

    /// Answers a request with an error, if it wants an answer.
    async fn refuse(&mut self, asked: Asked, refusal: &Refusal) -> Result<(), Ended> {
        if !asked.wants_reply {
            tracing::warn!(%refusal, "refused a request that wants no reply");
            return Ok(());
        }
        tracing::debug!(%refusal, "refused");
        self.replies = self.replies.wrapping_add(1);
        let Buffers { built, other, .. } = &mut self.buffers;
        wire::error_reply(asked.form, self.replies, asked.request_id, refusal, built);
        self.link.answer(built, asked.compressor, other).await
    }

    /// Says what is wrong with a message, where that can be said, and ends the session.
    async fn part(&mut self, asked: Option<Asked>, error: WireError) -> Result<(), Ended> {
        if let Some(asked) = asked {
            let refusal = Refusal::new(RefusalKind::Malformed, error);
            self.refuse(asked, &refusal).await?;
            self.link
                .client
                .shutdown()
                .await
                .map_err(Ended::ClientWrite)?;
        }
        Err(Ended::Client(error.into()))
    }
}

/// How to answer a frame that was not recognised; none if it may not want an answer.
fn malformed(frame: &[u8], compressor: Option<Compressor>) -> Option<Asked> {
    let header = Header::of(frame).ok()?;
    let form = match header.opcode {
        opcode::MSG => {
            let flags = frame.get(wire::HEADER..)?.first_chunk::<4>()?;
            if u32::from_le_bytes(*flags) & flag::MORE_TO_COME != 0 {
                return None;
            }
            ReplyForm::Msg
        }
        opcode::QUERY => ReplyForm::Legacy,
        _ => return None,
    };
    Some(Asked {
        request_id: header.request_id,
        form,
        compressor,
        wants_reply: true,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use arc_swap::ArcSwap;
    use bson::{Document, doc};
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex, split};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::{Address, Limits};
    use crate::keyring::Keyring;
    use crate::proxy::routes::Routes;
    use crate::schema::Schema;
    use crate::wire::testing::{body, document, msg, query, reply, sequence};
    use crate::wire::{MAX_MESSAGE, finish, inflate};

    /// A session between two pipes.
    struct Both {
        client: DuplexStream,
        mongodb: DuplexStream,
        stop: watch::Sender<bool>,
        session: JoinHandle<Ended>,
    }

    fn stream(pipe: DuplexStream) -> Stream {
        let (read, write) = split(pipe);
        Stream {
            read: Box::new(read),
            write: Box::new(write),
            peer: "peer".to_owned(),
            local: "local".to_owned(),
        }
    }

    fn shared() -> Shared {
        let keyring = Keyring {
            generation: 0,
            keys: Vec::new(),
        };
        let policy = Policy::compile(Arc::new(Schema::default()), Arc::new(keyring)).unwrap();
        let member = (
            Address::Tcp("mongo1:27017".to_owned()),
            "proxy:1".to_owned(),
        );
        Shared {
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            routes: Routes::new([member]),
            cursors: super::super::cursors::Cursors::default(),
            limits: Limits {
                message_bytes: MAX_MESSAGE,
                handshake_timeout: Duration::from_millis(200),
                connections: 10,
            },
        }
    }

    fn both() -> Both {
        let (client, near) = duplex(1 << 20);
        // Small, so that a long request cannot be sent while MongoDB does not read.
        let (far, mongodb) = duplex(4096);
        let (stop, stopping) = watch::channel(false);
        let upstream = Upstream::over(stream(far));
        let session = Session::new(stream(near), upstream, Arc::new(shared()), 0, stopping);
        Both {
            client,
            mongodb,
            stop,
            session: tokio::spawn(session.run()),
        }
    }

    async fn read(pipe: &mut DuplexStream) -> Vec<u8> {
        let mut frame = vec![0; 4];
        pipe.read_exact(&mut frame).await.unwrap();
        let length = i32::from_le_bytes(*frame.first_chunk().unwrap());
        frame.resize(usize::try_from(length).unwrap(), 0);
        pipe.read_exact(&mut frame[4..]).await.unwrap();
        frame
    }

    async fn read_to_end(pipe: &mut DuplexStream) -> Vec<u8> {
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).await.unwrap();
        rest
    }

    /// `frame` with another request id and another message that it responds to.
    fn numbered(mut frame: Vec<u8>, request_id: i32, response_to: i32) -> Vec<u8> {
        frame[4..8].copy_from_slice(&request_id.to_le_bytes());
        frame[8..12].copy_from_slice(&response_to.to_le_bytes());
        finish(&mut frame).unwrap();
        frame
    }

    fn ping(request_id: i32) -> Vec<u8> {
        numbered(
            msg(0, &body(&doc! {"ping": 1, "$db": "admin"})),
            request_id,
            0,
        )
    }

    fn answer(flags: u32, request_id: i32, response_to: i32) -> Vec<u8> {
        let sections = body(&doc! {"n": request_id, "ok": 1.0});
        numbered(msg(flags, &sections), request_id, response_to)
    }

    fn insert(flags: u32, length: usize) -> Vec<u8> {
        let command = body(&doc! {"insert": "c", "$db": "d"});
        let documents = sequence("documents", &[doc! {"x": "y".repeat(length)}]);
        msg(flags, &[documents, command].concat())
    }

    fn content(frame: &[u8]) -> Document {
        let range = Reply::recognise(frame).unwrap().body();
        bson::deserialize_from_slice(&frame[range]).unwrap()
    }

    #[tokio::test]
    async fn what_concerns_no_sealed_field_passes_byte_for_byte_both_ways() {
        let mut both = both();
        for flags in [0, flag::CHECKSUM_PRESENT, 1 << 20] {
            let request = insert(flags, 10);
            both.client.write_all(&request).await.unwrap();
            assert_eq!(read(&mut both.mongodb).await, request);
            let reply = answer(flags, 1, 7);
            both.mongodb.write_all(&reply).await.unwrap();
            assert_eq!(read(&mut both.client).await, reply);
        }
    }

    #[tokio::test]
    async fn requests_that_come_early_are_answered_in_order() {
        let mut both = both();
        both.client
            .write_all(&[ping(1), ping(2), ping(3)].concat())
            .await
            .unwrap();
        for id in 1..=3 {
            assert_eq!(read(&mut both.mongodb).await, ping(id));
            both.mongodb
                .write_all(&answer(0, 100 + id, id))
                .await
                .unwrap();
            assert_eq!(read(&mut both.client).await, answer(0, 100 + id, id));
        }
    }

    #[tokio::test]
    async fn a_request_that_wants_no_reply_holds_up_nothing() {
        let mut both = both();
        both.client
            .write_all(&insert(flag::MORE_TO_COME, 10))
            .await
            .unwrap();
        both.client.write_all(&ping(2)).await.unwrap();
        assert_eq!(
            read(&mut both.mongodb).await,
            insert(flag::MORE_TO_COME, 10)
        );
        assert_eq!(read(&mut both.mongodb).await, ping(2));
    }

    #[tokio::test]
    async fn a_write_is_sent_whole_though_its_client_left_without_waiting() {
        let mut both = both();
        let request = insert(flag::MORE_TO_COME, 100_000);
        both.client.write_all(&request).await.unwrap();
        drop(both.client);
        assert_eq!(read(&mut both.mongodb).await, request);
        assert!(matches!(both.session.await.unwrap(), Ended::ClientClosed));
    }

    #[tokio::test]
    async fn a_client_that_leaves_takes_its_operation_with_it() {
        // While MongoDB works, and while it does not even take the request.
        for length in [10, 100_000] {
            let mut both = both();
            both.client.write_all(&insert(0, length)).await.unwrap();
            drop(both.client);
            assert!(matches!(both.session.await.unwrap(), Ended::ClientClosed));
            assert!(read_to_end(&mut both.mongodb).await.len() <= insert(0, length).len());
        }
    }

    #[tokio::test]
    async fn when_mongodb_leaves_the_clients_connection_is_closed() {
        for asked in [false, true] {
            let mut both = both();
            if asked {
                both.client.write_all(&ping(1)).await.unwrap();
                read(&mut both.mongodb).await;
            }
            drop(both.mongodb);
            assert!(read_to_end(&mut both.client).await.is_empty());
            assert!(matches!(both.session.await.unwrap(), Ended::UpstreamClosed));
        }
    }

    #[tokio::test]
    async fn a_malformed_message_is_answered_and_reaches_nobody() {
        let twice = body(&doc! {"ping": 1, "$db": "admin"}).repeat(2);
        let legacy = query("admin.$cmd", b"nothing like a document");
        for (request, answered) in [
            (msg(0, &twice), true),
            (legacy, true),
            (msg(flag::MORE_TO_COME, &twice), false),
        ] {
            let mut both = both();
            both.client.write_all(&request).await.unwrap();
            let mut rest = read_to_end(&mut both.client).await;
            if answered {
                assert_eq!(rest[8..12], 7_i32.to_le_bytes());
                let error = content(&rest);
                assert_eq!(error.get_i32("code").unwrap(), 22);
                assert_eq!(error.get_f64("ok").unwrap(), 0.0);
                rest.clear();
            }
            assert!(rest.is_empty());
            assert!(read_to_end(&mut both.mongodb).await.is_empty());
            assert!(both.session.await.unwrap().is_violation());
        }
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_close_the_connection() {
        let mut opcode = ping(1);
        opcode[12..16].copy_from_slice(&2006_i32.to_le_bytes());
        let mut bomb = Vec::new();
        Compressor::Zlib.compress(&ping(1), &mut bomb).unwrap();
        bomb[20..24].copy_from_slice(&i32::MAX.to_le_bytes());
        let half = ping(1)[..20].to_vec();
        for bytes in [vec![0xFF; 100], opcode, bomb, half, Vec::new()] {
            let mut both = both();
            both.client.write_all(&bytes).await.unwrap();
            assert!(read_to_end(&mut both.client).await.is_empty());
            assert!(read_to_end(&mut both.mongodb).await.is_empty());
            assert!(both.session.await.unwrap().is_violation());
        }
    }

    #[tokio::test]
    async fn a_compressed_request_goes_on_plain_and_its_reply_comes_back_compressed() {
        let mut both = both();
        for compressor in [
            Compressor::Snappy,
            Compressor::Zlib,
            Compressor::Zstd,
            Compressor::Noop,
        ] {
            let mut packed = Vec::new();
            compressor.compress(&insert(0, 1000), &mut packed).unwrap();
            both.client.write_all(&packed).await.unwrap();
            assert_eq!(read(&mut both.mongodb).await, insert(0, 1000));
            both.mongodb.write_all(&answer(0, 1, 7)).await.unwrap();
            let mut plain = Vec::new();
            let used = inflate(&read(&mut both.client).await, MAX_MESSAGE, &mut plain);
            assert_eq!((used, plain), (Ok(compressor), answer(0, 1, 7)));
        }
    }

    #[tokio::test]
    async fn a_stream_of_replies_is_handed_on_to_its_end() {
        let mut both = both();
        both.client.write_all(&ping(1)).await.unwrap();
        read(&mut both.mongodb).await;
        let more = flag::MORE_TO_COME;
        for reply in [answer(more, 11, 1), answer(more, 12, 11), answer(0, 13, 12)] {
            both.mongodb.write_all(&reply).await.unwrap();
            assert_eq!(read(&mut both.client).await, reply);
        }
        both.client.write_all(&ping(2)).await.unwrap();
        assert_eq!(read(&mut both.mongodb).await, ping(2));
    }

    #[tokio::test]
    async fn an_answer_to_something_else_never_reaches_the_client() {
        let legacy = numbered(reply(&doc! {"ok": 1.0}), 9, 1);
        for wrong in [answer(0, 11, 2), legacy, vec![0; 40]] {
            let mut both = both();
            both.client.write_all(&ping(1)).await.unwrap();
            read(&mut both.mongodb).await;
            both.mongodb.write_all(&wrong).await.unwrap();
            assert!(read_to_end(&mut both.client).await.is_empty());
        }
    }

    #[tokio::test]
    async fn compression_is_settled_with_the_proxy_in_every_form_of_hello() {
        let hello = doc! {"hello": 1, "compression": ["zlib", "lz4"], "$db": "admin"};
        let legacy = doc! {"isMaster": 1, "helloOk": true, "compression": ["zlib"]};
        let told = doc! {"me": "mongo1:27017", "ok": 1.0};
        let expected = doc! {"me": "proxy:1", "ok": 1.0, "compression": ["zlib"]};
        for (request, sent, reply) in [
            (
                msg(0, &body(&hello)),
                doc! {"hello": 1, "$db": "admin"},
                msg(0, &body(&told)),
            ),
            (
                query("admin.$cmd", &document(&legacy)),
                doc! {"isMaster": 1, "helloOk": true},
                reply(&told),
            ),
        ] {
            let mut both = both();
            both.client.write_all(&request).await.unwrap();
            let upstream = read(&mut both.mongodb).await;
            assert!(upstream.ends_with(&document(&sent)));
            both.mongodb
                .write_all(&numbered(reply, 9, 7))
                .await
                .unwrap();
            assert_eq!(content(&read(&mut both.client).await), expected);
        }
    }

    #[tokio::test]
    async fn stopping_ends_idle_sessions_and_lets_an_operation_finish() {
        let idle = both();
        idle.stop.send(true).unwrap();
        assert!(matches!(idle.session.await.unwrap(), Ended::Stopping));

        let mut busy = both();
        busy.client.write_all(&ping(1)).await.unwrap();
        read(&mut busy.mongodb).await;
        busy.stop.send(true).unwrap();
        busy.mongodb.write_all(&answer(0, 11, 1)).await.unwrap();
        assert_eq!(read(&mut busy.client).await, answer(0, 11, 1));
        assert!(matches!(busy.session.await.unwrap(), Ended::Stopping));
    }
}
