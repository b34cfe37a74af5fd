//! Commands that read.

use mongodb::bson::{Document, doc};

use super::{Row, find, insert, two};

fn aggregate(pipeline: Vec<Document>) -> Document {
    doc! {"aggregate": "default", "pipeline": pipeline, "cursor": {}}
}

pub(super) fn rows() -> Vec<Row> {
    [finds(), counts(), aggregates(), others()].concat()
}

fn finds() -> Vec<Row> {
    vec![
        Row::new(
            "basic",
            "a sealed value comes back by _id, with equality or without",
            vec![
                insert(doc! {"_id": 1, "encrypted_string": "string0"}),
                insert(doc! {"_id": 2, "random": "123"}),
                find(doc! {"_id": 1}),
                find(doc! {"_id": 2}),
            ],
        ),
        Row::new(
            "find",
            "a find by equality on a sealed field",
            vec![find(doc! {"encrypted_string": "string0"})],
        )
        .given(two()),
        Row::new(
            "find",
            "a find by $in on a sealed field",
            vec![find(
                doc! {"encrypted_string": {"$in": ["string0", "string1"]}},
            )],
        )
        .given(two()),
        Row::new(
            "find",
            "a find by a field without equality is refused",
            vec![find(doc! {"random": "abc"})],
        )
        .given(two())
        .refused(&["random", "equality"]),
        Row::new(
            "getMore",
            "a cursor over many batches opens each",
            vec![doc! {"find": "default", "batchSize": 2, "sort": {"_id": 1}}],
        )
        .given(
            (0..7)
                .map(|i| doc! {"_id": i, "encrypted_string": format!("string{i}")})
                .collect(),
        ),
        Row::new(
            "fle2v2-InsertFind-Indexed",
            "an inserted document is found by equality and without a filter",
            vec![
                insert(doc! {"_id": 1, "encrypted_string": "123"}),
                find(doc! {"encrypted_string": "123"}),
                find(doc! {}),
            ],
        ),
        Row::new(
            "fle2v2-InsertFind-Unindexed",
            "a field without equality comes back, by _id and without a filter",
            vec![
                insert(doc! {"_id": 1, "random": "value123"}),
                find(doc! {"_id": 1}),
                find(doc! {}),
            ],
        ),
        Row::new(
            "fle2v2-InsertFind-Unindexed",
            "a filter on a field without equality is refused with what to do",
            vec![find(doc! {"random": "value123"})],
        )
        .refused(&["random", "equality"]),
        Row::new(
            "noSchema",
            "a collection that the schema does not name is as it was",
            vec![
                doc! {"insert": "other", "documents": [{"_id": 1, "encrypted_string": "string0"}]},
                doc! {"find": "other", "filter": {"encrypted_string": {"$gt": "s"}}},
            ],
        ),
        Row::new(
            "fle2v2-NoEncryption",
            "a document without sealed fields goes through a sealed collection",
            vec![
                insert(doc! {"_id": 1, "foo": "bar"}),
                find(doc! {"foo": "bar"}),
            ],
        ),
    ]
}

fn counts() -> Vec<Row> {
    let grouped = |filter: Document| {
        aggregate(vec![
            doc! {"$match": filter},
            doc! {"$group": {"_id": 1, "n": {"$sum": 1}}},
        ])
    };
    vec![
        Row::new(
            "count",
            "a count by equality",
            vec![doc! {"count": "default", "query": {"encrypted_string": "string0"}}],
        )
        .given(two()),
        Row::new(
            "count",
            "a count by a field without equality is refused",
            vec![doc! {"count": "default", "query": {"random": "abc"}}],
        )
        .given(two())
        .refused(&["random", "equality"]),
        Row::new(
            "countDocuments",
            "what drivers send for countDocuments",
            vec![grouped(doc! {"encrypted_string": "string0"})],
        )
        .given(two()),
        Row::new(
            "count",
            "countDocuments by a field without equality is refused",
            vec![grouped(doc! {"random": "abc"})],
        )
        .given(two())
        .refused(&["random", "equality"]),
    ]
}

fn aggregates() -> Vec<Row> {
    vec![
        Row::new(
            "aggregate",
            "a $match by equality",
            vec![aggregate(vec![
                doc! {"$match": {"encrypted_string": "string0"}},
            ])],
        )
        .given(two()),
        Row::new(
            "aggregate",
            "an empty pipeline",
            vec![aggregate(vec![])],
        )
        .given(two()),
        Row::new(
            "aggregate",
            "a $match by a field without equality is refused",
            vec![aggregate(vec![doc! {"$match": {"random": "abc"}}])],
        )
        .given(two())
        .refused(&["random", "equality"]),
        Row::new(
            "aggregate",
            "a pipeline of the database",
            vec![
                doc! {"aggregate": 1, "cursor": {}, "pipeline": [
                    {"$documents": [{"a": 1}]}, {"$match": {"a": 1}}, {"$project": {"a": 1}},
                ]},
            ],
        )
        .beyond(),
        Row::new(
            "aggregate",
            "a $group by a sealed field, which keeps its values",
            vec![aggregate(vec![
                doc! {"$group": {"_id": "$encrypted_string", "n": {"$sum": 1}, "one": {"$first": "$random"}}},
                doc! {"$match": {"_id": "string0"}},
            ])],
        )
        .given(two())
        .beyond(),
        Row::new(
            "aggregate",
            "a $lookup beside sealed fields",
            vec![
                doc! {"insert": "other", "documents": [{"_id": 7, "of": 1}, {"_id": 8, "of": 2}]},
                aggregate(vec![
                    doc! {"$match": {"encrypted_string": "string0"}},
                    doc! {"$lookup": {"from": "other", "localField": "_id", "foreignField": "of", "as": "found"}},
                ]),
            ],
        )
        .given(two())
        .beyond(),
    ]
}

fn others() -> Vec<Row> {
    vec![
        Row::new(
            "distinct",
            "the distinct values of a sealed field",
            vec![
                doc! {"distinct": "default", "key": "encrypted_string", "query": {"encrypted_string": "string0"}},
            ],
        )
        .given(two()),
        Row::new(
            "distinct",
            "distinct by a field without equality is refused",
            vec![doc! {"distinct": "default", "key": "encrypted_string", "query": {"random": "abc"}}],
        )
        .given(two())
        .refused(&["random", "equality"]),
        Row::new(
            "badQueries",
            "the distinct values of a field without equality are refused",
            vec![doc! {"distinct": "default", "key": "random"}],
        )
        .given(two())
        .refused(&["random"]),
        Row::new(
            "explain",
            "an explained find",
            vec![
                doc! {"explain": {"find": "default", "filter": {"encrypted_string": "string1"}}},
            ],
        )
        .given(two())
        .accepted(),
        Row::new("bypassedCommand", "ping passes", vec![doc! {"ping": 1}]),
        Row::new(
            "bypassedCommand",
            "commands about the server pass",
            vec![doc! {"connectionStatus": 1}, doc! {"dbStats": 1}],
        )
        .accepted()
        .beyond(),
        Row::new(
            "unsupportedCommand",
            "mapReduce of a sealed collection is refused",
            vec![
                doc! {"mapReduce": "default", "map": "function() { emit(0, this.x + 1) }",
                "reduce": "function(key, values) { return Array.sum(values) }", "out": {"inline": 1}},
            ],
        )
        .given(two())
        .refused(&["mapReduce"]),
        Row::new(
            "unsupportedCommand",
            "mapReduce of an open collection",
            vec![
                doc! {"insert": "other", "documents": [{"_id": 1, "x": 1}, {"_id": 2, "x": 2}]},
                doc! {"mapReduce": "other", "map": "function() { emit(0, this.x + 1) }",
                "reduce": "function(key, values) { return Array.sum(values) }", "out": {"inline": 1}},
            ],
        )
        .beyond(),
        Row::new(
            "fle2v2-Compact",
            "compactStructuredEncryptionData of a sealed collection is refused: it has no such structures",
            vec![doc! {"compactStructuredEncryptionData": "default", "compactionTokens": {}}],
        )
        .given(two())
        .refused(&["compactStructuredEncryptionData"]),
    ]
}
