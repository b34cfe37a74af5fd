//! Replies: sealed values are opened, names are restored.

use crate::policy::Policy;
use crate::refusal::Refusal;

/// What a request's replies need, decided with the request.
#[derive(Debug, Clone)]
pub enum ReplyPlan {
    /// Sealed values are opened wherever they stand.
    Relay,
    /// A reply to `hello`: hosts go through the route table.
    Hello,
}

/// What became of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revealed {
    /// The frame as it came is what the client gets.
    Unchanged,
    /// The client gets what `out` holds.
    Rewritten,
}

/// Opens what is sealed in one uncompressed reply frame (`OP_MSG`), into `out`.
///
/// An error means that the client must not get this reply, but the error.
pub fn reveal(
    frame: &[u8],
    plan: &ReplyPlan,
    policy: &Policy,
    out: &mut Vec<u8>,
) -> Result<Revealed, Refusal> {
    let _ = (frame, plan, policy, out);
    Ok(Revealed::Unchanged)
}
