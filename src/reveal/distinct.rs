//! The reply to `distinct`, made of that of the aggregation which answered it.

use super::broken;
use super::open::Opener;
use crate::policy::Collection;
use crate::raw::{Doc, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::rewrite::DISTINCT_VALUES;

/// Puts `values` in the place of the cursor.
pub(super) fn turn_back(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    body: Doc<'_>,
    collection: &Collection,
) -> Result<(), Refusal> {
    let Some(cursor) = body.find("cursor").map_err(broken)? else {
        // An error, which names no value.
        return Ok(());
    };
    let mark = splicer.mark();
    let batch = cursor.doc().and_then(|cursor| cursor.find("firstBatch"));
    let first = match batch.map_err(broken)? {
        Some(batch) => batch.doc().and_then(|batch| batch.first()),
        None => Ok(None),
    };
    let values = match first.map_err(broken)? {
        Some(first) => first.doc().and_then(|first| first.find(DISTINCT_VALUES)),
        None => Ok(None),
    };
    match values.map_err(broken)? {
        // No document has the field.
        None => splicer.replace(cursor.start, cursor.end, |out| {
            let mut writer = Writer::new(out);
            let open = writer.begin_array(DISTINCT_VALUES);
            writer.end(open);
        }),
        Some(values) if values.kind == kind::ARRAY => {
            splicer.replace(cursor.start, values.start, |_| ());
            opener.named(splicer, &values, collection)?;
            splicer.replace(values.end, cursor.end, |_| ());
        }
        Some(_) => return Err(broken(crate::raw::Malformed("values are no array"))),
    }
    splicer.mend_length(body.start(), mark).map_err(broken)
}
