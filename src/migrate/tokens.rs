//! The tokens beside one sealed value: those that it lacks are made, and old ones go.

use super::job::{Job, Verdict};
use super::walk::{Sealed, Site, Value};
use crate::keyring::State;
use crate::policy::Equality;
use crate::raw::{Malformed, Writer};
use crate::schema::Types;
use crate::seal::{SUBTYPE, Token, token_epoch};

/// A token under its name.
type Named<'t> = (&'t str, Token);

impl Job<'_> {
    /// Gives a value the tokens that it lacks of the active epoch and of the staged one.
    pub(super) fn fill(
        &self,
        site: &Site<'_, '_>,
        value: &Value<'_>,
        sealed: &Sealed<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Malformed> {
        let Some(equality) = &site.field.equality else {
            return Ok(Verdict::Right);
        };
        let lacking: Vec<_> = equality
            .written()
            .iter()
            .filter(|tokens| tokens.state != State::Retired)
            .filter(|tokens| sealed.tokens().all(|name| name != tokens.name))
            .collect();
        if lacking.is_empty() {
            return Ok(Verdict::Right);
        }
        let mut plain = Vec::new();
        if let Some(left) = self.open(site.field, sealed, &mut plain) {
            return Ok(left);
        }
        let Some((&kind, bytes)) = plain.split_first() else {
            return Ok(Verdict::Left("holds nothing".to_owned()));
        };
        let mut made = Vec::new();
        for tokens in lacking {
            let Some(token) = tokens.token(kind, bytes) else {
                let alias = Types::alias_of(kind);
                return Ok(Verdict::Left(format!("is {alias}, which has no token")));
            };
            made.push((tokens.name.as_str(), token));
        }
        write(value, sealed, &made, &[], out)?;
        Ok(Verdict::Changed)
    }
}

/// Takes the tokens of disabled and destroyed epochs away from a value.
pub(super) fn clear(
    site: &Site<'_, '_>,
    value: &Value<'_>,
    sealed: &Sealed<'_>,
    out: &mut Vec<u8>,
) -> Result<Verdict, Malformed> {
    let Some(equality) = &site.field.equality else {
        return Ok(Verdict::Right);
    };
    let old = sealed.tokens().any(|name| is_dropped(equality, name));
    if !old {
        return Ok(Verdict::Right);
    }
    if sealed.tokens().all(|name| name != equality.name) {
        let why = "has no token of the active index epoch, and keeps those of old ones";
        return Ok(Verdict::Left(why.to_owned()));
    }
    write(value, sealed, &[], equality.dropped(), out)?;
    Ok(Verdict::Changed)
}

fn is_dropped(equality: &Equality, name: &str) -> bool {
    token_epoch(name).is_some_and(|epoch| equality.dropped().contains(&epoch))
}

/// Appends the value with its tokens, without those of the epochs in `dropped` and with
/// those in `made`, in the order of their epochs.
fn write(
    value: &Value<'_>,
    sealed: &Sealed<'_>,
    made: &[Named<'_>],
    dropped: &[u32],
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut tokens: Vec<(u32, Vec<u8>)> = Vec::new();
    // What is no token of an epoch stands behind them.
    let place = |name: &str| token_epoch(name).unwrap_or(u32::MAX);
    for element in sealed.document.into_iter().flat_map(|doc| doc.elements()) {
        let element = element?;
        if element.key != "c" && !dropped.contains(&place(element.key)) {
            tokens.push((place(element.key), element.bytes().to_vec()));
        }
    }
    for (name, token) in made {
        let mut element = Vec::new();
        Writer::new(&mut element).binary(name, 0, token);
        tokens.push((place(name), element));
    }
    tokens.sort_by_key(|(epoch, _)| *epoch);
    let mut writer = Writer::new(out);
    let open = writer.begin_doc(value.element.key);
    writer.binary("c", SUBTYPE, sealed.payload);
    for (_, token) in &tokens {
        writer.buffer().extend_from_slice(token);
    }
    writer.end(open);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Bson, Document, doc};

    use super::super::job::Work;
    use super::super::plan::tests::{applied, everywhere, plan};
    use super::super::tally::Tally;
    use super::*;
    use crate::keyring::State::{Active, Destroyed, Disabled, Retired, Staged};
    use crate::policy::{Policy, fixture};

    fn under(states: &[State]) -> Policy {
        fixture::policy_with(fixture::keyring_with_epochs(states))
    }

    /// What a job under these epochs makes of a document.
    fn done(states: &[State], work: Work, document: &Document) -> (Document, Tally) {
        let bytes = bson::serialize_to_vec(document).unwrap();
        let (statement, tally) = plan(&under(states), work, &[], &bytes);
        (applied(document, &statement), tally)
    }

    /// A document as proxies with these epochs store it.
    fn stored(states: &[State]) -> Document {
        done(states, Work::Encrypt, &everywhere()).0
    }

    /// The same without what is sealed, which is other bytes each time.
    fn tokens(value: &Bson) -> Bson {
        match value {
            Bson::Document(document) => {
                let fields = document.iter().filter(|(name, _)| *name != "c");
                let fields = fields.map(|(name, value)| (name.clone(), tokens(value)));
                Bson::Document(fields.collect())
            }
            Bson::Array(items) => items.iter().map(tokens).collect(),
            Bson::Binary(binary) if binary.bytes.len() > 16 => Bson::Null,
            other => other.clone(),
        }
    }

    #[track_caller]
    fn assert_alike(one: Document, other: Document) {
        assert_eq!(tokens(&one.into()), tokens(&other.into()));
    }

    #[test]
    fn a_value_gets_the_tokens_that_a_proxy_would_write_and_keeps_its_sealed_value() {
        for (before, after) in [
            (&[Active][..], &[Active, Staged][..]),
            (&[Active, Staged], &[Active, Staged]),
            (&[Destroyed, Active], &[Staged, Active]),
        ] {
            let old = stored(before);
            let (new, tally) = done(after, Work::Fill, &old);
            assert_eq!(tally.left(), 0, "{tally:?}");
            assert_alike(new.clone(), stored(after));
            let sealed = |document: &Document| {
                let ssn = document.get_document("ssn").unwrap();
                ssn.get("c").unwrap().clone()
            };
            assert_eq!(sealed(&new), sealed(&old));
            let (again, tally) = done(after, Work::Fill, &new);
            assert_eq!((again, tally.changed), (new, 0));
        }
    }

    #[test]
    fn what_is_promoted_too_early_is_filled_and_a_retired_epoch_is_left_as_it_is() {
        let (new, _) = done(&[Retired, Active], Work::Fill, &stored(&[Active]));
        assert_alike(new, stored(&[Retired, Active]));
        let alone = stored(&[Destroyed, Active]);
        let (same, tally) = done(&[Retired, Active], Work::Fill, &alone);
        assert_eq!((same, tally.changed), (alone, 0));
    }

    #[test]
    fn tokens_of_epochs_that_are_gone_are_taken_away_and_no_others() {
        let all = stored(&[Retired, Active, Staged]);
        let (new, tally) = done(&[Disabled, Active, Staged], Work::Clear, &all);
        assert_eq!(tally.left(), 0);
        assert_alike(new, stored(&[Destroyed, Active, Staged]));
        for states in [&[Retired, Active, Staged][..], &[Retired, Active]] {
            let (same, tally) = done(states, Work::Clear, &all);
            assert_eq!((&same, tally.changed), (&all, 0), "{states:?}");
        }
        // Without a token to be found by, it keeps what it has.
        let old = stored(&[Active]);
        let (same, tally) = done(&[Disabled, Active], Work::Clear, &old);
        assert_eq!((same, tally.changed), (old, 0));
        assert!(tally.left() > 0);
    }

    #[test]
    fn a_value_that_was_sealed_without_tokens_gets_them_if_it_can() {
        let sealed = stored(&[Active]);
        let bare = |path: &str| {
            let value = sealed.get_document(path).unwrap();
            value.get("c").unwrap().clone()
        };
        let mut document = doc! {"_id": 1, "ssn": bare("ssn"), "age": bare("age")};
        let (new, tally) = done(&[Active], Work::Fill, &document);
        assert_eq!(tally.left(), 0, "{tally:?}");
        for path in ["ssn", "age"] {
            assert_eq!(new.get(path), sealed.get(path), "{path}");
        }
        document.insert("tags", bare("ssn"));
        let (_, tally) = done(&[Active], Work::Fill, &document);
        let why: Vec<_> = tally.left.keys().map(|reason| reason.why.clone()).collect();
        assert!(why[0].contains("moved there"), "{why:?}");
    }
}
