//! Commands that write, and the operators of updates.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};

use super::{Row, find, insert, two, update};

pub(super) fn rows() -> Vec<Row> {
    [inserts(), updates(), find_and_modify(), deletes()].concat()
}

fn update_many(filter: Document, update: Document) -> Document {
    doc! {"update": "default", "updates": [{"q": filter, "u": update, "multi": true}]}
}

fn inserts() -> Vec<Row> {
    vec![
        Row::new(
            "insert",
            "one document is sealed on its way in",
            vec![insert(two()[0].clone())],
        ),
        Row::new(
            "insert",
            "each of many documents is sealed on its way in",
            vec![doc! {"insert": "default", "documents": two()}],
        ),
        Row::new(
            "bulk",
            "a bulk of inserts, updates, replacements and deletes",
            vec![
                doc! {"insert": "default", "documents": two()},
                doc! {"update": "default", "updates": [
                    {"q": {"encrypted_string": "string0"}, "u": {"$set": {"encrypted_string": "string1"}}},
                    {"q": {"$and": [{"encrypted_string": "string1"}, {"_id": 2}]}, "u": {"encrypted_string": "string2", "random": "xyz"}},
                ]},
                doc! {"delete": "default", "deletes": [{"q": {"encrypted_string": "string2"}, "limit": 1}]},
                find(doc! {}),
            ],
        ),
        Row::new(
            "bypassAutoEncryption",
            "bypassDocumentValidation does not bypass sealing",
            vec![doc! {"insert": "default", "bypassDocumentValidation": true,
            "documents": [{"_id": 2, "encrypted_string": "string0"}]}],
        ),
        Row::new(
            "fle2v2-BypassQueryAnalysis",
            "a client cannot bring a sealed value of its own",
            vec![insert(doc! {"_id": 1, "encrypted_string": Binary {
                subtype: BinarySubtype::UserDefined(0x8F),
                bytes: [&[0xF5, 0xEA, 0x1D, 1][..], &[0; 40]].concat(),
            }})],
        )
        .refused(&[]),
        Row::new(
            "badQueries",
            "an array in a sealed field is sealed element by element",
            vec![
                insert(doc! {"_id": 1, "encrypted_string": ["123", "456"]}),
                find(doc! {"encrypted_string": "456"}),
            ],
        )
        .beyond(),
        Row::new(
            "badQueries",
            "an update to an array in a sealed field",
            vec![
                update(
                    doc! {"_id": 1},
                    doc! {"$set": {"encrypted_string": ["1", "2"]}},
                ),
                find(doc! {"encrypted_string": "2"}),
            ],
        )
        .given(two())
        .beyond(),
        Row::new(
            "badQueries",
            "a value of another type than the schema's is refused",
            vec![insert(doc! {"_id": 1, "encrypted_string": 5})],
        )
        .refused(&["encrypted_string", "string"]),
    ]
}

fn updates() -> Vec<Row> {
    let change = doc! {"$set": {"encrypted_string": "string2", "random": "abc"}};
    vec![
        Row::new(
            "updateOne",
            "an update by a sealed field of sealed fields",
            vec![update(doc! {"encrypted_string": "string0"}, change.clone())],
        )
        .given(two()),
        Row::new(
            "updateOne",
            "an update by a field without equality is refused",
            vec![update(doc! {"random": "abc"}, change.clone())],
        )
        .given(two())
        .refused(&["random", "equality"]),
        Row::new(
            "updateOne",
            "$unset of a sealed field",
            vec![update(doc! {}, doc! {"$unset": {"encrypted_string": ""}})],
        )
        .given(two()),
        Row::new(
            "updateOne",
            "$rename from one sealed field to another is refused: a sealed value belongs to its field",
            vec![update(
                doc! {},
                doc! {"$rename": {"encrypted_string": "encrypted_string_equivalent"}},
            )],
        )
        .given(two())
        .refused(&["$rename", "encrypted_string"]),
        Row::new(
            "updateOne",
            "$rename to a field with other queries is refused",
            vec![update(doc! {}, doc! {"$rename": {"encrypted_string": "random"}})],
        )
        .given(two())
        .refused(&["$rename", "encrypted_string"]),
        Row::new(
            "updateOne",
            "an update without operators is a replacement that is sealed",
            vec![update(doc! {"_id": 1}, doc! {"encrypted_string": "random"})],
        )
        .given(two())
        .beyond(),
        Row::new(
            "updateMany",
            "an update of many by a sealed field",
            vec![update_many(
                doc! {"encrypted_string": {"$in": ["string0", "string1"]}},
                change.clone(),
            )],
        )
        .given(two()),
        Row::new(
            "updateMany",
            "an update of many by a field without equality is refused",
            vec![update_many(doc! {"random": "abc"}, change)],
        )
        .given(two())
        .refused(&["random", "equality"]),
        Row::new(
            "replaceOne",
            "a replacement by a sealed field",
            vec![update(
                doc! {"encrypted_string": "string0"},
                doc! {"encrypted_string": "string1", "random": "abc"},
            )],
        )
        .given(two()),
        Row::new(
            "fle2v2-Update",
            "an update by a sealed field of an open one, then of the sealed one",
            vec![
                update(doc! {"encrypted_string": "string0"}, doc! {"$set": {"foo": "bar"}}),
                update(
                    doc! {"encrypted_string": "string0"},
                    doc! {"$set": {"encrypted_string": "value456"}},
                ),
                find(doc! {"encrypted_string": "value456"}),
                find(doc! {"encrypted_string": "string0"}),
            ],
        )
        .given(two()),
        Row::new(
            "fle2v2-Update",
            "an upsert by a sealed field",
            vec![
                doc! {"update": "default", "updates": [{"q": {"_id": 9, "encrypted_string": "new"}, "u": {"$set": {"foo": 1}}, "upsert": true}]},
                doc! {"distinct": "default", "key": "foo", "query": {"encrypted_string": "new"}},
            ],
        )
        .given(two())
        .beyond(),
    ]
}

fn find_and_modify() -> Vec<Row> {
    let by = doc! {"encrypted_string": "string0"};
    vec![
        Row::new(
            "findOneAndDelete",
            "findAndModify removes by a sealed field and opens what it removed",
            vec![doc! {"findAndModify": "default", "query": by.clone(), "remove": true}],
        )
        .given(two()),
        Row::new(
            "findOneAndReplace",
            "findAndModify replaces by a sealed field and opens what was before",
            vec![
                doc! {"findAndModify": "default", "query": by.clone(), "update": {"encrypted_string": "string1"}, "new": false},
            ],
        )
        .given(two()),
        Row::new(
            "findOneAndUpdate",
            "findAndModify updates by a sealed field and opens what was before",
            vec![
                doc! {"findAndModify": "default", "query": by.clone(), "update": {"$set": {"encrypted_string": "string1"}}, "new": false},
            ],
        )
        .given(two()),
        Row::new(
            "fle2v2-FindOneAndUpdate",
            "findAndModify updates an open field, then a sealed one, and opens what is after",
            vec![
                doc! {"findAndModify": "default", "query": by.clone(), "update": {"$set": {"foo": "bar"}}, "new": true},
                doc! {"findAndModify": "default", "query": by, "update": {"$set": {"encrypted_string": "value456"}}, "new": true},
                find(doc! {"encrypted_string": "value456"}),
            ],
        )
        .given(two()),
    ]
}

fn deletes() -> Vec<Row> {
    vec![
        Row::new(
            "delete",
            "a delete of one by a sealed field",
            vec![
                doc! {"delete": "default", "deletes": [{"q": {"encrypted_string": "string0"}, "limit": 1}]},
            ],
        )
        .given(two()),
        Row::new(
            "delete",
            "a delete of many by a sealed field",
            vec![
                doc! {"delete": "default", "deletes": [{"q": {"encrypted_string": {"$in": ["string0", "string1"]}}, "limit": 0}]},
            ],
        )
        .given(two()),
        Row::new(
            "fle2v2-Delete",
            "an inserted document is deleted by its sealed field",
            vec![
                insert(doc! {"_id": 1, "encrypted_string": "value123"}),
                doc! {"delete": "default", "deletes": [{"q": {"encrypted_string": "value123"}, "limit": 1}]},
            ],
        ),
    ]
}

/// Of `badQueries`: each update operator beside sealed fields, and on one.
pub(super) fn operators() -> Vec<Row> {
    [operators_beside(), operators_on_sealed(), positions()].concat()
}

fn with_lists() -> Vec<Document> {
    vec![
        doc! {"_id": 1, "encrypted_string": "abc", "encrypted_tags": ["a", "b", "a"], "number": 6, "list": [1, 2, 1]},
    ]
}

fn change(update: Document) -> Vec<Document> {
    vec![super::update(doc! {}, update)]
}

fn operators_beside() -> Vec<Row> {
    let works = |name, update| Row::new("badQueries", name, change(update)).given(with_lists());
    vec![
        works(
            "$addToSet beside sealed fields",
            doc! {"$addToSet": {"list": ["a"]}},
        ),
        works("$inc beside sealed fields", doc! {"$inc": {"number": 1}}),
        works("$mul beside sealed fields", doc! {"$mul": {"number": 2}}),
        works("$max beside sealed fields", doc! {"$max": {"number": 7}}),
        works("$min beside sealed fields", doc! {"$min": {"number": 1}}),
        works("$pop beside sealed fields", doc! {"$pop": {"list": 1}}),
        works("$pull beside sealed fields", doc! {"$pull": {"list": 1}}),
        works(
            "$pullAll beside sealed fields",
            doc! {"$pullAll": {"list": [1]}},
        ),
        works("$push beside sealed fields", doc! {"$push": {"list": 1}}),
        Row::new(
            "badQueries",
            "$currentDate beside sealed fields",
            vec![
                super::update(doc! {}, doc! {"$currentDate": {"now": true}}),
                super::update(doc! {"now": {"$type": "date"}}, doc! {"$unset": {"now": 1}}),
            ],
        )
        .given(with_lists()),
    ]
}

fn operators_on_sealed() -> Vec<Row> {
    let works = |name, update| {
        Row::new("badQueries", name, change(update))
            .given(with_lists())
            .beyond()
    };
    let refused = |name, update, words| {
        Row::new("badQueries", name, change(update))
            .given(with_lists())
            .refused(words)
    };
    vec![
        works(
            "$addToSet of a new element of a sealed field",
            doc! {"$addToSet": {"encrypted_tags": "c"}},
        ),
        works(
            "$addToSet of an element that a sealed field has",
            doc! {"$addToSet": {"encrypted_tags": {"$each": ["a", "d", "d"]}}},
        ),
        refused(
            "$inc of a sealed field is refused",
            doc! {"$inc": {"encrypted_string": 1}},
            &["$inc", "encrypted_string"],
        ),
        refused(
            "$mul of a sealed field is refused",
            doc! {"$mul": {"encrypted_string": 1}},
            &["$mul", "encrypted_string"],
        ),
        refused(
            "$max of a sealed field is refused",
            doc! {"$max": {"encrypted_string": "b"}},
            &["$max", "encrypted_string"],
        ),
        refused(
            "$min of a sealed field is refused",
            doc! {"$min": {"encrypted_string": "b"}},
            &["$min", "encrypted_string"],
        ),
        works(
            "$pop of a sealed field",
            doc! {"$pop": {"encrypted_tags": 1}},
        ),
        works(
            "$pull by equality of a sealed field",
            doc! {"$pull": {"encrypted_tags": "a"}},
        ),
        works(
            "$pullAll of a sealed field",
            doc! {"$pullAll": {"encrypted_tags": ["a", "x"]}},
        ),
        works(
            "$push of a sealed field",
            doc! {"$push": {"encrypted_tags": "c"}},
        ),
        works(
            "$push of many with a position and a slice",
            doc! {"$push": {"encrypted_tags": {"$each": ["c", "d"], "$position": 1, "$slice": 3}}},
        ),
        Row::new(
            "badQueries",
            "$currentDate of a sealed date",
            vec![
                super::update(doc! {}, doc! {"$currentDate": {"encrypted_date": true}}),
                super::update(
                    doc! {"encrypted_date": {"$exists": true}},
                    doc! {"$unset": {"encrypted_date": 1}},
                ),
            ],
        )
        .given(with_lists())
        .beyond(),
        refused(
            "$currentDate of a sealed string is refused",
            doc! {"$currentDate": {"encrypted_string": true}},
            &["encrypted_string", "string", "date"],
        ),
    ]
}

fn positions() -> Vec<Row> {
    let filtered = |update: Document, filter: Document| {
        vec![
            doc! {"update": "default", "updates": [{"q": {}, "u": update, "arrayFilters": [filter]}]},
        ]
    };
    vec![
        Row::new(
            "badQueries",
            "an array filter on the elements of a sealed field",
            filtered(doc! {"$set": {"encrypted_tags.$[i]": "c"}}, doc! {"i": "a"}),
        )
        .given(with_lists())
        .beyond(),
        Row::new(
            "badQueries",
            "an array filter that looks inside a sealed value is refused",
            filtered(doc! {"$set": {"encrypted_tags.$[i].x": 1}}, doc! {"i.x": 1}),
        )
        .given(with_lists())
        .refused(&["encrypted_tags"]),
        Row::new(
            "badQueries",
            "the positional operator beside sealed fields",
            vec![super::update(
                doc! {"list": 2},
                doc! {"$set": {"list.$": 1}},
            )],
        )
        .given(with_lists()),
        Row::new(
            "badQueries",
            "the positional operator on the elements of a sealed field",
            vec![super::update(
                doc! {"encrypted_tags": "b"},
                doc! {"$set": {"encrypted_tags.$": "c"}},
            )],
        )
        .given(with_lists())
        .beyond(),
    ]
}
