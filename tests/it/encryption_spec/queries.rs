//! Of `badQueries`: each query operator beside sealed fields, and on one.

use mongodb::bson::{Document, doc};

use super::{Row, find};

fn given() -> Vec<Document> {
    vec![
        doc! {"_id": 1, "encrypted_string": "abc", "number": 35, "text": "a pattern", "list": [1, 2]},
        doc! {"_id": 2, "encrypted_string": ["abc", "def"], "number": 7, "at": [0.5, 0.2]},
        doc! {"_id": 3, "encrypted_string": null, "number": null},
        doc! {"_id": 4},
    ]
}

fn triangle() -> Document {
    doc! {"$geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}}
}

/// An operator on an open field works, on a sealed one it is refused.
fn beside(
    names: [&'static str; 2],
    open: Document,
    on_sealed: Document,
    words: &'static [&'static str],
) -> [Row; 2] {
    let row = |name, filter| Row::new("badQueries", name, vec![find(filter)]).given(given());
    [row(names[0], open), row(names[1], on_sealed).refused(words)]
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(bits());
    rows.extend(geometry());
    rows.extend(order_and_patterns());
    rows.extend(presence_and_size());
    rows.extend(whole_documents());
    rows
}

fn bits() -> Vec<Row> {
    [
        beside(
            [
                "$bitsAllClear beside sealed fields",
                "$bitsAllClear on a sealed field is refused",
            ],
            doc! {"number": {"$bitsAllClear": 35}},
            doc! {"encrypted_string": {"$bitsAllClear": 35}},
            &["$bitsAllClear", "encrypted_string"],
        ),
        beside(
            [
                "$bitsAllSet beside sealed fields",
                "$bitsAllSet on a sealed field is refused",
            ],
            doc! {"number": {"$bitsAllSet": 35}},
            doc! {"encrypted_string": {"$bitsAllSet": 35}},
            &["$bitsAllSet", "encrypted_string"],
        ),
        beside(
            [
                "$bitsAnyClear beside sealed fields",
                "$bitsAnyClear on a sealed field is refused",
            ],
            doc! {"number": {"$bitsAnyClear": 35}},
            doc! {"encrypted_string": {"$bitsAnyClear": 35}},
            &["$bitsAnyClear", "encrypted_string"],
        ),
        beside(
            [
                "$bitsAnySet beside sealed fields",
                "$bitsAnySet on a sealed field is refused",
            ],
            doc! {"number": {"$bitsAnySet": 35}},
            doc! {"encrypted_string": {"$bitsAnySet": 35}},
            &["$bitsAnySet", "encrypted_string"],
        ),
    ]
    .concat()
}

fn geometry() -> Vec<Row> {
    let unindexed = |name, filter| {
        Row::new("badQueries", name, vec![find(filter)])
            .given(given())
            .same_error(291)
    };
    let mut rows = [
        beside(
            [
                "$geoIntersects beside sealed fields",
                "$geoIntersects on a sealed field is refused",
            ],
            doc! {"at": {"$geoIntersects": triangle()}},
            doc! {"encrypted_string": {"$geoIntersects": triangle()}},
            &["$geoIntersects", "encrypted_string"],
        ),
        beside(
            [
                "$geoWithin beside sealed fields",
                "$geoWithin on a sealed field is refused",
            ],
            doc! {"at": {"$geoWithin": triangle()}},
            doc! {"encrypted_string": {"$geoWithin": triangle()}},
            &["$geoWithin", "encrypted_string"],
        ),
    ]
    .concat();
    rows.extend([
        unindexed(
            "$near without an index is MongoDB's error",
            doc! {"at": {"$near": [0, 0]}},
        ),
        unindexed(
            "$nearSphere without an index is MongoDB's error",
            doc! {"at": {"$nearSphere": [0, 0]}},
        ),
        Row::new(
            "badQueries",
            "$near on a sealed field is refused",
            vec![find(doc! {"encrypted_string": {"$near": [0, 0]}})],
        )
        .refused(&["$near", "encrypted_string"]),
        Row::new(
            "badQueries",
            "$nearSphere on a sealed field is refused",
            vec![find(doc! {"encrypted_string": {"$nearSphere": [0, 0]}})],
        )
        .refused(&["$nearSphere", "encrypted_string"]),
    ]);
    rows
}

fn order_and_patterns() -> Vec<Row> {
    [
        beside(
            [
                "$gt beside sealed fields",
                "$gt on a sealed field is refused",
            ],
            doc! {"number": {"$gt": 1}},
            doc! {"encrypted_string": {"$gt": "a"}},
            &["$gt", "encrypted_string"],
        ),
        beside(
            [
                "$lt beside sealed fields",
                "$lt on a sealed field is refused",
            ],
            doc! {"number": {"$lt": 10}},
            doc! {"encrypted_string": {"$lt": "a"}},
            &["$lt", "encrypted_string"],
        ),
        beside(
            [
                "$gte beside sealed fields",
                "$gte on a sealed field is refused",
            ],
            doc! {"number": {"$gte": 7}},
            doc! {"encrypted_string": {"$gte": "a"}},
            &["$gte", "encrypted_string"],
        ),
        beside(
            [
                "$lte beside sealed fields",
                "$lte on a sealed field is refused",
            ],
            doc! {"number": {"$lte": 7}},
            doc! {"encrypted_string": {"$lte": "a"}},
            &["$lte", "encrypted_string"],
        ),
        beside(
            [
                "$mod beside sealed fields",
                "$mod on a sealed field is refused",
            ],
            doc! {"number": {"$mod": [3, 1]}},
            doc! {"encrypted_string": {"$mod": [3, 1]}},
            &["$mod", "encrypted_string"],
        ),
        beside(
            [
                "$regex beside sealed fields",
                "$regex on a sealed field is refused",
            ],
            doc! {"text": {"$regex": "pattern", "$options": ""}},
            doc! {"encrypted_string": {"$regex": "pattern", "$options": ""}},
            &["$regex", "encrypted_string"],
        ),
    ]
    .concat()
}

fn presence_and_size() -> Vec<Row> {
    let works = |name, filter| Row::new("badQueries", name, vec![find(filter)]).given(given());
    vec![
        works("$size beside sealed fields", doc! {"list": {"$size": 2}}),
        works(
            "equality with null beside sealed fields",
            doc! {"number": {"$eq": null}},
        ),
        works(
            "$in with null beside sealed fields",
            doc! {"number": {"$in": [null]}},
        ),
        works(
            "$size of a sealed field",
            doc! {"encrypted_string": {"$size": 2}},
        )
        .beyond(),
        works(
            "equality of a sealed field with null",
            doc! {"encrypted_string": {"$eq": null}},
        )
        .beyond(),
        works(
            "$in of a sealed field with null and a value",
            doc! {"encrypted_string": {"$in": [null, "def"]}},
        )
        .beyond(),
        works(
            "$exists of a sealed field",
            doc! {"encrypted_string": {"$exists": true}},
        ),
        works(
            "$ne of a sealed field",
            doc! {"encrypted_string": {"$ne": "abc"}},
        ),
        works(
            "$nin of a sealed field",
            doc! {"encrypted_string": {"$nin": ["abc", null]}},
        ),
        works(
            "$not of a sealed field",
            doc! {"encrypted_string": {"$not": {"$eq": "abc"}}},
        ),
        works(
            "$all of a sealed field",
            doc! {"encrypted_string": {"$all": ["abc", "def"]}},
        )
        .beyond(),
    ]
}

fn whole_documents() -> Vec<Row> {
    let code = || mongodb::bson::Bson::JavaScriptCode("function() { return true }".into());
    vec![
        Row::new(
            "badQueries",
            "$text on an open field beside sealed ones",
            vec![
                doc! {"createIndexes": "default", "indexes": [{"key": {"text": "text"}, "name": "text"}]},
                find(doc! {"$text": {"$search": "pattern"}}),
            ],
        )
        .given(given())
        .beyond(),
        Row::new(
            "badQueries",
            "$where on a sealed collection is refused",
            vec![find(doc! {"$where": code()})],
        )
        .given(given())
        .refused(&["$where"]),
    ]
}
