//! Index lists: `ssn.e1` in a key is the user's `ssn`.

use crate::policy::Collection;
use crate::raw::{Doc, Malformed, Splicer, Writer, kind};
use crate::schema::{Step, Tree};

/// Gives the keys of a `listIndexes` reply the names that the user gave.
pub(super) fn restore(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    collection: &Collection,
) -> Result<(), Malformed> {
    let mark = splicer.mark();
    if let Some(cursor) = body.find("cursor")? {
        let cursor = cursor.doc()?;
        let mark = splicer.mark();
        for part in cursor.elements() {
            let part = part?;
            if part.kind != kind::ARRAY {
                continue;
            }
            let batch = part.doc()?;
            let mark = splicer.mark();
            for index in batch.elements() {
                index_names(splicer, index?.doc()?, collection)?;
            }
            splicer.mend_length(batch.start(), mark)?;
        }
        splicer.mend_length(cursor.start(), mark)?;
    }
    splicer.mend_length(body.start(), mark)
}

fn index_names(
    splicer: &mut Splicer<'_, '_>,
    index: Doc<'_>,
    collection: &Collection,
) -> Result<(), Malformed> {
    let mark = splicer.mark();
    for part in index.elements() {
        let part = part?;
        if part.key != "key" || part.kind != kind::DOCUMENT {
            continue;
        }
        let keys = part.doc()?;
        let mark = splicer.mark();
        for key in keys.elements() {
            let key = key?;
            if let Some(path) = field_path(key.key, collection) {
                splicer.replace(key.start, key.end, |out| {
                    let mut writer = Writer::new(out);
                    writer.value(key.kind, path, key.value());
                });
            }
        }
        splicer.mend_length(keys.start(), mark)?;
    }
    splicer.mend_length(index.start(), mark)
}

/// The user's path, if `name` is the path of a sealed field's tokens.
fn field_path<'n>(name: &'n str, collection: &Collection) -> Option<&'n str> {
    let mut at = Tree::ROOT;
    for component in name.rsplit_once('.')?.0.split('.') {
        match collection.tree.step(at, component) {
            Step::Inner(next) => at = next,
            Step::Sealed(leaf) => {
                let equality = collection.field(leaf).equality.as_ref()?;
                return name.strip_suffix(equality.suffix.as_str());
            }
            Step::Open | Step::Ambiguous | Step::Mixed => return None,
        }
    }
    None
}
