//! Counterparts to the JSON tests of the drivers' specification of client-side
//! encryption (`spec/legacy` and `spec/unified`): the schemas, commands and
//! operators that they are about, through the proxy. Each row says what a user
//! can rely on, and which file it is the counterpart of. What those files expect
//! to work works; of what they expect to fail, most works too ([`Row::beyond`]).
//!
//! Files that have no counterpart, because they are about what a driver with keys of
//! its own does and a proxy does not:
//!
//! - key management services: `awsTemporary`, `azureKMS`, `gcpKMS`, `kmipKMS`, `localKMS`,
//!   `namedKMS`, `namedKMS-*`;
//! - data keys in a collection: `addKeyAltName`, `removeKeyAltName`, `getKey`, `getKeys`,
//!   `getKeyByAltName`, `deleteKey`, `createDataKey`, `createDataKey-*`, `rewrapManyDataKey`,
//!   `rewrapManyDataKey-*`, `keyAltName`, `keyCache`, `fle2v2-InsertFind-keyAltName`;
//! - where a driver finds its schema: `localSchema`, `timeoutMS` (of the driver's own look
//!   for a schema), `fle2v2-EncryptedFields-vs-EncryptedFieldsMap`,
//!   `fle2v2-EncryptedFields-vs-jsonSchema`, `fle2v2-EncryptedFieldsMap-defaults`;
//! - values that the application seals itself: `bypassAutoEncryption`,
//!   `fle2v2-BypassQueryAnalysis` (a client's own sealed value is refused, see `refused`);
//! - collections that queryable encryption keeps beside each collection:
//!   `fle2v2-CreateCollection-OldServer`.
//!
//! Not yet, because the proxy has no such queries yet:
//!
//! - range: all of `fle2v2-Rangev2-*`;
//! - prefix, suffix and substring: all of `QE-Text-*`.

mod catalog;
mod queries;
mod reads;
mod schemas;
mod sides;
mod types;
mod writes;

use mongodb::bson::{Document, doc};

use crate::support::{
    Proxy, ProxyOptions, ReplicaSet, WITH_JAVASCRIPT, shared_replica_set, unique_database,
};
use sides::{Answer, Side};

/// Rows that hold as soon as what they are about is built. One that holds already
/// fails the test, so that it is taken off this list.
const PENDING: &[&str] = &[];

const SCHEMA: &str = r#"
[collections."encryption_spec_*.default".fields]
encrypted_string            = { type = "string", queries = ["equality"] }
encrypted_string_equivalent = { type = "string", queries = ["equality"] }
encrypted_tags              = { type = "string", queries = ["equality"] }
encrypted_date              = { type = "date", queries = ["equality"] }
encrypted_list              = { type = "array" }
random                      = { type = "string" }
"#;

/// One thing to rely on.
#[derive(Clone)]
struct Row {
    /// The file that it is the counterpart of.
    file: &'static str,
    name: &'static str,
    given: Vec<Document>,
    commands: Vec<Document>,
    expect: Expect,
    /// Whether the specification expects this to fail.
    beyond: bool,
}

/// What becomes of the last of a row's commands; those before have the same answer as on plaintext.
#[derive(Clone, Copy)]
enum Expect {
    /// The same answer as on plaintext, without an error.
    Same,
    /// It is accepted; the answers differ by nature.
    Accepted,
    /// The same error as on plaintext, by its code.
    SameError(i32),
    /// It is refused with a text that has these words, and nothing is changed.
    Refused(&'static [&'static str]),
}

impl Row {
    fn new(file: &'static str, name: &'static str, commands: Vec<Document>) -> Self {
        Self {
            file,
            name,
            given: Vec::new(),
            commands,
            expect: Expect::Same,
            beyond: false,
        }
    }

    /// The documents that are there before, inserted through the proxy.
    fn given(self, given: Vec<Document>) -> Self {
        Self { given, ..self }
    }

    fn accepted(self) -> Self {
        let expect = Expect::Accepted;
        Self { expect, ..self }
    }

    fn same_error(self, code: i32) -> Self {
        let expect = Expect::SameError(code);
        Self { expect, ..self }
    }

    fn refused(self, words: &'static [&'static str]) -> Self {
        let expect = Expect::Refused(words);
        Self { expect, ..self }
    }

    /// The specification expects an error of this.
    fn beyond(self) -> Self {
        Self {
            beyond: true,
            ..self
        }
    }
}

/// The usual two documents of those files.
fn two() -> Vec<Document> {
    vec![
        doc! {"_id": 1, "encrypted_string": "string0", "random": "abc"},
        doc! {"_id": 2, "encrypted_string": "string1"},
    ]
}

fn find(filter: Document) -> Document {
    doc! {"find": "default", "filter": filter, "sort": {"_id": 1}}
}

fn insert(document: Document) -> Document {
    doc! {"insert": "default", "documents": [document]}
}

fn update(filter: Document, update: Document) -> Document {
    doc! {"update": "default", "updates": [{"q": filter, "u": update}]}
}

/// A collection that is sealed behind the proxy, and the same in plain on MongoDB itself.
struct Pair {
    sealed: Side,
    plain: Side,
    stored: Side,
    _proxy: Proxy,
}

impl Pair {
    async fn new(set: &ReplicaSet, schema: &str) -> Self {
        let options = ProxyOptions {
            schema,
            configuration: WITH_JAVASCRIPT,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_with(set, options).await;
        let name = unique_database("encryption_spec");
        let service = proxy.client().await;
        let direct = set.members()[0].direct_client().await;
        Self {
            sealed: Side::new(&service.database(&name)),
            plain: Side::new(&direct.database(&format!("plain_{name}"))),
            stored: Side::new(&direct.database(&name)),
            _proxy: proxy,
        }
    }

    /// Why the row does not hold.
    async fn check(&self, row: &Row) -> Result<(), String> {
        for side in [&self.sealed, &self.plain] {
            side.begin(&row.given).await?;
        }
        let (last, before) = row.commands.split_last().expect("each row has a command");
        for command in before {
            self.run(command, Expect::Same).await?;
        }
        self.run(last, row.expect).await?;
        let (sealed, plain) = (
            self.sealed.documents().await?,
            self.plain.documents().await?,
        );
        if sealed != plain {
            return Err(format!(
                "afterwards, through the proxy: {sealed:?}\n  plain: {plain:?}"
            ));
        }
        self.stored.nothing_in_plain("encrypted_").await?;
        self.stored.nothing_in_plain("random").await
    }

    async fn run(&self, command: &Document, expect: Expect) -> Result<(), String> {
        let through = self.sealed.run(command).await;
        if let Expect::Refused(words) = expect {
            return through
                .says(words)
                .map_err(|not| format!("{command}\n  is not refused with {words:?}: {not:?}"));
        }
        let plain = self.plain.run(command).await;
        same(expect, &through, &plain).map_err(|why| {
            format!("{command}\n  {why}\n  through the proxy: {through:?}\n  plain: {plain:?}")
        })
    }
}

fn same(expect: Expect, through: &Answer, plain: &Answer) -> Result<(), &'static str> {
    match (expect, through, plain) {
        (Expect::Same, Answer::Reply(through), Answer::Reply(plain)) if through == plain => Ok(()),
        (Expect::Accepted, Answer::Reply(_), Answer::Reply(_)) => Ok(()),
        (Expect::SameError(code), Answer::Error(through, text), Answer::Error(plain, _))
            if *through == code && *plain == code && !text.contains("fieldseal") =>
        {
            Ok(())
        }
        (Expect::Same, ..) => Err("is not the same"),
        (Expect::Accepted, ..) => Err("is not accepted"),
        (Expect::SameError(_), ..) => Err("is not that error"),
        (Expect::Refused(_), ..) => Err("is not refused"),
    }
}

/// Checks all rows before it fails with all that do not hold.
async fn check_all(schema: &str, rows: Vec<Row>) {
    assert!(!rows.is_empty());
    let pair = Pair::new(shared_replica_set().await, schema).await;
    let mut wrong = Vec::new();
    for row in &rows {
        let pending = PENDING.contains(&row.name);
        match pair.check(row).await {
            Ok(()) if pending => wrong.push(format!("{}: holds: take it off PENDING", row.name)),
            Err(why) if !pending => {
                wrong.push(format!("{} ({}.json)\n  {why}", row.name, row.file));
            }
            _ => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n\n")
    );
}

#[tokio::test]
async fn reads_of_the_specification() {
    check_all(SCHEMA, reads::rows()).await;
}

#[tokio::test]
async fn writes_of_the_specification() {
    check_all(SCHEMA, writes::rows()).await;
}

#[tokio::test]
async fn operators_of_the_specification_beside_and_on_sealed_fields() {
    let mut rows = queries::rows();
    rows.extend(writes::operators());
    check_all(SCHEMA, rows).await;
}

#[tokio::test]
async fn types_of_the_specification() {
    check_all(types::SCHEMA, types::rows()).await;
}

#[tokio::test]
async fn collections_and_indexes_of_the_specification() {
    check_all(SCHEMA, catalog::rows()).await;
}

#[test]
fn most_of_what_the_specification_expects_to_fail_works() {
    let rows = [
        reads::rows(),
        writes::rows(),
        queries::rows(),
        writes::operators(),
        types::rows(),
        catalog::rows(),
    ];
    let count = |what: fn(&Row) -> bool| rows.iter().flatten().filter(|row| what(row)).count();
    let works = count(|row| row.beyond);
    let refused = count(|row| matches!(row.expect, Expect::Refused(_)));
    assert!(works > refused, "{works} work, {refused} are refused");
}

#[test]
fn each_pending_row_is_there_and_no_name_is_there_twice() {
    let mut rows = reads::rows();
    rows.extend(writes::rows());
    rows.extend(queries::rows());
    rows.extend(writes::operators());
    rows.extend(types::rows());
    rows.extend(catalog::rows());
    let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    for pending in PENDING {
        assert!(names.contains(pending), "{pending}");
    }
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}
