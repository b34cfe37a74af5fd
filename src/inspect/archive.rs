//! The archives that `mongodump --archive` writes, format 0.1.
//!
//! ```text
//! magic | header, description of each collection…, terminator | block…
//! block: {db, collection, EOF: false, CRC: 0}, document…, terminator
//!        {db, collection, EOF: true, CRC: sum of the collection's documents}, terminator
//! ```

use std::collections::HashMap;

use super::checksum::Checksum;
use super::stream::{Damage, Document, Documents};
use super::tally::{Namespace, Needs};
use crate::raw::Doc;

/// How an archive begins: 0x8199e26d.
pub(super) const MAGIC: [u8; 4] = 0x8199_E26D_u32.to_le_bytes();

const TERMINATOR: [u8; 4] = [0xFF; 4];

/// MongoDB's bound is 255 bytes for a namespace.
const LONGEST_NAME: usize = 1024;

/// More collections than any archive has.
const COLLECTIONS: usize = 1 << 20;

/// The collections of an archive, as far as it was read.
#[derive(Default)]
struct Collections(HashMap<String, Progress>);

enum Progress {
    /// Described; nothing of it was met.
    Awaited,
    Begun(Namespace, Checksum),
    Ended,
}

/// Of which collection a block is, and what it is to sum to if this is its end.
struct Heading {
    namespace: String,
    ended: Option<i64>,
}

/// Reads what follows the magic.
pub(super) fn read(
    documents: &mut Documents<'_>,
    needs: &mut Needs,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Damage> {
    let mut collections = prelude(documents)?;
    while let Some(document) = documents.document()? {
        let heading = heading(&document)?;
        match heading.ended {
            Some(sum) => {
                if documents.document_or(TERMINATOR)?.is_some() {
                    return Err(documents.damage("documents follow the end of their collection"));
                }
                collections.end(&heading.namespace, sum, documents)?;
            }
            None => collections.block(&heading.namespace, documents, needs, progress)?,
        }
    }
    match collections.unfinished() {
        Some(namespace) => Err(documents.damage(format_args!(
            "the archive is cut off: the end of {namespace:?} is missing"
        ))),
        None => Ok(()),
    }
}

/// The header and the descriptions of the collections.
fn prelude(documents: &mut Documents<'_>) -> Result<Collections, Damage> {
    let mut collections = Collections::default();
    let Some(header) = documents.document_or(TERMINATOR)? else {
        return Err(documents.damage("the header of the archive is missing"));
    };
    let version = text(header.doc, "version").unwrap_or_default();
    if version != "0.1" {
        let what = format!("an archive of the unknown format {:.20?}", version);
        return Err(documents.damage(what));
    }
    while let Some(document) = documents.document_or(TERMINATOR)? {
        let namespace = namespace(&document)?;
        // What it holds comes under the name of its buckets.
        if text(document.doc, "type").as_deref() != Some("timeseries") {
            collections.0.insert(namespace, Progress::Awaited);
        }
        if collections.0.len() > COLLECTIONS {
            return Err(documents.damage("too many collections"));
        }
    }
    Ok(collections)
}

fn text(doc: Doc<'_>, name: &str) -> Option<String> {
    let element = doc.find(name).ok()??;
    element.str().map(str::to_owned)
}

fn namespace(document: &Document<'_>) -> Result<String, Damage> {
    let database = text(document.doc, "db").unwrap_or_default();
    match text(document.doc, "collection") {
        Some(collection) if database.len() + collection.len() < LONGEST_NAME => {
            // The oplog is of no database.
            let dot = if database.is_empty() { "" } else { "." };
            Ok(format!("{database}{dot}{collection}"))
        }
        _ => Err(Damage {
            at: document.at.0,
            unpacked: document.at.1,
            what: "a document of the archive names no collection".to_owned(),
        }),
    }
}

fn heading(document: &Document<'_>) -> Result<Heading, Damage> {
    let within = |malformed| Damage::within(document.at, malformed);
    let find = |name| document.doc.find(name).map_err(within);
    let ended = match find("EOF")? {
        Some(element) if element.truthy() => {
            let sum = find("CRC")?.and_then(|element| element.integer());
            Some(sum.unwrap_or_default())
        }
        _ => None,
    };
    Ok(Heading {
        namespace: namespace(document)?,
        ended,
    })
}

impl Collections {
    /// The documents of one block.
    fn block(
        &mut self,
        namespace: &str,
        documents: &mut Documents<'_>,
        needs: &mut Needs,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Damage> {
        if self.0.len() > COLLECTIONS {
            return Err(documents.damage("too many collections"));
        }
        let state = self
            .0
            .entry(namespace.to_owned())
            .or_insert(Progress::Awaited);
        if matches!(state, Progress::Awaited) {
            *state = Progress::Begun(needs.namespace(namespace), Checksum::default());
        }
        let Progress::Begun(known, checksum) = state else {
            let what = format!("documents of {namespace:?} follow its end");
            return Err(documents.damage(what));
        };
        while let Some(document) = documents.document_or(TERMINATOR)? {
            let at = document.at;
            checksum.add(document.doc.bytes());
            needs
                .document(*known, document.doc)
                .map_err(|malformed| Damage::within(at, malformed))?;
            progress(needs.bytes, needs.documents);
        }
        Ok(())
    }

    fn end(&mut self, namespace: &str, sum: i64, documents: &Documents<'_>) -> Result<(), Damage> {
        let found = match self.0.get(namespace) {
            Some(Progress::Begun(_, checksum)) => *checksum,
            None | Some(Progress::Awaited) => Checksum::default(),
            Some(Progress::Ended) => {
                return Err(documents.damage(format_args!("{namespace:?} ends twice")));
            }
        };
        if found.sum() != sum {
            return Err(documents.damage(format_args!(
                "the checksum of {namespace:?} is wrong: some of its documents were changed or are missing"
            )));
        }
        self.0.insert(namespace.to_owned(), Progress::Ended);
        Ok(())
    }

    /// A collection that did not end, the first by name.
    fn unfinished(&self) -> Option<&str> {
        let unfinished = self
            .0
            .iter()
            .filter(|(_, progress)| !matches!(progress, Progress::Ended));
        unfinished.map(|(namespace, _)| namespace.as_str()).min()
    }
}
