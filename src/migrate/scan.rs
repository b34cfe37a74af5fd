//! Reads the documents of a collection, all of them or a sample.

use std::collections::BTreeMap;

use bson::{Document, RawDocumentBuf, doc};
use memchr::memmem;
use mongodb::error::Error;
use mongodb::{Client, Cursor};

use super::database::{DatabaseError, Listed, Standing, driver, sealed_namespaces};
use crate::inspect::Needs;
use crate::keyring::KeyId;
use crate::policy::Policy;
use crate::raw::{Doc, Malformed};
use crate::schema::CollectionRule;
use crate::seal::NEEDLE;

/// How many of the documents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every one.
    All,
    /// So many, picked at random.
    Sample(u32),
}

/// How many values of a field are under a key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The collection.
    pub namespace: String,
    /// The field, as it was found.
    pub path: String,
    /// How many.
    pub values: u64,
}

/// The projection that leaves what `rule` seals; none if that may have any name.
pub fn sealed_names(rule: &CollectionRule) -> Option<Document> {
    let mut names = Document::new();
    for field in &rule.fields {
        let top = field.path.split('.').next()?;
        if top == "*" {
            return None;
        }
        names.insert(top, 1);
    }
    Some(names)
}

/// Shows documents of a collection to `see`.
///
/// Documents that are written meanwhile are seen as they were before or after.
pub async fn scan(
    client: &Client,
    listed: &Listed,
    extent: Extent,
    projection: Option<Document>,
    mut see: impl FnMut(Doc<'_>) -> Result<(), Malformed>,
) -> Result<(), DatabaseError> {
    let what = || format!("read {}", listed.namespace);
    let mut cursor = open(client, listed, extent, projection)
        .await
        .map_err(driver(what()))?;
    while cursor.advance().await.map_err(driver(what()))? {
        let seen = Doc::whole(cursor.current().as_bytes()).and_then(&mut see);
        seen.map_err(|malformed| driver(what())(Error::custom(malformed)))?;
    }
    Ok(())
}

/// About how many documents [`scan`] will show; for progress.
pub async fn estimate(client: &Client, listed: &Listed, extent: Extent) -> u64 {
    let collection = client
        .database(listed.database())
        .collection::<Document>(listed.collection());
    let all = collection.estimated_document_count().await;
    match (all, extent) {
        (Ok(all), Extent::All) => all,
        (Ok(all), Extent::Sample(size)) => all.min(size.into()),
        (Err(_), _) => 0,
    }
}

async fn open(
    client: &Client,
    listed: &Listed,
    extent: Extent,
    projection: Option<Document>,
) -> Result<Cursor<RawDocumentBuf>, Error> {
    let collection = client
        .database(listed.database())
        .collection::<RawDocumentBuf>(listed.collection());
    match extent {
        Extent::All => {
            let find = collection.find(doc! {});
            match projection {
                Some(projection) => find.projection(projection).await,
                None => find.await,
            }
        }
        Extent::Sample(size) => {
            let mut pipeline = vec![doc! {"$sample": {"size": i64::from(size)}}];
            pipeline.extend(projection.map(|projection| doc! {"$project": projection}));
            let aggregate = collection.aggregate(pipeline).allow_disk_use(true);
            aggregate.with_type::<RawDocumentBuf>().await
        }
    }
}

/// Where values are sealed under a key version, in the collections that the schema names:
/// in the fields of the schema, and wherever else in their documents.
///
/// Every document is read. `progress` is told how many were.
pub async fn held_under(
    client: &Client,
    policy: &Policy,
    version: KeyId,
    mut progress: impl FnMut(u64),
) -> Result<Vec<Held>, DatabaseError> {
    let mut needs = Needs::default();
    let mut read = 0;
    for listed in sealed_namespaces(client, policy, &[]).await? {
        if !matches!(listed.standing, Standing::Collection | Standing::Capped) {
            continue;
        }
        scan(client, &listed, Extent::All, None, |doc| {
            read += 1;
            progress(read);
            count_sealed(&mut needs, &listed.namespace, doc)
        })
        .await?;
    }
    let mut held: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (namespace, place) in needs.places() {
        if let Some(need) = place.needs.get(&version) {
            *held.entry((namespace, &place.path)).or_default() += need.values;
        }
    }
    Ok(held
        .into_iter()
        .map(|((namespace, path), values)| Held {
            namespace: namespace.to_owned(),
            path: path.to_owned(),
            values,
        })
        .collect())
}

/// Counts the sealed values of a document, wherever they stand.
pub fn count_sealed(needs: &mut Needs, namespace: &str, doc: Doc<'_>) -> Result<(), Malformed> {
    if memmem::find(doc.bytes(), &NEEDLE).is_none() {
        return Ok(());
    }
    let namespace = needs.namespace(namespace);
    needs.document(namespace, doc)
}
