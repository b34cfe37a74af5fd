//! Learning from MongoDB which indexes a sealed collection has, over a client's own connection.

use super::link::{Ended, Link};
use crate::policy::Policy;
use crate::rewrite::indexes;

/// The request id of the question. All that the client asked before on this
/// connection is answered by then.
const REQUEST_ID: i32 = i32::MIN;

/// Asks for the indexes of a collection, with the rights of the client whose connection this is.
pub(super) async fn list(
    link: &mut Link,
    policy: &Policy,
    namespace: &str,
    wants_reply: bool,
    question: &mut Vec<u8>,
    reply: &mut Vec<u8>,
) -> Result<(), Ended> {
    let cleared = indexes::question(namespace, REQUEST_ID, question).ok_or(Ended::Answer)?;
    link.send(&cleared, wants_reply).await?;
    if link.reply(reply, wants_reply).await?.response_to != REQUEST_ID {
        return Err(Ended::Answer);
    }
    indexes::learn(policy, namespace, reply).map_err(|_| Ended::Answer)
}
