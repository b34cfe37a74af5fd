//! The folders that `mongodump` makes: `dump/<database>/<collection>.bson`.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::InspectError;

/// More than any description of a collection needs.
const MAX_BYTES: u64 = 16 << 20;

/// A file of documents.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Whether the folder that it is in is named after its database.
    pub(super) in_database: bool,
}

/// The files of `folder` and of the folders in it, sorted.
pub(super) fn files(folder: &Path) -> Result<Vec<Found>, InspectError> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            let inner = entries(&path)?.into_iter();
            found.extend(inner.filter(|path| is_bson(path)).map(|path| Found {
                path,
                in_database: true,
            }));
        } else if is_bson(&path) {
            found.push(Found {
                path,
                in_database: false,
            });
        }
    }
    if found.is_empty() {
        return Err(InspectError::NoFiles(folder.display().to_string()));
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, InspectError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        Ok(paths)
    };
    read().map_err(|source| InspectError::Read {
        name: folder.display().to_string(),
        source,
    })
}

fn is_bson(path: &Path) -> bool {
    // Nothing that could keep a reader waiting, such as a pipe.
    stem(path).is_some() && path.is_file()
}

/// The name of a file without `.bson` or `.bson.gz`.
fn stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.strip_suffix(".bson").filter(|stem| !stem.is_empty())
}

/// What the documents of a file belong to: the namespace, if the file is where
/// `mongodump` puts it, else the file's own name.
pub(super) fn namespace_of(path: &Path, in_database: bool) -> String {
    let Some(stem) = stem(path) else {
        return path.display().to_string();
    };
    let described = ["metadata.json", "metadata.json.gz"]
        .iter()
        .map(|ending| path.with_file_name(format!("{stem}.{ending}")))
        .find(|path| path.is_file());
    // A file that is named with a relative path may have no folder in it.
    let database = path
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.parent()?.file_name()?.to_str()?.to_owned()))
        .filter(|_| in_database || described.is_some());
    let collection = described
        .and_then(|path| described_name(&path))
        .unwrap_or_else(|| unescaped(stem));
    match database {
        Some(database) => format!("{database}.{collection}"),
        None => collection,
    }
}

/// The collection's name as its description has it: file names of long names are cut.
fn described_name(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    let file = BufReader::new(std::fs::File::open(path).ok()?);
    let reader: Box<dyn Read> = if path.extension()? == "gz" {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    reader.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    let description: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let name = description.get("collectionName")?.as_str()?;
    Some(name.to_owned()).filter(|name| !name.is_empty() && name.len() < 256)
}

/// File names have `%` and two hexadecimal digits for what they cannot hold.
fn unescaped(stem: &str) -> String {
    let mut bytes = Vec::with_capacity(stem.len());
    let mut rest = stem.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after
            .first_chunk::<2>()
            .filter(|_| byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = match escaped {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_unescaped_where_they_are_escaped() {
        assert_eq!(unescaped("customers"), "customers");
        assert_eq!(unescaped("a%2Fb%24c"), "a/b$c");
        assert_eq!(unescaped("100%"), "100%");
        assert_eq!(unescaped("a%zz%4"), "a%zz%4");
        assert_eq!(unescaped("%FF"), "%FF");
    }

    #[test]
    fn only_files_of_documents_are_taken() {
        assert_eq!(stem(Path::new("d/customers.bson")), Some("customers"));
        assert_eq!(stem(Path::new("d/a.b.bson.gz")), Some("a.b"));
        assert_eq!(stem(Path::new("d/customers.metadata.json")), None);
        assert_eq!(stem(Path::new("d/.bson")), None);
    }
}
