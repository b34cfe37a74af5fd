//! Collections, validators and indexes.

use mongodb::bson::{Document, doc};

use super::{Row, find, insert, two};

pub(super) fn rows() -> Vec<Row> {
    [collections(), validators(), indexes(), partial_indexes()].concat()
}

fn collections() -> Vec<Row> {
    vec![
        Row::new(
            "create-and-createIndexes",
            "an open collection is created with a validator",
            vec![
                doc! {"create": "other", "validator": {"unencrypted_string": "foo"}},
                doc! {"insert": "other", "documents": [{"_id": 1, "unencrypted_string": "foo"}]},
            ],
        ),
        Row::new(
            "create-and-createIndexes",
            "an open collection gets an index",
            vec![
                doc! {"create": "other"},
                doc! {"createIndexes": "other", "indexes": [{"key": {"x": 1}, "name": "name"}]},
                doc! {"listIndexes": "other"},
            ],
        ),
        Row::new(
            "fle2v2-CreateCollection",
            "a sealed collection is created and dropped, with nothing beside it",
            vec![
                doc! {"create": "default"},
                insert(two()[0].clone()),
                find(doc! {"encrypted_string": "string0"}),
                doc! {"listCollections": 1, "nameOnly": true},
                doc! {"drop": "default"},
                doc! {"listCollections": 1, "nameOnly": true},
            ],
        ),
        Row::new(
            "fle2v2-CreateCollection",
            "MongoDB's own encryption of a sealed collection is refused",
            vec![doc! {"create": "default", "encryptedFields": {"fields": []}}],
        )
        .refused(&["encryptedFields"]),
    ]
}

fn validators() -> Vec<Row> {
    let create = |validator: Document| vec![doc! {"create": "default", "validator": validator}];
    let modify = |validator: Document| {
        vec![
            doc! {"create": "default"},
            doc! {"collMod": "default", "validator": validator},
        ]
    };
    vec![
        Row::new(
            "validatorAndPartialFieldExpression",
            "a sealed collection is created with a validator on an open field, which holds",
            [
                create(doc! {"open": "foo"}),
                vec![insert(
                    doc! {"_id": 1, "open": "foo", "encrypted_string": "a"},
                )],
            ]
            .concat(),
        ),
        Row::new(
            "validatorAndPartialFieldExpression",
            "a document that fails a validator on an open field is MongoDB's error",
            [
                create(doc! {"open": "foo"}),
                vec![insert(
                    doc! {"_id": 1, "open": "bar", "encrypted_string": "a"},
                )],
            ]
            .concat(),
        )
        .same_error(121),
        Row::new(
            "validatorAndPartialFieldExpression",
            "a validator that compares a sealed field is refused",
            create(doc! {"encrypted_string": "foo"}),
        )
        .refused(&["a validator", "sealed fields"]),
        Row::new(
            "validatorAndPartialFieldExpression",
            "collMod to a validator on an open field",
            modify(doc! {"open": "foo"}),
        ),
        Row::new(
            "validatorAndPartialFieldExpression",
            "collMod to a validator that compares a sealed field is refused",
            vec![doc! {"collMod": "default", "validator": {"encrypted_string": "foo"}}],
        )
        .given(two())
        .refused(&["a validator", "sealed fields"]),
        Row::new(
            "fle2v2-validatorAndPartialFieldExpression",
            "a validator that asks for the presence of a sealed field",
            create(doc! {"encrypted_string": {"$exists": true}}),
        )
        .beyond(),
    ]
}

fn index(key: Document, options: Document) -> Document {
    let mut index = doc! {"key": key, "name": "name"};
    index.extend(options);
    doc! {"createIndexes": "default", "indexes": [index]}
}

fn indexes() -> Vec<Row> {
    vec![
        Row::new(
            "create-and-createIndexes",
            "an index on a sealed field, listed by its own name",
            vec![
                index(doc! {"encrypted_string": 1}, doc! {}),
                doc! {"listIndexes": "default"},
                find(doc! {"encrypted_string": "string1"}),
            ],
        )
        .given(two())
        .beyond(),
        Row::new(
            "create-and-createIndexes",
            "a unique index on a sealed field lets other values in",
            vec![
                index(doc! {"encrypted_string": 1}, doc! {"unique": true}),
                insert(doc! {"_id": 3, "encrypted_string": "string3"}),
            ],
        )
        .given(two())
        .beyond(),
    ]
}

fn partial_indexes() -> Vec<Row> {
    let file = "validatorAndPartialFieldExpression";
    let partial =
        |filter: Document| index(doc! {"name": 1}, doc! {"partialFilterExpression": filter});
    vec![
        Row::new(
            file,
            "a partial index by an open field",
            vec![
                partial(doc! {"open": "foo"}),
                doc! {"listIndexes": "default"},
            ],
        )
        .given(two()),
        Row::new(
            file,
            "a partial index by the value of a sealed field",
            vec![partial(doc! {"encrypted_string": "foo"})],
        )
        .given(two())
        .beyond(),
        Row::new(
            "fle2v2-validatorAndPartialFieldExpression",
            "a partial index by the presence of a sealed field",
            vec![
                partial(doc! {"encrypted_string": {"$exists": true}}),
                doc! {"listIndexes": "default"},
            ],
        )
        .given(two())
        .beyond(),
    ]
}
