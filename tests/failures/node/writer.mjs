// The writer on Node's driver; what it does is in ../README.md.

import { createRequire } from 'node:module';
import { isDeepStrictEqual } from 'node:util';

const { MODULES, URI, DATABASE, WORKERS, READ } = process.env;
const require = createRequire(`${MODULES}/`);
const { MongoClient } = require('mongodb');

let ended = false;
class Wrong extends Error {}

async function tell(worker, op, number, work) {
  const [at, began] = [Date.now() / 1000, performance.now()];
  let [outcome, text] = ['', ''];
  try {
    outcome = (await work()) ? 'ok' : 'absent';
  } catch (error) {
    outcome = error instanceof Wrong ? 'wrong' : 'failed';
    text = `${error.name}: ${error.message}`.slice(0, 300);
  }
  const took = (performance.now() - began) / 1000;
  console.log(JSON.stringify({ at, took, worker, op, number, outcome, text }));
  return outcome === 'ok';
}

function person(worker, number) {
  const name = `${worker}-${number}`;
  return { _id: name, worker, number, ssn: `ssn ${name}`, note: `note ${name}` };
}

function found(answer, expected) {
  if (answer !== null && !isDeepStrictEqual(answer, expected)) {
    throw new Wrong(`${answer._id} in the place of ${expected._id}, or with other values`);
  }
  return answer !== null;
}

async function work(database, worker) {
  const [counters, people] = [database.collection('counters'), database.collection('people')];
  const reading = database.collection('people', { readPreference: READ });
  const acknowledged = [];
  for (let number = 1; !ended; number += 1) {
    const one = person(worker, number);
    await tell(worker, 'count', number,
      async () => (await counters.updateOne({ _id: worker }, { $inc: { n: 1 } })).matchedCount);
    if (await tell(worker, 'insert', number, async () => (await people.insertOne(one)).acknowledged)) {
      acknowledged.push(number);
      await tell(worker, 'find', number, async () => found(await reading.findOne({ ssn: one.ssn }), one));
    }
    if (acknowledged.length) {
      const old = person(worker, acknowledged[Math.floor(Math.random() * acknowledged.length)]);
      await tell(worker, 'read', old.number, async () => found(await reading.findOne({ _id: old._id }), old));
    }
    await new Promise((done) => { setTimeout(done, 50); });
  }
}

process.stdin.on('end', () => { ended = true; }).resume();
const client = await MongoClient.connect(URI);
await Promise.all([...Array(Number(WORKERS)).keys()].map((worker) => work(client.db(DATABASE), worker)));
await client.close();
console.log(JSON.stringify({ version: require('mongodb/package.json').version }));
