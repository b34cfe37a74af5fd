// mongosh through the proxy; the steps are those of ../README.md. What the shell
// itself adds to the driver under it: its helpers and the commands they send.

const { DIRECT_URI, DATABASE } = process.env;
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

function equal(found, expected) {
  const [left, right] = [EJSON.stringify(found), EJSON.stringify(expected)];
  if (left !== right) throw new Error(`${left} instead of ${right}`);
}

function fails(action, isExpected) {
  try {
    action();
  } catch (error) {
    if (!isExpected(error)) throw error;
    return;
  }
  throw new Error(`no error from ${action}`);
}

const ids = (cursor) => cursor.toArray().map((document) => document._id).sort((a, b) => a - b);

print(`version: ${version()}`);
// The shell was started with the connection string, as a person does.
const connection = db.getMongo();
const people = connection.getDB(DATABASE).getCollection('people');
people.drop();

// Insert.
equal(people.insertOne(person(0)).insertedId, 0);
people.insertMany(ALL.slice(1).map(person));

// Find.
equal(people.findOne({ ssn: '900-00-0007' }), person(7));
equal(people.findOne({ 'payment.card': '4000-0000-0000-0008' }), person(8));
equal(ids(people.find({ tags: 'group 3' })), ALL.filter((i) => i % 5 === 3));
equal(ids(people.find({ city: 'Rome' })), ALL.filter((i) => i % 2));

// Count and distinct.
equal(people.countDocuments({ tags: 'group 3' }), 12);
equal(people.find({ ssn: '900-00-0003' }).count(), 1);
equal(people.estimatedDocumentCount(), 60);
equal(people.distinct('city', { tags: 'everyone' }).sort(), ['Oslo', 'Rome']);

// A cursor over many batches.
equal(people.find().sort({ _id: 1 }).batchSize(7).toArray(), ALL.map(person));

// Update, replace, upsert.
equal(people.updateOne({ ssn: '900-00-0010' }, { $set: { ssn: '900-00-1010' }, $push: { tags: 'late' } }).modifiedCount, 1);
equal(people.findOne({ tags: 'late' }).ssn, '900-00-1010');
equal(people.replaceOne({ ssn: '900-00-1010' }, person(10)).modifiedCount, 1);
equal(people.findOne({ _id: 10 }), person(10));
equal(people.updateMany({ tags: 'group 1' }, { $set: { 'payment.card': '4000-0000-0000-1111' } }).matchedCount, 12);
equal(people.find({ 'payment.card': '4000-0000-0000-1111' }).count(), 12);
people.updateOne({ ssn: '900-00-2000' }, { $set: { city: 'Bonn' } }, { upsert: true });
equal(people.findOne({ ssn: '900-00-2000' }, { _id: 0, ssn: 1 }), { ssn: '900-00-2000' });
equal(people.deleteOne({ ssn: '900-00-2000' }).deletedCount, 1);

// Find and modify, in the shell's old form too.
const change = { query: { ssn: '900-00-0020' }, update: { $set: { ssn: '900-00-1020' } }, new: true };
equal(people.findAndModify(change), { ...person(20), ssn: '900-00-1020' });
equal(people.findOneAndDelete({ ssn: '900-00-1020' })._id, 20);
people.insertOne(person(20));

// Bulk writes.
equal(people.bulkWrite([
  { insertOne: { document: person(100) } },
  { updateOne: { filter: { ssn: '900-00-0100' }, update: { $set: { ssn: '900-00-1100' } } } },
  { deleteOne: { filter: { ssn: '900-00-1100' } } },
]).deletedCount, 1);
fails(() => people.insertMany([person(110), person(0), person(111)], { ordered: false }), (error) => error.code === 11000);
equal(people.deleteMany({ _id: { $gte: 100 } }).deletedCount, 2);

// Transactions.
const session = connection.startSession();
const inside = session.getDatabase(DATABASE).getCollection('people');
session.startTransaction();
inside.insertOne(person(200));
equal(people.findOne({ ssn: '900-00-0200' }), null);
session.commitTransaction();
equal(people.deleteOne({ ssn: '900-00-0200' }).deletedCount, 1);
session.startTransaction();
inside.insertOne(person(201));
equal(inside.findOne({ ssn: '900-00-0201' }), person(201));
session.abortTransaction();
equal(people.findOne({ ssn: '900-00-0201' }), null);
session.endSession();

// A unique index on a sealed field.
const index = people.createIndex({ ssn: 1 }, { unique: true });
equal(people.getIndexes().some((one) => one.name === index), true);
fails(() => people.insertOne({ ...person(400), ssn: '900-00-0005' }), (error) => error.code === 11000);
people.dropIndex(index);

// What a person at the shell looks at.
equal(connection.getDB(DATABASE).getCollectionNames(), ['people']);
equal(people.stats().count, 60);
equal(people.find({ ssn: '900-00-0003' }).explain().ok, 1);

// A query that is refused.
const range = () => ids(people.find({ ssn: { $gt: '900-00-0050' } }));
if (SEALED) fails(range, (error) => /fieldseal/.test(error.message));
else equal(range(), ALL.slice(51));

// What is stored.
const isSealed = (value) => value._bsontype === 'Binary' && value.sub_type === 0x8f;
const isSealedDocument = (value) => Object.keys(value).join() === 'c,e1' && isSealed(value.c);
for (const document of new Mongo(DIRECT_URI).getDB(DATABASE).getCollection('people').find().toArray()) {
  const sealed = isSealedDocument(document.ssn) && isSealedDocument(document.payment.card)
    && isSealed(document.address) && document.tags.every(isSealedDocument);
  equal(sealed, SEALED);
  equal(EJSON.stringify(document).includes('900-00-'), !SEALED);
}

// Delete.
equal(people.deleteOne({ ssn: '900-00-0000' }).deletedCount, 1);
equal(people.deleteMany({ ssn: { $ne: '900-00-0001' } }).deletedCount, 58);
