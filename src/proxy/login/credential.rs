//! The proxy's own login at MongoDB, over the connection of the client that it is for.

use std::fmt;
use std::sync::Arc;

use super::super::link::{Ended, Link};
use crate::access::Credential;
use crate::access::scram::{Begun, ScramError};
use crate::rewrite::credential::{Answer, answer, proceed, start};

/// The request id of the proxy's own requests. All that the client asked before on this
/// connection is answered by then.
const REQUEST_ID: i32 = i32::MIN;

/// Why there is no login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Failure {
    /// MongoDB refused it, with this code.
    Refused(i64),
    /// MongoDB did not keep to SCRAM, or could not prove who it is.
    Scram(ScramError),
    /// There is no randomness.
    Random,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(
                f,
                "MongoDB refused it (code {code}): look at the user's name and database, at the file \
                 with its password, and whether it has SCRAM-SHA-256"
            ),
            Self::Scram(error) => write!(f, "MongoDB: {error}"),
            Self::Random => f.write_str("the system gives no random numbers"),
        }
    }
}

impl From<ScramError> for Failure {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}

/// Logs in. What ends the connection is an error; what MongoDB does not take, a failure.
pub(super) async fn log_in(
    credential: &Arc<Credential>,
    link: &mut Link,
    question: &mut Vec<u8>,
    reply: &mut Vec<u8>,
) -> Result<Result<(), Failure>, Ended> {
    let mut nonce = [0; 24];
    if getrandom::fill(&mut nonce).is_err() {
        return Ok(Err(Failure::Random));
    }
    let database = credential.database();
    let (begun, payload) = Begun::new(credential.user(), &nonce);
    let cleared = start(database, &payload, REQUEST_ID, question).ok_or(Ended::Answer)?;
    link.send(&cleared, true).await?;
    let (conversation, payload) = match ask(link, reply).await? {
        Answer::Step {
            conversation,
            payload,
            done: false,
        } => (conversation, payload),
        Answer::Step { .. } => return Ok(Err(ScramError::Signature.into())),
        Answer::Failed(code) => return Ok(Err(Failure::Refused(code))),
    };
    let challenge = match begun.challenged(payload) {
        Ok(challenge) => challenge,
        Err(error) => return Ok(Err(error.into())),
    };
    let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
    let salting = Arc::clone(credential);
    let salted = tokio::task::spawn_blocking(move || salting.salted(&salt, iterations));
    // It fails only if the proxy is ending.
    let salted = salted.await.map_err(|_| Ended::Stopping)?;
    let (proven, payload) = challenge.prove(&salted);
    let cleared =
        proceed(database, conversation, &payload, REQUEST_ID, question).ok_or(Ended::Answer)?;
    link.send(&cleared, true).await?;
    let (payload, done) = match ask(link, reply).await? {
        Answer::Step { payload, done, .. } => (payload, done),
        Answer::Failed(code) => return Ok(Err(Failure::Refused(code))),
    };
    if let Err(error) = proven.confirmed(payload) {
        return Ok(Err(error.into()));
    }
    if done {
        return Ok(Ok(()));
    }
    // A server that does not know `skipEmptyExchange`.
    let cleared = proceed(database, conversation, "", REQUEST_ID, question).ok_or(Ended::Answer)?;
    link.send(&cleared, true).await?;
    Ok(match ask(link, reply).await? {
        Answer::Step { done: true, .. } => Ok(()),
        Answer::Step { .. } => Err(ScramError::Malformed.into()),
        Answer::Failed(code) => Err(Failure::Refused(code)),
    })
}

async fn ask<'r>(link: &mut Link, reply: &'r mut Vec<u8>) -> Result<Answer<'r>, Ended> {
    if link.reply(reply, true).await?.response_to != REQUEST_ID {
        return Err(Ended::Answer);
    }
    answer(reply).map_err(|error| Ended::Upstream(error.into()))
}
