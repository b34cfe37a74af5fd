"""PyMongo through the proxy; the steps are those of ../README.md."""

import os
import time

import bson
import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, MongoClient, ReplaceOne, ReturnDocument, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

SEALED = os.environ["SEALED"] == "1"
ALL = range(60)


def person(i):
    return {
        "_id": i,
        "name": f"person {i}",
        "city": "Rome" if i % 2 else "Oslo",
        "ssn": f"900-00-{i:04}",
        "payment": {"card": f"4000-0000-0000-{i:04}", "kind": "visa"},
        "address": {"street": f"Street {i}", "zip": 10000 + i, "geo": [1.5, i]},
        "tags": ["everyone", f"group {i % 5}"],
    }


def ids(cursor):
    return sorted(document["_id"] for document in cursor)


def equal(found, expected):
    assert found == expected, f"{found!r} instead of {expected!r}"


def insert(people):
    equal(people.insert_one(person(0)).inserted_id, 0)
    equal(people.insert_many([person(i) for i in ALL[1:]]).inserted_ids, list(ALL[1:]))


def find(people):
    equal(people.find_one({"_id": 7}), person(7))
    equal(ids(people.find({"city": "Rome"})), list(ALL[1::2]))
    equal(people.find_one({"ssn": "900-00-0007"}), person(7))
    equal(people.find_one({"payment.card": "4000-0000-0000-0008"}), person(8))
    equal(people.find_one({"ssn": "900-00-9999"}), None)
    equal(ids(people.find({"tags": "group 3"})), list(ALL[3::5]))
    equal(ids(people.find({"ssn": {"$in": ["900-00-0001", "900-00-0002"]}})), [1, 2])
    equal(ids(people.find({"ssn": {"$ne": "900-00-0000"}})), list(ALL[1:]))
    equal(ids(people.find({"tags": "group 3", "city": "Rome", "_id": {"$lt": 20}})), [3, 13])
    equal(people.find_one({"_id": 3}, {"ssn": 1}), {"_id": 3, "ssn": "900-00-0003"})


def count(people):
    equal(people.count_documents({"tags": "group 3"}), 12)
    equal(people.count_documents({"ssn": "900-00-0003"}), 1)
    equal(people.estimated_document_count(), len(ALL))
    equal(people.database.command("count", "people", query={"tags": "group 3"})["n"], 12)
    equal(sorted(people.distinct("city", {"tags": "everyone"})), ["Oslo", "Rome"])


def cursor(people):
    equal(list(people.find({}, batch_size=7).sort("_id", 1)), [person(i) for i in ALL])


def update(people):
    moved = {"street": "Street of the moved", "zip": 1}
    result = people.update_one({"ssn": "900-00-0010"}, {"$set": {"ssn": "900-00-1010", "address": moved}})
    equal(result.modified_count, 1)
    people.update_one({"_id": 10}, {"$push": {"tags": "late"}})
    expected = {**person(10), "ssn": "900-00-1010", "address": moved, "tags": ["everyone", "group 0", "late"]}
    equal(people.find_one({"tags": "late"}), expected)
    people.update_one({"_id": 10}, {"$pull": {"tags": "late"}, "$unset": {"address": ""}, "$set": {"name": "X"}})
    equal(people.count_documents({"tags": "late"}), 0)
    assert "address" not in people.find_one({"_id": 10})

    result = people.update_many({"tags": "group 1"}, {"$set": {"payment.card": "4000-0000-0000-1111"}})
    equal(result.matched_count, 12)
    equal(ids(people.find({"payment.card": "4000-0000-0000-1111"})), list(ALL[1::5]))

    equal(people.replace_one({"ssn": "900-00-1010"}, person(10)).modified_count, 1)
    equal(people.find_one({"_id": 10}), person(10))

    result = people.update_one({"ssn": "900-00-2000"}, {"$set": {"city": "Bonn"}}, upsert=True)
    expected = {"_id": result.upserted_id, "ssn": "900-00-2000", "city": "Bonn"}
    equal(people.find_one({"ssn": "900-00-2000"}), expected)
    equal(people.delete_one({"ssn": "900-00-2000"}).deleted_count, 1)


def find_and_modify(people):
    change = {"$set": {"ssn": "900-00-1020"}}
    equal(people.find_one_and_update({"ssn": "900-00-0020"}, change), person(20))
    after = people.find_one_and_update(
        {"ssn": "900-00-1020"}, {"$set": {"ssn": "900-00-0020"}}, return_document=ReturnDocument.AFTER
    )
    equal(after, person(20))
    equal(people.find_one_and_delete({"ssn": "900-00-0020"}), person(20))
    equal(people.find_one_and_replace({"_id": 20}, person(20), upsert=True), None)


def bulk(people):
    writes = [
        InsertOne(person(100)),
        UpdateOne({"ssn": "900-00-0100"}, {"$set": {"ssn": "900-00-1100"}}),
        ReplaceOne({"ssn": "900-00-1100"}, {**person(100), "name": "bulk"}),
        InsertOne(person(101)),
        DeleteOne({"payment.card": "4000-0000-0000-0101"}),
    ]
    result = people.bulk_write(writes)
    equal((result.inserted_count, result.modified_count, result.deleted_count), (2, 2, 1))
    equal(people.find_one({"ssn": "900-00-0100"}), {**person(100), "name": "bulk"})

    for ordered, inserted in ((True, 1), (False, 2)):
        base = 110 if ordered else 120
        try:
            people.bulk_write([InsertOne(person(i)) for i in (base, 0, base + 1)], ordered=ordered)
            raise AssertionError("a duplicate was inserted")
        except BulkWriteError as error:
            equal(error.details["nInserted"], inserted)
            equal([(e["index"], e["code"]) for e in error.details["writeErrors"]], [(1, 11000)])
    equal(people.delete_many({"_id": {"$gte": 100}}).deleted_count, 4)


def transaction(client, people):
    with client.start_session() as session:
        with session.start_transaction():
            people.insert_one(person(200), session=session)
            people.update_one({"ssn": "900-00-0200"}, {"$set": {"ssn": "900-00-1200"}}, session=session)
            equal(people.find_one({"ssn": "900-00-1200"}), None)
        equal(people.find_one({"ssn": "900-00-1200"})["_id"], 200)

        session.start_transaction()
        people.insert_one(person(201), session=session)
        equal(people.find_one({"ssn": "900-00-0201"}, session=session), person(201))
        session.abort_transaction()
    equal(people.find_one({"ssn": "900-00-0201"}), None)
    equal(people.delete_one({"ssn": "900-00-1200"}).deleted_count, 1)


def unacknowledged(people):
    careless = people.with_options(write_concern=WriteConcern(w=0))
    careless.insert_one(person(300))
    # It may still be on its way.
    deadline = time.monotonic() + 30
    while people.count_documents({"ssn": "900-00-0300"}) == 0:
        assert time.monotonic() < deadline
    equal(people.delete_one({"ssn": "900-00-0300"}).deleted_count, 1)


def unique_index(people):
    name = people.create_index("ssn", unique=True)
    assert name in people.index_information()
    try:
        people.insert_one({**person(400), "ssn": "900-00-0005"})
        raise AssertionError("a duplicate was inserted")
    except DuplicateKeyError:
        pass
    people.drop_index(name)


def refused(people):
    try:
        found = ids(people.find({"ssn": {"$gt": "900-00-0050"}}))
        assert not SEALED, "answered, instead of refused"
        equal(found, list(ALL[51:]))
    except OperationFailure as error:
        assert SEALED and "fieldseal" in str(error), error


def is_sealed(value):
    return isinstance(value, bson.Binary) and value.subtype == 0x8F


def is_sealed_document(value):
    return set(value) == {"c", "e1"} and is_sealed(value["c"]) and len(value["e1"]) == 16


def stored(people):
    documents = list(people.find())
    equal(len(documents), len(ALL))
    for document in documents:
        equal(document["name"], f"person {document['_id']}")
        if not SEALED:
            equal(document["ssn"], f"900-00-{document['_id']:04}")
            continue
        assert is_sealed_document(document["ssn"])
        assert is_sealed_document(document["payment"]["card"])
        assert is_sealed(document["address"])
        assert all(map(is_sealed_document, document["tags"])) and len(document["tags"]) == 2
        equal(document["payment"]["kind"], "visa")
    raw = people.with_options(codec_options=bson.CodecOptions(document_class=RawBSONDocument))
    text = b"".join(document.raw for document in raw.find())
    for plain in (b"900-00-", b"4000-0000-", b"Street ", b"everyone"):
        equal(plain in text, not SEALED)


def delete(people):
    equal(people.delete_one({"ssn": "900-00-0000"}).deleted_count, 1)
    equal(people.delete_many({"tags": "group 3"}).deleted_count, 12)
    equal(people.delete_many({"ssn": {"$nin": ["900-00-0001"]}}).deleted_count, 46)
    equal(ids(people.find()), [1])


def main():
    print(f"version: {pymongo.version}")
    client = MongoClient(os.environ["FIELDSEAL_URI"])
    people = client[os.environ["DATABASE"]].people
    people.drop()
    insert(people)
    find(people)
    count(people)
    cursor(people)
    update(people)
    find_and_modify(people)
    bulk(people)
    transaction(client, people)
    unacknowledged(people)
    unique_index(people)
    refused(people)
    direct = MongoClient(os.environ["DIRECT_URI"])
    stored(direct[os.environ["DATABASE"]].people)
    delete(people)


if __name__ == "__main__":
    main()
