//! MongoDB's replies to a request, on their way to its client.

use std::sync::Arc;

use super::{Asked, Buffers, OWN_REQUEST, Session, Treatment};
use crate::code::Code;
use crate::observe::command::Phase;
use crate::policy::Policy;
use crate::proxy::hello::Rewriting;
use crate::proxy::life::Stage;
use crate::proxy::link::Ended;
use crate::proxy::login::Change;
use crate::proxy::pool;
use crate::proxy::workers::LONG;
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::{self, Reads, ReplyPlan, Revealed};
use crate::rewrite;
use crate::wire::{Reply, ReplyForm, WireError};

impl Session {
    /// Takes for old what the request has changed.
    pub(super) fn outdate(&self, treatment: &Treatment) {
        if let (Some(database), Some(policy)) = (&treatment.outdates, &treatment.policy) {
            policy.outdate_views(database.as_deref());
            self.views.outdate(database.as_deref());
        }
    }

    /// The replies to what was sent: one, or a stream of them.
    pub(super) async fn replies(
        &mut self,
        asked: Asked,
        treatment: &Treatment,
    ) -> Result<(), Ended> {
        let mut expected = asked.request_id;
        let mut streaming = false;
        // A `hello` may wait for long until something changes, and nothing is lost with it.
        let hello = matches!(treatment.plan, ReplyPlan::Hello);
        // What it becomes when it is opened, and that compressed.
        let opened = (treatment.policy.as_ref()).is_some_and(|policy| !policy.is_empty());
        let copies = usize::from(opened) + usize::from(asked.compressor.is_some());
        let address = self.principal.address;
        loop {
            let gate = self.guest.gate();
            let last = if hello {
                Stage::Draining
            } else {
                Stage::Ending
            };
            tokio::select! {
                biased;
                room = self.link.room(gate, address, copies) => self.held = room?,
                () = self.life.until(last) => {
                    let asked = Asked { request_id: expected, ..asked };
                    return self.interrupt(asked, hello, treatment.labels).await;
                }
            }
            if streaming || hello {
                self.journal.waited();
            }
            // A reply that has begun is passed on whole.
            let header = self.link.reply(&mut self.buffers.reply, true).await?;
            self.journal.arrived();
            // Each reply of a stream answers the one before it.
            if header.response_to != expected {
                return Err(Ended::Answer);
            }
            expected = header.request_id;
            // Before the client knows, who may use the view by another connection then.
            self.outdate(treatment);
            let more = self.deliver(asked, treatment, streaming).await?;
            if !more {
                return Ok(());
            }
            self.journal.done(&self.principal, true);
            self.give_back();
            streaming = true;
        }
    }

    /// Ends a stream that began under another policy, if not every field is open to its
    /// reader now: it may go on for ever, and who may read was changed.
    fn still_reads(&self, began: &Policy) -> Result<(), Ended> {
        if self.shared.policy.load().serial() == began.serial()
            || !self.shared.policy_for(&self.principal).masks_unknown()
        {
            return Ok(());
        }
        Err(Ended::Stream(
            Refusal::new(
                RefusalKind::Unauthorized,
                "other roles are in force since it began",
            )
            .coded(Code::RolesChanged),
        ))
    }

    /// Hands on the reply that is in its buffer. Gives whether another one follows.
    async fn deliver(
        &mut self,
        asked: Asked,
        treatment: &Treatment,
        streaming: bool,
    ) -> Result<bool, Ended> {
        let policy = treatment.policy.clone();
        if let Some(policy) = policy.as_ref().filter(|_| streaming) {
            self.still_reads(policy)?;
        }
        let policy = policy.unwrap_or_else(|| self.policy());
        let Buffers {
            reply: frame,
            built,
            ..
        } = &mut self.buffers;
        let upstream = |error: WireError| Ended::Upstream(error.into());
        let mut reads = Reads::default();
        let reply = Reply::recognise(frame).map_err(upstream)?;
        let more = reply.more_to_come();
        let cursor = reveal::first_cursor(&reply);
        self.unfinished.note(cursor);
        match (self.login.learn(&treatment.login, &reply)).map_err(upstream)? {
            Some(Change::LoggedIn(user)) => (self.principal.user, self.policy) = (user, None),
            Some(Change::LoggedOut) => (self.principal.user, self.policy) = (None, None),
            None => {}
        }
        if let Some(news) = self.login.news() {
            self.journal.login(&self.principal, &news).await?;
        }
        let revealed = match (&treatment.plan, &reply) {
            (ReplyPlan::Hello, _) => {
                let rewriting = Rewriting {
                    routes: &self.shared.routes,
                    route: self.route,
                    compressors: &treatment.compressors,
                    message_bytes: self.limits.message_bytes,
                    sealing: !policy.is_empty(),
                };
                rewriting.apply(&reply, built).map_err(upstream)?;
                Revealed::Rewritten
            }
            (ReplyPlan::Pass, Reply::Legacy(_)) if asked.form == ReplyForm::Legacy => {
                Revealed::Unchanged
            }
            (_, Reply::Legacy(_)) => return Err(Ended::Answer),
            (plan, Reply::Msg(_)) => match self.reveal(plan, &policy, &mut reads).await? {
                Ok(revealed) => revealed,
                Err(refusal) if more || streaming => return Err(Ended::Stream(refusal)),
                Err(refusal) => {
                    return self
                        .withhold(asked, treatment, &policy, &refusal)
                        .await
                        .map(|()| false);
                }
            },
        };
        self.journal.answered(&self.buffers.reply);
        let written = self
            .journal
            .reads(&self.principal, &policy, &treatment.plan, &reads)
            .await;
        if let Err(refusal) = written {
            if more || streaming {
                return Err(Ended::Stream(refusal));
            }
            return self
                .withhold(asked, treatment, &policy, &refusal)
                .await
                .map(|()| false);
        }
        let cursors = &self.shared.cursors;
        cursors.note(
            self.route,
            &treatment.plan,
            &policy,
            treatment.cursor,
            || cursor.or_else(|| reveal::cursor(&self.buffers.reply)),
        );
        if treatment.closes {
            let closed = reveal::closed_cursors(&self.buffers.reply);
            cursors.closed(self.route, closed, &policy);
        }
        let Buffers {
            reply,
            built,
            other,
            ..
        } = &mut self.buffers;
        let bytes = match revealed {
            Revealed::Unchanged => reply,
            Revealed::Rewritten => built,
        };
        let length = bytes.len();
        match asked.compressor.filter(|_| length >= LONG) {
            Some(compressor) => {
                let (frame, mut packed) = (std::mem::take(bytes), std::mem::take(other));
                let packing = async move {
                    let packed_up = compressor.compress(&frame, &mut packed);
                    packed_up.map(|()| packed)
                };
                let packed = (self.aside.run(packing).await).ok_or(Ended::Stopping)?;
                *other = packed.map_err(upstream)?;
                self.journal.lap(Phase::Open);
                self.link.answer(other, None, &mut Vec::new()).await?;
            }
            None => {
                self.journal.lap(Phase::Open);
                self.link.answer(bytes, asked.compressor, other).await?;
            }
        }
        self.journal.replied(length);
        Ok(more)
    }

    /// Answers the request with an error instead of the reply that is in its buffer.
    async fn withhold(
        &mut self,
        asked: Asked,
        treatment: &Treatment,
        policy: &Policy,
        refusal: &Refusal,
    ) -> Result<(), Ended> {
        self.journal.lap(Phase::Open);
        self.close_cursor().await?;
        let cursors = &self.shared.cursors;
        cursors.closed(self.route, treatment.cursor, policy);
        self.journal.lap(Phase::Upstream);
        self.refuse(asked, refusal).await
    }

    /// Opens what is sealed in the reply that is in its buffer.
    async fn reveal(
        &mut self,
        plan: &ReplyPlan,
        policy: &Arc<Policy>,
        reads: &mut Reads,
    ) -> Result<Result<Revealed, Refusal>, Ended> {
        let Buffers { reply, built, .. } = &mut self.buffers;
        if reply.len() < LONG || matches!(plan, ReplyPlan::Pass) {
            let principal = &self.principal;
            let shared = &self.shared;
            if !matches!(
                plan,
                ReplyPlan::Pass | ReplyPlan::Relay | ReplyPlan::Outcome { .. }
            ) {
                pool::lend(built);
            }
            return Ok(shared.reveal(principal, reply, plan, policy, reads, built));
        }
        let (frame, mut out) = (std::mem::take(reply), std::mem::take(built));
        let (shared, principal) = (Arc::clone(&self.shared), self.principal.clone());
        let (plan, policy) = (plan.clone(), Arc::clone(policy));
        let opening = async move {
            let mut reads = Reads::default();
            let revealed = shared.reveal(&principal, &frame, &plan, &policy, &mut reads, &mut out);
            (frame, out, reads, revealed)
        };
        let opened = self.aside.run(opening).await.ok_or(Ended::Stopping)?;
        let revealed;
        (*reply, *built, *reads, revealed) = opened;
        Ok(revealed)
    }

    /// Closes the cursor of the reply that is in its buffer, which its client never hears of.
    async fn close_cursor(&mut self) -> Result<(), Ended> {
        let Buffers {
            reply,
            built,
            other,
            ..
        } = &mut self.buffers;
        let Some(cleared) = rewrite::kill::request(reply, OWN_REQUEST, built) else {
            return Ok(());
        };
        self.link.send(&cleared, true).await?;
        // If it is not closed, it times out.
        if self.link.reply(other, true).await?.response_to != OWN_REQUEST {
            return Err(Ended::Answer);
        }
        Ok(())
    }
}
