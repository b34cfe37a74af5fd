//! Learning from MongoDB which views reach sealed collections, over a client's own connection.

use super::link::{Ended, Link};
use crate::policy::{Policy, Views};
use crate::rewrite::views::{self, Answer, Asking};

/// The request id of the question. All that the client asked before on this
/// connection is answered by then.
const REQUEST_ID: i32 = i32::MIN;

/// Asks for the views of `database`, with the rights of the client whose connection this is.
///
/// `own` takes what only this client was told; `wants_reply` is what its message
/// says. Returns what was told. A client that may not ask at all is not authenticated, and MongoDB will
/// tell it so.
pub(super) async fn list(
    link: &mut Link,
    policy: &Policy,
    own: &Views,
    database: &str,
    wants_reply: bool,
    question: &mut Vec<u8>,
    reply: &mut Vec<u8>,
) -> Result<Option<Asking>, Ended> {
    for asking in [Asking::Definitions, Asking::Names] {
        let cleared =
            views::question(database, asking, REQUEST_ID, question).ok_or(Ended::Answer)?;
        let asked = match asking {
            Asking::Definitions => policy.views().ask(),
            Asking::Names => own.ask(),
        };
        link.send(&cleared, wants_reply).await?;
        if link.reply(reply, wants_reply).await?.response_to != REQUEST_ID {
            return Err(Ended::Answer);
        }
        match views::learn(policy, own, database, asking, asked, reply) {
            Ok(Answer::Listed) => return Ok(Some(asking)),
            Ok(Answer::NotAllowed) => {}
            Ok(Answer::Failed(code)) => return Err(Ended::Views(code)),
            Err(_) => return Err(Ended::Answer),
        }
    }
    Ok(None)
}
