//! What dumps need to be read: files of BSON, folders and archives of `mongodump`.
//!
//! Only the headers of sealed values are looked at. No key is used, and one document at a
//! time is held in memory.

mod archive;
mod checksum;
mod folder;
mod stream;
mod tally;

use std::io::Read;
use std::path::Path;

pub use stream::Damage;
pub use tally::{Need, Needs, Place};

/// Why a dump was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The system does not give it.
    #[error("{name}: cannot be read: {source}")]
    Read {
        /// The file or folder.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It does not hold together.
    #[error("{name}: {damage}")]
    Damaged {
        /// The file.
        name: String,
        /// Where, and how.
        damage: Damage,
    },
    /// A folder without what is looked for.
    #[error(
        "{0}: holds no .bson or .bson.gz file; name a folder that `mongodump` made, a file, or `-` for standard input"
    )]
    NoFiles(String),
}

impl InspectError {
    /// What the documentation calls it.
    pub fn code(&self) -> crate::code::Code {
        use crate::code::Code;

        match self {
            Self::Read { .. } | Self::NoFiles(_) => Code::Dump,
            Self::Damaged { .. } => Code::DumpDamaged,
        }
    }
}

/// Reads a file, or a folder of them, and adds what it needs to `needs`.
///
/// `progress` is told now and then how many bytes, unpacked, and documents were read.
pub fn path(
    path: &Path,
    needs: &mut Needs,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), InspectError> {
    if !path.is_dir() {
        return file(path, &folder::namespace_of(path, false), needs, progress);
    }
    for found in folder::files(path)? {
        let namespace = folder::namespace_of(&found.path, found.in_database);
        file(&found.path, &namespace, needs, progress)?;
    }
    Ok(())
}

fn file(
    path: &Path,
    namespace: &str,
    needs: &mut Needs,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), InspectError> {
    let name = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(file) => reader(file, &name, namespace, needs, progress),
        Err(source) => Err(InspectError::Read { name, source }),
    }
}

/// Reads what a stream gives, in whichever of the forms it is, to its end.
///
/// `name` is what errors call it; `namespace` is what documents belong to if the
/// stream does not say so itself, as archives do.
pub fn reader(
    from: impl Read,
    name: &str,
    namespace: &str,
    needs: &mut Needs,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), InspectError> {
    let damaged = |damage| InspectError::Damaged {
        name: name.to_owned(),
        damage,
    };
    let mut documents = stream::Documents::open(from).map_err(damaged)?;
    if documents.begins_with(archive::MAGIC) {
        archive::read(&mut documents, needs, progress).map_err(damaged)
    } else {
        collection(&mut documents, namespace, needs, progress).map_err(damaged)
    }
}

/// Documents of one collection, one behind the other.
fn collection(
    documents: &mut stream::Documents<'_>,
    namespace: &str,
    needs: &mut Needs,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Damage> {
    let namespace = needs.namespace(namespace);
    while let Some(document) = documents.document()? {
        let at = document.at;
        needs
            .document(namespace, document.doc)
            .map_err(|malformed| Damage::within(at, malformed))?;
        progress(needs.bytes, needs.documents);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
