//! Requests: what a command may do to sealed fields, and its form upstream.

pub(crate) mod hello;

use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::reveal::ReplyPlan;
use crate::wire::Message;

/// A request that may reach MongoDB: nothing sealed is in it in plain.
///
/// Made only here, by the decision; the upstream writer takes nothing else.
#[derive(Debug)]
pub struct Cleared<'a>(&'a [u8]);

impl Cleared<'_> {
    /// The whole frame.
    pub fn bytes(&self) -> &[u8] {
        self.0
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision<'a> {
    /// It goes to MongoDB, and its replies are treated as planned.
    Forward {
        /// The frame to send.
        cleared: Cleared<'a>,
        /// What to do with each reply.
        plan: ReplyPlan,
    },
    /// It is answered here with an error.
    Refuse(Refusal),
}

/// Decides on one request. A rewritten frame is built in `scratch`.
///
/// The frame is never compressed, and carries a valid checksum if it has one.
pub fn decide<'a>(message: &Message<'a>, policy: &Policy, scratch: &'a mut Vec<u8>) -> Decision<'a> {
    let _ = policy;
    let (body, plan) = match message {
        Message::Msg(message) => {
            let name = hello::unwrapped(message.frame, message.body.clone())
                .and_then(|command| command.first())
                .ok()
                .flatten();
            let is_hello = name.is_some_and(|element| hello::is_hello(element.key));
            (
                message.body.clone(),
                if is_hello { ReplyPlan::Hello } else { ReplyPlan::Relay },
            )
        }
        Message::Query(query) => (query.query.clone(), ReplyPlan::Hello),
    };
    let frame = message.frame();
    let stripped = matches!(plan, ReplyPlan::Hello)
        && hello::strip_compression(frame, body, scratch).unwrap_or(false);
    Decision::Forward {
        cleared: Cleared(if stripped { scratch } else { frame }),
        plan,
    }
}
