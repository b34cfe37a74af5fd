//! What the proxy answers by itself.

use super::{Asked, Buffers, Session};
use crate::observe::command::Phase;
use crate::proxy::link::Ended;
use crate::refusal::{Refusal, RefusalKind};
use crate::wire::{self, Compressor, Header, ReplyForm, WireError, flag, opcode};

impl Session {
    /// Answers a login by certificate as MongoDB does.
    pub(super) async fn certified(&mut self, asked: Asked, subject: &str) -> Result<(), Ended> {
        self.replies = self.replies.wrapping_add(1);
        let (number, to) = (self.replies, asked.request_id);
        let Buffers { built, other, .. } = &mut self.buffers;
        wire::short_reply(asked.form, number, to, built, |writer| {
            writer.string("dbname", "$external");
            writer.string("user", subject);
            writer.double("ok", 1.0);
        });
        self.journal.answered(built);
        self.journal.lap(Phase::Policy);
        self.link.answer(built, asked.compressor, other).await?;
        self.journal.replied(built.len());
        Ok(())
    }

    /// Answers a request with an error, if it wants an answer.
    pub(super) async fn refuse(&mut self, asked: Asked, refusal: &Refusal) -> Result<(), Ended> {
        let (principal, wants_reply) = (&self.principal, asked.wants_reply);
        self.journal.refused(principal, refusal, wants_reply).await;
        if !asked.wants_reply {
            self.journal.lap(Phase::Policy);
            return Ok(());
        }
        self.replies = self.replies.wrapping_add(1);
        let Buffers { built, other, .. } = &mut self.buffers;
        wire::error_reply(asked.form, self.replies, asked.request_id, refusal, built);
        self.journal.lap(Phase::Policy);
        self.link.answer(built, asked.compressor, other).await?;
        self.journal.replied(built.len());
        Ok(())
    }

    /// Says why the connection is one too many, and ends the session.
    pub(super) async fn dismiss(&mut self, asked: Asked, refusal: &Refusal) -> Result<(), Ended> {
        self.refuse(asked, refusal).await?;
        self.link.farewell().await?;
        Err(Ended::Surplus)
    }

    /// Says what is wrong with a message, where that can be said, and ends the session.
    pub(super) async fn part(
        &mut self,
        asked: Option<Asked>,
        error: WireError,
    ) -> Result<(), Ended> {
        if let Some(asked) = asked {
            let refusal = Refusal::new(RefusalKind::Malformed, error);
            self.refuse(asked, &refusal).await?;
            self.link.farewell().await?;
        }
        Err(Ended::Client(error.into()))
    }
}

/// How to answer a frame that was not recognised; none if it may not want an answer.
pub(super) fn malformed(frame: &[u8], compressor: Option<Compressor>) -> Option<Asked> {
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
