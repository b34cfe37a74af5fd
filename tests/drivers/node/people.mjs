// Node's driver through the proxy; the steps are those of ../README.md.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { MongoBulkWriteError, MongoClient, MongoServerError } from 'mongodb';

const { FIELDSEAL_URI, DIRECT_URI, DATABASE } = process.env;
const SEALED = process.env.SEALED === '1';
const ALL = [...Array(60).keys()];

const four = (i) => String(i).padStart(4, '0');

const person = (i) => ({
  _id: i,
  name: `person ${i}`,
  city: i % 2 ? 'Rome' : 'Oslo',
  ssn: `900-00-${four(i)}`,
  payment: { card: `4000-0000-0000-${four(i)}`, kind: 'visa' },
  address: { street: `Street ${i}`, zip: 10000 + i, geo: [1.5, i] },
  tags: ['everyone', `group ${i % 5}`],
});

const group = (n) => ALL.filter((i) => i % 5 === n);

async function ids(cursor) {
  return (await cursor.toArray()).map((document) => document._id).sort((a, b) => a - b);
}

async function insert(people) {
  assert.equal((await people.insertOne(person(0))).insertedId, 0);
  assert.equal((await people.insertMany(ALL.slice(1).map(person))).insertedCount, 59);
}

async function find(people) {
  assert.deepEqual(await people.findOne({ _id: 7 }), person(7));
  assert.deepEqual(await ids(people.find({ city: 'Rome' })), ALL.filter((i) => i % 2));
  assert.deepEqual(await people.findOne({ ssn: '900-00-0007' }), person(7));
  assert.deepEqual(await people.findOne({ 'payment.card': '4000-0000-0000-0008' }), person(8));
  assert.equal(await people.findOne({ ssn: '900-00-9999' }), null);
  assert.deepEqual(await ids(people.find({ tags: 'group 3' })), group(3));
  assert.deepEqual(await ids(people.find({ ssn: { $in: ['900-00-0001', '900-00-0002'] } })), [1, 2]);
  assert.deepEqual(await ids(people.find({ $or: [{ ssn: '900-00-0001' }, { city: 'Oslo', tags: 'group 4' }] })),
    [1, ...group(4).filter((i) => i % 2 === 0)]);
  assert.deepEqual(await people.findOne({ _id: 3 }, { projection: { ssn: 1 } }), { _id: 3, ssn: '900-00-0003' });
}

async function count(people) {
  assert.equal(await people.countDocuments({ tags: 'group 3' }), 12);
  assert.equal(await people.countDocuments({ ssn: '900-00-0003' }), 1);
  assert.equal(await people.estimatedDocumentCount(), 60);
  assert.deepEqual((await people.distinct('city', { tags: 'everyone' })).sort(), ['Oslo', 'Rome']);
}

async function cursor(people) {
  const seen = [];
  for await (const document of people.find({}, { batchSize: 7, sort: { _id: 1 } })) seen.push(document);
  assert.deepEqual(seen, ALL.map(person));
}

async function update(people) {
  const moved = { street: 'Street of the moved', zip: 1 };
  const changed = await people.updateOne({ ssn: '900-00-0010' }, { $set: { ssn: '900-00-1010', address: moved } });
  assert.equal(changed.modifiedCount, 1);
  await people.updateOne({ _id: 10 }, { $push: { tags: 'late' } });
  assert.deepEqual(await people.findOne({ tags: 'late' }),
    { ...person(10), ssn: '900-00-1010', address: moved, tags: ['everyone', 'group 0', 'late'] });
  await people.updateOne({ _id: 10 }, { $pull: { tags: 'late' }, $unset: { address: '' } });
  assert.equal(await people.countDocuments({ tags: 'late' }), 0);

  const many = await people.updateMany({ tags: 'group 1' }, { $set: { 'payment.card': '4000-0000-0000-1111' } });
  assert.equal(many.matchedCount, 12);
  assert.deepEqual(await ids(people.find({ 'payment.card': '4000-0000-0000-1111' })), group(1));

  assert.equal((await people.replaceOne({ ssn: '900-00-1010' }, person(10))).modifiedCount, 1);
  assert.deepEqual(await people.findOne({ _id: 10 }), person(10));

  const upserted = await people.updateOne({ ssn: '900-00-2000' }, { $set: { city: 'Bonn' } }, { upsert: true });
  assert.deepEqual(await people.findOne({ ssn: '900-00-2000' }),
    { _id: upserted.upsertedId, ssn: '900-00-2000', city: 'Bonn' });
  assert.equal((await people.deleteOne({ ssn: '900-00-2000' })).deletedCount, 1);
}

async function findAndModify(people) {
  const before = await people.findOneAndUpdate({ ssn: '900-00-0020' }, { $set: { ssn: '900-00-1020' } });
  assert.deepEqual(before, person(20));
  const after = await people.findOneAndUpdate(
    { ssn: '900-00-1020' }, { $set: { ssn: '900-00-0020' } }, { returnDocument: 'after' });
  assert.deepEqual(after, person(20));
  assert.deepEqual(await people.findOneAndDelete({ ssn: '900-00-0020' }), person(20));
  await people.findOneAndReplace({ _id: 20 }, person(20), { upsert: true });
}

async function bulk(people) {
  const result = await people.bulkWrite([
    { insertOne: { document: person(100) } },
    { updateOne: { filter: { ssn: '900-00-0100' }, update: { $set: { ssn: '900-00-1100' } } } },
    { replaceOne: { filter: { ssn: '900-00-1100' }, replacement: { ...person(100), name: 'bulk' } } },
    { insertOne: { document: person(101) } },
    { deleteOne: { filter: { 'payment.card': '4000-0000-0000-0101' } } },
  ]);
  assert.deepEqual([result.insertedCount, result.modifiedCount, result.deletedCount], [2, 2, 1]);
  assert.deepEqual(await people.findOne({ ssn: '900-00-0100' }), { ...person(100), name: 'bulk' });

  for (const [ordered, base, inserted] of [[true, 110, 1], [false, 120, 2]]) {
    const writes = [base, 0, base + 1].map((i) => ({ insertOne: { document: person(i) } }));
    await assert.rejects(people.bulkWrite(writes, { ordered }), (error) => {
      assert.ok(error instanceof MongoBulkWriteError, error);
      assert.equal(error.insertedCount, inserted);
      assert.deepEqual(error.writeErrors.map((one) => [one.index, one.code]), [[1, 11000]]);
      return true;
    });
  }
  assert.equal((await people.deleteMany({ _id: { $gte: 100 } })).deletedCount, 4);
}

async function transaction(client, people) {
  await client.withSession(async (session) => {
    await session.withTransaction(async () => {
      await people.insertOne(person(200), { session });
      await people.updateOne({ ssn: '900-00-0200' }, { $set: { ssn: '900-00-1200' } }, { session });
      assert.equal(await people.findOne({ ssn: '900-00-1200' }), null);
    });
    assert.equal((await people.findOne({ ssn: '900-00-1200' }))._id, 200);

    session.startTransaction();
    await people.insertOne(person(201), { session });
    assert.deepEqual(await people.findOne({ ssn: '900-00-0201' }, { session }), person(201));
    await session.abortTransaction();
  });
  assert.equal(await people.findOne({ ssn: '900-00-0201' }), null);
  assert.equal((await people.deleteOne({ ssn: '900-00-1200' })).deletedCount, 1);
}

async function unacknowledged(people) {
  await people.insertOne(person(300), { writeConcern: { w: 0 } });
  // It may still be on its way.
  const deadline = Date.now() + 30_000;
  while (await people.countDocuments({ ssn: '900-00-0300' }) === 0) assert.ok(Date.now() < deadline);
  assert.equal((await people.deleteOne({ ssn: '900-00-0300' })).deletedCount, 1);
}

async function uniqueIndex(people) {
  const name = await people.createIndex({ ssn: 1 }, { unique: true });
  assert.ok((await people.indexes()).some((index) => index.name === name));
  await assert.rejects(people.insertOne({ ...person(400), ssn: '900-00-0005' }), { code: 11000 });
  await people.dropIndex(name);
}

async function refused(people) {
  const query = ids(people.find({ ssn: { $gt: '900-00-0050' } }));
  if (!SEALED) return assert.deepEqual(await query, ALL.slice(51));
  await assert.rejects(query, (error) => error instanceof MongoServerError && /fieldseal/.test(error.message));
}

const isSealed = (value) => value._bsontype === 'Binary' && value.sub_type === 0x8f;
const isSealedDocument = (value) => Object.keys(value).join() === 'c,e1' && isSealed(value.c) && value.e1.length() === 16;

async function stored(people) {
  const documents = await people.find().toArray();
  assert.equal(documents.length, 60);
  for (const document of documents) {
    if (!SEALED) {
      assert.equal(document.ssn, `900-00-${four(document._id)}`);
      continue;
    }
    assert.equal(document.name, `person ${document._id}`);
    assert.equal(document.payment.kind, 'visa');
    assert.ok(isSealedDocument(document.ssn) && isSealedDocument(document.payment.card));
    assert.ok(isSealed(document.address));
    assert.ok(document.tags.length === 2 && document.tags.every(isSealedDocument));
  }
  const raw = Buffer.concat(await people.find({}, { raw: true }).toArray());
  for (const plain of ['900-00-', '4000-0000-', 'Street ', 'everyone']) {
    assert.equal(raw.includes(plain), !SEALED, plain);
  }
}

async function remove(people) {
  assert.equal((await people.deleteOne({ ssn: '900-00-0000' })).deletedCount, 1);
  assert.equal((await people.deleteMany({ tags: 'group 3' })).deletedCount, 12);
  assert.equal((await people.deleteMany({ ssn: { $nin: ['900-00-0001'] } })).deletedCount, 46);
  assert.deepEqual(await ids(people.find()), [1]);
}

const packageFile = new URL('node_modules/mongodb/package.json', import.meta.url);
console.log(`version: ${JSON.parse(readFileSync(packageFile)).version}`);
const client = new MongoClient(FIELDSEAL_URI);
const direct = new MongoClient(DIRECT_URI);
try {
  const people = client.db(DATABASE).collection('people');
  await people.drop();
  await insert(people);
  await find(people);
  await count(people);
  await cursor(people);
  await update(people);
  await findAndModify(people);
  await bulk(people);
  await transaction(client, people);
  await unacknowledged(people);
  await uniqueIndex(people);
  await refused(people);
  await stored(direct.db(DATABASE).collection('people'));
  await remove(people);
} finally {
  await client.close();
  await direct.close();
}
