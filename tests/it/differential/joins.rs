//! Random joins, unions, views and writes of pipelines over several collections, some
//! of whose fields are of one `domain`.

use std::collections::BTreeMap;

use mongodb::bson::{Array, Bson, Document, doc};

use super::dice::Dice;
use super::pair::{Answer, Side, bytes};
use super::values::{CANARY, number};
use super::world::Counts;
use super::{number as variable, seed};
use crate::support::{Proxy, ProxyOptions, shared_replica_set, unique_database};

/// Commands of a run, unless `FIELDSEAL_DIFFERENTIAL_OPS` says otherwise.
const COMMANDS: usize = 1_200;
/// Commands between two sets of documents.
const WORLD: usize = 150;

/// The least share of commands, in percent, that must be accepted.
const ACCEPTED: &[(&str, usize)] = &[
    ("lookup", 60),
    ("lookup by pipeline", 60),
    ("graphLookup", 35),
    ("unionWith", 60),
    ("view", 90),
    ("out", 40),
    ("merge", 40),
];

fn schema(database: &str) -> String {
    let people = r#"
a = { type = "string", queries = ["equality"], domain = "word" }
"items.sku" = { type = "string", queries = ["equality"], domain = "word" }
n = { type = "number", queries = ["equality"], domain = "number" }
note = {}
"#;
    format!(
        r#"
[collections."{database}.people"]
identity = "people"
[collections."{database}.people".fields]{people}
[collections."{database}.archive"]
identity = "people"
[collections."{database}.archive".fields]{people}
[collections."{database}.sales".fields]
buyer = {{ type = "string", queries = ["equality"], domain = "word" }}
"lines.sku" = {{ type = "string", queries = ["equality"], domain = "word" }}
m = {{ type = "number", queries = ["equality"], domain = "number" }}
own = {{ type = "string", queries = ["equality"] }}
"#
    )
}

fn word(dice: &mut Dice) -> Bson {
    format!("{CANARY}{}", dice.pick(&["a", "b", "c", "d", "e"])).into()
}

fn words(dice: &mut Dice) -> Option<Bson> {
    Some(match dice.below(10) {
        0 => return None,
        1 => Bson::Null,
        2 => Bson::Array(Array::new()),
        3 | 4 => Bson::Array(dice.several(1, 3, word)),
        _ => word(dice),
    })
}

fn put(document: &mut Document, name: &str, value: Option<Bson>) {
    if let Some(value) = value {
        document.insert(name, value);
    }
}

fn line(dice: &mut Dice) -> Bson {
    if dice.chance(5) {
        return dice.pick(&[Bson::Null, Bson::Int32(5), Bson::Array(Array::new())]);
    }
    let mut line = doc! {};
    put(&mut line, "sku", words(dice));
    if dice.chance(50) {
        line.insert("count", i32::try_from(dice.below(3)).unwrap());
    }
    line.into()
}

fn lines(dice: &mut Dice) -> Option<Bson> {
    Some(match dice.below(8) {
        0 => return None,
        1 => Bson::Null,
        2 => Bson::Array(Array::new()),
        3 => line(dice),
        4 => Bson::Int32(1),
        _ => Bson::Array(dice.several(1, 3, line)),
    })
}

fn numbers(dice: &mut Dice) -> Option<Bson> {
    Some(match dice.below(8) {
        0 => return None,
        1 => Bson::Null,
        2 => Bson::Array(dice.several(0, 2, number)),
        _ => number(dice),
    })
}

fn open(dice: &mut Dice) -> Option<Bson> {
    Some(match dice.below(6) {
        0 => return None,
        1 => Bson::Null,
        2 => Bson::Array(dice.several(0, 2, |dice| {
            Bson::Int32(i32::try_from(dice.below(4)).unwrap())
        })),
        _ => Bson::Int32(i32::try_from(dice.below(4)).unwrap()),
    })
}

/// A document of `people` or, by other names, of `sales`.
fn document(dice: &mut Dice, id: usize, names: [&str; 4]) -> Document {
    let mut document = doc! { "_id": i32::try_from(id).unwrap() };
    put(&mut document, names[0], words(dice));
    put(&mut document, names[1], lines(dice));
    put(&mut document, names[2], numbers(dice));
    put(&mut document, names[3], words(dice));
    put(&mut document, "ref", open(dice));
    document
}

const PEOPLE: [&str; 4] = ["a", "items", "n", "note"];
const SALES: [&str; 4] = ["buyer", "lines", "m", "own"];

/// A collection or view, and the names of its sealed fields.
#[derive(Clone, Copy)]
struct Source {
    name: &'static str,
    words: &'static [&'static str],
    number: &'static str,
}

const SOURCES: &[Source] = &[
    Source {
        name: "people",
        words: &["a", "items.sku"],
        number: "n",
    },
    Source {
        name: "people",
        words: &["a", "items.sku"],
        number: "n",
    },
    Source {
        name: "sales",
        words: &["buyer", "lines.sku"],
        number: "m",
    },
    Source {
        name: "sales",
        words: &["buyer", "lines.sku"],
        number: "m",
    },
    Source {
        name: "archive",
        words: &["a", "items.sku"],
        number: "n",
    },
    Source {
        name: "some",
        words: &["a", "items.sku"],
        number: "n",
    },
    Source {
        name: "moved",
        words: &["who.name", "skus"],
        number: "number",
    },
    Source {
        name: "joined",
        words: &["buyer", "customer.a"],
        number: "m",
    },
    Source {
        name: "both",
        words: &["a", "buyer"],
        number: "n",
    },
];

/// Views that only move sealed values, as they are made through the proxy and in plain.
fn views() -> Vec<Document> {
    vec![
        doc! { "create": "some", "viewOn": "people", "pipeline": [{ "$match": { "ref": { "$ne": 1 } } }] },
        doc! { "create": "moved", "viewOn": "people", "pipeline": [
        { "$project": { "who": { "name": "$a", "ref": "$ref" }, "skus": "$items.sku", "number": "$n", "ref": 1 } } ] },
        doc! { "create": "joined", "viewOn": "sales", "pipeline": [
        { "$lookup": { "from": "people", "localField": "ref", "foreignField": "_id", "pipeline": [{ "$sort": { "_id": 1 } }], "as": "customer" } },
        { "$unset": "own" } ] },
        doc! { "create": "both", "viewOn": "some", "pipeline": [
        { "$project": { "a": 1, "items": 1, "n": 1, "here": "$ref" } },
        { "$unionWith": { "coll": "sales", "pipeline": [{ "$project": { "buyer": 1, "ref": 1 } }] } } ] },
    ]
}

fn source(dice: &mut Dice) -> Source {
    dice.pick(SOURCES)
}

fn field(dice: &mut Dice, of: Source) -> &'static str {
    match dice.below(8) {
        0 => of.number,
        1 => dice.pick(&["_id", "ref"]),
        _ => dice.pick(of.words),
    }
}

/// A pair of fields that may be joined, most often.
fn pair(dice: &mut Dice, local: Source, foreign: Source) -> (String, &'static str) {
    match dice.below(10) {
        0 => (field(dice, local).to_owned(), field(dice, foreign)),
        1 => ("ref".to_owned(), "_id"),
        2 => (local.number.to_owned(), foreign.number),
        3 => ("moved.x".to_owned(), dice.pick(foreign.words)),
        _ => (dice.pick(local.words).to_owned(), dice.pick(foreign.words)),
    }
}

fn condition(dice: &mut Dice, of: Source, prefix: &str) -> Document {
    let path = format!("{prefix}{}", dice.pick(of.words));
    let number_path = format!("{prefix}{}", of.number);
    match dice.below(9) {
        0 => doc! { path: Bson::Null },
        1 => doc! { path: { "$exists": dice.chance(50) } },
        2 => doc! { path: { "$in": [word(dice), Bson::Null] } },
        3 => doc! { path: { "$ne": word(dice) } },
        4 => doc! { number_path: number(dice) },
        5 => doc! { format!("{prefix}ref"): { "$gte": 1 } },
        6 => doc! { path: { "$nin": dice.several(1, 2, word) } },
        _ => doc! { path: word(dice) },
    }
}

/// A sub-pipeline over `of` that keeps its fields' names.
fn within(dice: &mut Dice, of: Source, depth: usize) -> Vec<Document> {
    let mut stages = Vec::new();
    for _ in 0..dice.below(3) {
        stages.push(match dice.below(6) {
            0 | 1 => doc! { "$match": condition(dice, of, "") },
            // MongoDB's two engines give other orders of fields where it names a path.
            2 => doc! { "$project": { "_id": 1, of.words[0].split('.').next().unwrap(): 1, of.number: 1 } },
            3 => doc! { "$set": { "moved": { "x": format!("${}", dice.pick(of.words)) } } },
            4 if depth > 0 => lookup(dice, of, "inner", depth - 1).0,
            _ => doc! { "$unset": "note" },
        });
    }
    stages
}

fn lookup(
    dice: &mut Dice,
    local: Source,
    result: &str,
    depth: usize,
) -> (Document, Source, &'static str) {
    let foreign = source(dice);
    let (from, to) = pair(dice, local, foreign);
    let mut options = doc! { "from": foreign.name };
    let kind = dice.below(10);
    let family = if kind < 6 {
        "lookup"
    } else {
        "lookup by pipeline"
    };
    if kind < 7 {
        options.insert("localField", &from);
        options.insert("foreignField", to);
    }
    if kind >= 6 {
        let mut stages = within(dice, foreign, depth);
        if kind >= 7 {
            options.insert("let", doc! { "own": format!("${from}") });
            let theirs = format!("${to}");
            let compare = match dice.below(3) {
                0 => doc! { "$eq": [theirs, "$$own"] },
                1 => {
                    doc! { "$in": ["$$own", { "$cond": [{ "$isArray": &theirs }, &theirs, [&theirs]] }] }
                }
                _ => doc! { "$ne": ["$$own", theirs] },
            };
            stages.insert(0, doc! { "$match": { "$expr": compare } });
        }
        options.insert("pipeline", stages);
    }
    options.insert("as", result);
    (doc! { "$lookup": options }, foreign, family)
}

fn graph(dice: &mut Dice, local: Source) -> (Document, Source) {
    let foreign = source(dice);
    let (mut from, mut to) = pair(dice, local, foreign);
    if dice.chance(60) {
        (from, to) = (local.words[0].to_owned(), foreign.words[0]);
    }
    let start = if dice.chance(20) {
        doc! { "$literal": word(dice) }.into()
    } else {
        Bson::from(format!("${from}"))
    };
    let mut options = doc! {
        "from": foreign.name,
        "startWith": start,
        "connectFromField": dice.pick(foreign.words),
        "connectToField": to,
        "as": "j",
    };
    if dice.chance(80) {
        options.insert(
            "restrictSearchWithMatch",
            doc! { to: { "$ne": Bson::Null }, "ref": { "$ne": 2 } },
        );
    }
    if dice.chance(50) {
        options.insert("depthField", "depth");
    }
    if dice.chance(40) {
        options.insert("maxDepth", i32::try_from(dice.below(3)).unwrap());
    }
    (doc! { "$graphLookup": options }, foreign)
}

fn union(dice: &mut Dice) -> Document {
    let other = source(dice);
    if dice.chance(30) {
        return doc! { "$unionWith": other.name };
    }
    doc! { "$unionWith": { "coll": other.name, "pipeline": within(dice, other, 1) } }
}

/// One stage that reads what a join found.
fn after(dice: &mut Dice, joined: Source) -> Vec<Document> {
    match dice.below(8) {
        0 => vec![doc! { "$match": condition(dice, joined, "j.") }],
        1 => vec![
            doc! { "$unwind": "$j" },
            doc! { "$match": condition(dice, joined, "j.") },
        ],
        2 => vec![
            doc! { "$project": { "found": format!("$j.{}", dice.pick(joined.words)), "count": { "$size": "$j" } } },
        ],
        3 => vec![
            doc! { "$unwind": { "path": "$j", "preserveNullAndEmptyArrays": true } },
            doc! { "$group": { "_id": format!("$j.{}", dice.pick(joined.words)), "count": { "$sum": 1 } } },
        ],
        4 => {
            let shape = Source { name: "", ..joined };
            let paths: Vec<String> = shape.words.iter().map(|path| format!("j.{path}")).collect();
            let path = dice.pick(&paths);
            let foreign = source(dice);
            vec![
                doc! { "$lookup": { "from": foreign.name, "localField": path, "foreignField": dice.pick(foreign.words), "as": "k" } },
            ]
        }
        5 => vec![doc! { "$match": { "j": { "$elemMatch": condition(dice, joined, "") } } }],
        _ => Vec::new(),
    }
}

/// A random command, and what it is counted as.
fn command(dice: &mut Dice) -> (&'static str, Document) {
    let writes = dice.chance(15);
    let local = loop {
        let local = source(dice);
        if !writes || dice.chance(10) || ["people", "archive", "some"].contains(&local.name) {
            break local;
        }
    };
    let mut stages = vec![doc! { "$sort": { "_id": 1 } }];
    if dice.chance(30) {
        stages.push(doc! { "$match": condition(dice, local, "") });
    }
    if !writes && dice.chance(25) {
        let path = format!("${}", dice.pick(local.words));
        let moved = match dice.below(3) {
            0 => Bson::from(path),
            1 => vec![Bson::from(path), Bson::Null].into(),
            _ => doc! { "$ifNull": [&path, Bson::Null] }.into(),
        };
        stages.push(doc! { "$set": { "moved": { "x": moved } } });
    }
    if writes {
        let family = written(dice, &mut stages);
        return (
            family,
            doc! { "aggregate": local.name, "pipeline": stages, "cursor": {} },
        );
    }
    let family = match dice.below(17) {
        0..8 => {
            let (stage, joined, family) = lookup(dice, local, "j", 2);
            stages.push(stage);
            stages.extend(after(dice, joined));
            family
        }
        8..11 => {
            let (stage, joined) = graph(dice, local);
            stages.push(stage);
            stages.extend(after(dice, joined));
            "graphLookup"
        }
        11..13 => {
            stages.push(union(dice));
            if dice.chance(50) {
                stages.push(doc! { "$match": condition(dice, local, "") });
            }
            "unionWith"
        }
        13 => {
            let (stage, ..) = lookup(dice, local, "j", 1);
            stages = vec![doc! { "$facet": {
            "one": stages.clone(), "two": [stage, union(dice)], "three": [{ "$count": "n" }] } }];
            "lookup"
        }
        _ => return ("view", view_command(dice)),
    };
    (
        family,
        doc! { "aggregate": local.name, "pipeline": stages, "cursor": { "batchSize": 2 } },
    )
}

/// Adds stages that write, and perhaps some that shape what is written.
fn written(dice: &mut Dice, stages: &mut Vec<Document>) -> &'static str {
    let dropped = doc! { "$unset": ["items", "note", "a", "n"] };
    match dice.below(10) {
        0 => stages.push(doc! { "$project": { "a": 1, "ref": 1 } }),
        1 => stages.push(doc! { "$project": { "ref": 1 } }),
        2 => stages.push(doc! { "$set": { "ref": 7, "more": { "of": "$ref" } } }),
        3 => stages.push(doc! { "$unset": ["items", "note"] }),
        4 => stages.push(
            doc! { "$set": { "a": { "$cond": [{ "$eq": ["$ref", 1] }, "$a", Bson::Null] } } },
        ),
        5 => stages.push(doc! { "$set": { "a": word(dice) } }),
        6 => stages.push(doc! { "$set": { "a": ["$a"] } }),
        7 => stages.push(dropped),
        _ => {}
    }
    if dice.chance(25) {
        stages.push(doc! { "$out": dice.pick(&["copied", "archive", "archive", "people"]) });
        return "out";
    }
    stages.push(merge(dice));
    "merge"
}

fn view_command(dice: &mut Dice) -> Document {
    let view = loop {
        let view = source(dice);
        if !["people", "sales", "archive"].contains(&view.name) {
            break view;
        }
    };
    let filter = condition(dice, view, "");
    let path = dice.pick(view.words);
    match dice.below(8) {
        0 => doc! { "count": view.name, "query": filter },
        1 => doc! { "distinct": view.name, "key": path, "query": filter },
        2 => {
            doc! { "find": view.name, "filter": filter, "projection": { path: 1 }, "batchSize": 1 }
        }
        3 => {
            doc! { "find": view.name, "filter": filter, "projection": { "only": format!("${path}") } }
        }
        4 => doc! { "aggregate": view.name, "pipeline": [
        { "$match": filter }, { "$group": { "_id": format!("${path}"), "n": { "$sum": 1 } } }], "cursor": {} },
        5 => {
            doc! { "find": view.name, "filter": { "$and": [filter, condition(dice, view, "")] }, "batchSize": 2 }
        }
        _ => doc! { "find": view.name, "filter": filter, "batchSize": 2 },
    }
}

fn merge(dice: &mut Dice) -> Document {
    let into = dice.pick(&["archive", "archive", "people", "copied"]);
    let mut options = doc! { "into": into };
    match dice.below(8) {
        0 => {
            options.insert(
                "whenMatched",
                vec![doc! { "$set": { "ref": "$$new.ref", "a": "$$new.a" } }],
            );
        }
        1 => {
            options.insert("let", doc! { "word": "$a", "number": 1 });
            options.insert(
                "whenMatched",
                vec![doc! { "$set": { "a": "$$word", "ref": "$$number", "note": word(dice) } }],
            );
        }
        2 => {
            options.insert("whenMatched", vec![
                doc! { "$set": { "a": { "$cond": [{ "$eq": ["$a", "$$new.a"] }, word(dice), "$a"] } } },
            ]);
        }
        3 => {
            options.insert("whenMatched", vec![doc! { "$replaceWith": "$$new" }]);
        }
        _ => {
            options.insert(
                "whenMatched",
                dice.pick(&["replace", "merge", "keepExisting", "fail"]),
            );
        }
    }
    options.insert("whenNotMatched", dice.pick(&["insert", "discard", "fail"]));
    doc! { "$merge": options }
}

/// Arrays of documents in one order, as a join promises none, and fields by their
/// names: which of MongoDB's engines runs a projection decides on their order.
fn settled(value: &Bson) -> Bson {
    match value {
        Bson::Document(document) => {
            let mut fields: Vec<_> = document
                .iter()
                .map(|(key, value)| (key.clone(), settled(value)))
                .collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            fields.into_iter().collect::<Document>().into()
        }
        Bson::Array(items) => {
            let mut items: Vec<Bson> = items.iter().map(settled).collect();
            items.sort_by_cached_key(|item| bytes(&doc! { "": item }));
            items.into()
        }
        other => other.clone(),
    }
}

/// The documents of two replies that are not in both.
fn only_on_one_side(sealed: &Document, plain: &Document) -> String {
    let documents = |reply: &Document| match reply.get_array("documents") {
        Ok(items) => items.iter().map(settled).collect(),
        Err(_) => vec![Bson::Document(reply.clone())],
    };
    let (sealed, plain) = (documents(sealed), documents(plain));
    // Equal fields in another order are another document.
    let exact = |item: &Bson| bytes(&doc! { "": item });
    let without = |these: &[Bson], those: &[Bson]| {
        let apart: Vec<_> = these
            .iter()
            .filter(|this| !those.iter().any(|that| exact(this) == exact(that)))
            .collect();
        format!("{} documents, of which {apart:?}", these.len())
    };
    format!(
        "  through the proxy: {}\n  plain:             {}",
        without(&sealed, &plain),
        without(&plain, &sealed)
    )
}

struct Joins {
    sealed: Side,
    plain: Side,
    stored: Side,
    counts: BTreeMap<&'static str, Counts>,
}

impl Joins {
    /// New documents, and indexes in some worlds.
    async fn fill(&mut self, dice: &mut Dice) {
        for (name, names) in [("people", PEOPLE), ("sales", SALES), ("archive", PEOPLE)] {
            let count = dice.between(3, 10);
            let documents: Vec<_> = (0..count).map(|id| document(dice, id, names)).collect();
            let indexed = dice.chance(40);
            for side in [&mut self.sealed, &mut self.plain] {
                side.must(doc! { "delete": name, "deletes": [{ "q": {}, "limit": 0 }] })
                    .await;
                side.must(doc! { "insert": name, "documents": &documents })
                    .await;
                side.run(&doc! { "dropIndexes": name, "index": "*" }).await;
                if indexed {
                    let keys = [
                        format!("{}.sku", names[1]),
                        names[0].to_owned(),
                        names[2].to_owned(),
                    ];
                    let indexes: Vec<_> = keys
                        .iter()
                        .map(|key| doc! { "key": { key: 1 }, "name": key })
                        .collect();
                    side.must(doc! { "createIndexes": name, "indexes": indexes })
                        .await;
                }
            }
        }
    }

    /// Runs one command on both sides; an error is a difference.
    async fn step(&mut self, family: &'static str, command: &Document) -> Result<(), String> {
        let sealed = self.sealed.run(command).await;
        let count = self.counts.entry(family).or_default();
        match &sealed {
            Answer::Refused { code: 96, message } => return Err(message.clone()),
            Answer::Refused { message, .. } => {
                assert!(!message.contains(CANARY), "{message}");
                if std::env::var_os("FIELDSEAL_SHOW_REFUSALS").is_some() {
                    eprintln!("{family}: {message}\n    {command}");
                }
                count.refused();
                return Ok(());
            }
            Answer::Failed(_) => count.failed(),
            Answer::Reply(_) => count.answered(),
        }
        let plain = self.plain.run(command).await;
        let same = match (&sealed, &plain) {
            (Answer::Failed(sealed), Answer::Failed(plain)) => sealed == plain,
            (Answer::Reply(sealed), Answer::Reply(plain)) => {
                let [sealed, plain] = [sealed, plain].map(|reply| settled(&reply.clone().into()));
                bytes(&doc! { "": sealed }) == bytes(&doc! { "": plain })
            }
            _ => false,
        };
        if !same {
            if let (Answer::Reply(sealed), Answer::Reply(plain)) = (&sealed, &plain) {
                return Err(only_on_one_side(sealed, plain));
            }
            return Err(format!(
                "  through the proxy: {sealed:?}\n  plain:             {plain:?}"
            ));
        }
        if matches!(family, "out" | "merge") {
            self.same_states().await?;
        }
        Ok(())
    }

    async fn same_states(&mut self) -> Result<(), String> {
        for name in ["people", "archive", "copied"] {
            let sealed = self.sealed.documents(name, doc! {}).await?;
            let plain = self.plain.documents(name, doc! {}).await?;
            super::pair::same_state(&sealed, &plain).map_err(|text| format!("{name}:\n{text}"))?;
            if name == "copied" {
                // Nothing is sealed there: a constant of a command is what it is.
                continue;
            }
            for document in self.stored.documents(name, doc! {}).await? {
                let stored = bytes(&document);
                if stored
                    .windows(CANARY.len())
                    .any(|part| part == CANARY.as_bytes())
                {
                    return Err(format!("  stored in plain in {name}: {document:?}"));
                }
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pipelines_bring_together_is_as_on_plaintext() {
    run(&[], COMMANDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pipelines_bring_together_under_several_index_epochs_is_as_on_plaintext() {
    run(super::EPOCHS, COMMANDS / 3).await;
}

async fn run(keys: &[&[&str]], commands: usize) {
    let seed = seed();
    let commands = variable("FIELDSEAL_DIFFERENTIAL_OPS")
        .map_or(commands, |commands| usize::try_from(commands).unwrap());
    eprintln!("FIELDSEAL_SEED={seed} FIELDSEAL_DIFFERENTIAL_OPS={commands}");
    let set = shared_replica_set().await;
    let direct = set.client().await;
    let (sealed, plain) = (
        unique_database("join_sealed"),
        unique_database("join_plain"),
    );
    let schema = schema(&sealed);
    let options = ProxyOptions {
        schema: &schema,
        log_level: "info",
        keys,
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_with(set, options).await;
    let mut joins = Joins {
        sealed: Side::new(&proxy.client().await, &sealed).await,
        plain: Side::new(&direct, &plain).await,
        stored: Side::new(&direct, &sealed).await,
        counts: BTreeMap::new(),
    };
    for view in views() {
        for side in [&mut joins.sealed, &mut joins.plain] {
            side.must(view.clone()).await;
        }
    }
    let mut differences = Vec::new();
    for world in 0..commands.div_ceil(WORLD) {
        let seed = seed.wrapping_add(u64::try_from(world).unwrap());
        let mut dice = Dice::new(seed);
        joins.fill(&mut dice).await;
        for _ in 0..WORLD {
            let (family, command) = command(&mut dice);
            if let Err(difference) = joins.step(family, &command).await {
                differences.push(format!("FIELDSEAL_SEED={seed}: {command}\n{difference}"));
                // The states may be different now.
                joins.fill(&mut dice).await;
            }
        }
    }
    for (family, count) in &joins.counts {
        eprintln!("{family}: {count}");
    }
    let shown: Vec<_> = differences.iter().take(8).cloned().collect();
    assert!(
        differences.is_empty(),
        "{} differences:\n\n{}",
        differences.len(),
        shown.join("\n\n")
    );
    for (family, least) in ACCEPTED {
        let count = joins.counts.get(family).copied().unwrap_or_default();
        if count.all() >= 50 {
            assert!(
                count.accepted_percent() >= *least,
                "{family}: {count} (FIELDSEAL_SEED={seed})"
            );
        }
    }
}
