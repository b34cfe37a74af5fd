<?php
// PHP's driver through the proxy; the steps are those of ../README.md. This is
// the extension itself, under the library that most applications use on top.

declare(strict_types=1);

use MongoDB\BSON\Binary;
use MongoDB\Driver\BulkWrite;
use MongoDB\Driver\Command;
use MongoDB\Driver\Exception\BulkWriteException;
use MongoDB\Driver\Exception\CommandException;
use MongoDB\Driver\Exception\Exception;
use MongoDB\Driver\Manager;
use MongoDB\Driver\Query;
use MongoDB\Driver\WriteConcern;
use MongoDB\Driver\WriteResult;

const ALL = 60;
define('SEALED', getenv('SEALED') === '1');
define('DATABASE', getenv('DATABASE'));
define('PEOPLE', DATABASE . '.people');

function person(int $i): array
{
    return [
        '_id' => $i,
        'name' => "person $i",
        'city' => $i % 2 ? 'Rome' : 'Oslo',
        'ssn' => sprintf('900-00-%04d', $i),
        'payment' => ['card' => sprintf('4000-0000-0000-%04d', $i), 'kind' => 'visa'],
        'address' => ['street' => "Street $i", 'zip' => 10000 + $i, 'geo' => [1.5, $i]],
        'tags' => ['everyone', 'group ' . $i % 5],
    ];
}

function equal(mixed $found, mixed $expected): void
{
    if ($found !== $expected) {
        throw new RuntimeException(json_encode($found) . ' instead of ' . json_encode($expected));
    }
}

/** Runs what must fail with an error of the driver, and returns that. */
function failure(callable $action): Exception
{
    try {
        $action();
    } catch (Exception $exception) {
        return $exception;
    }
    throw new RuntimeException('no error');
}

function find(Manager $manager, array $filter, array $options = []): array
{
    $cursor = $manager->executeQuery(PEOPLE, new Query($filter, $options));
    $cursor->setTypeMap(['root' => 'array', 'document' => 'array', 'array' => 'array']);
    return $cursor->toArray();
}

function ids(Manager $manager, array $filter): array
{
    return array_column(find($manager, $filter, ['sort' => ['_id' => 1]]), '_id');
}

function command(Manager $manager, array $command, array $options = []): array
{
    $cursor = $manager->executeCommand(DATABASE, new Command($command), $options);
    $cursor->setTypeMap(['root' => 'array', 'document' => 'array', 'array' => 'array']);
    return $cursor->toArray();
}

function count_documents(Manager $manager, array $filter): int
{
    $pipeline = [['$match' => (object) $filter], ['$group' => ['_id' => 1, 'n' => ['$sum' => 1]]]];
    $counted = command($manager, ['aggregate' => 'people', 'pipeline' => $pipeline, 'cursor' => new stdClass()]);
    return $counted[0]['n'] ?? 0;
}

/** One bulk write, filled by `$fill`. */
function write(Manager $manager, callable $fill, bool $ordered = true, array $options = []): WriteResult
{
    $bulk = new BulkWrite(['ordered' => $ordered]);
    $fill($bulk);
    return $manager->executeBulkWrite(PEOPLE, $bulk, $options);
}

function insert(Manager $manager): void
{
    equal(write($manager, fn ($bulk) => $bulk->insert(person(0)))->getInsertedCount(), 1);
    $rest = function (BulkWrite $bulk) {
        foreach (range(1, ALL - 1) as $i) {
            $bulk->insert(person($i));
        }
    };
    equal(write($manager, $rest)->getInsertedCount(), ALL - 1);
}

function find_and_count(Manager $manager): void
{
    equal(find($manager, ['_id' => 7]), [person(7)]);
    equal(find($manager, ['ssn' => '900-00-0007']), [person(7)]);
    equal(find($manager, ['payment.card' => '4000-0000-0000-0008']), [person(8)]);
    equal(find($manager, ['ssn' => '900-00-9999']), []);
    equal(ids($manager, ['city' => 'Rome']), range(1, ALL - 1, 2));
    equal(ids($manager, ['tags' => 'group 3']), range(3, ALL - 1, 5));
    equal(ids($manager, ['ssn' => ['$in' => ['900-00-0001', '900-00-0002']]]), [1, 2]);
    equal(count_documents($manager, ['tags' => 'group 3']), 12);
    equal(count_documents($manager, ['ssn' => '900-00-0003']), 1);
    equal(command($manager, ['count' => 'people', 'query' => ['tags' => 'group 3']])[0]['n'], 12);
    $distinct = ['distinct' => 'people', 'key' => 'city', 'query' => ['tags' => 'everyone']];
    equal(count(command($manager, $distinct)[0]['values']), 2);
    equal(find($manager, [], ['batchSize' => 7, 'sort' => ['_id' => 1]]), array_map('person', range(0, ALL - 1)));
}

function update(Manager $manager): void
{
    $change = ['$set' => ['ssn' => '900-00-1010', 'address' => ['zip' => 1]], '$push' => ['tags' => 'late']];
    $result = write($manager, fn ($bulk) => $bulk->update(['ssn' => '900-00-0010'], $change));
    equal($result->getModifiedCount(), 1);
    $expected = ['ssn' => '900-00-1010', 'address' => ['zip' => 1], 'tags' => ['everyone', 'group 0', 'late']];
    equal(find($manager, ['tags' => 'late']), [array_replace(person(10), $expected)]);

    $change = ['$set' => ['payment.card' => '4000-0000-0000-1111']];
    $result = write($manager, fn ($bulk) => $bulk->update(['tags' => 'group 1'], $change, ['multi' => true]));
    equal($result->getMatchedCount(), 12);
    equal(ids($manager, ['payment.card' => '4000-0000-0000-1111']), range(1, ALL - 1, 5));

    equal(write($manager, fn ($bulk) => $bulk->update(['ssn' => '900-00-1010'], person(10)))->getModifiedCount(), 1);
    equal(find($manager, ['_id' => 10]), [person(10)]);

    $upsert = fn ($bulk) => $bulk->update(['ssn' => '900-00-2000'], ['$set' => ['city' => 'Bonn']], ['upsert' => true]);
    equal(write($manager, $upsert)->getUpsertedCount(), 1);
    $found = find($manager, ['ssn' => '900-00-2000'], ['projection' => ['_id' => 0]]);
    ksort($found[0]);
    equal($found, [['city' => 'Bonn', 'ssn' => '900-00-2000']]);
    equal(write($manager, fn ($bulk) => $bulk->delete(['ssn' => '900-00-2000']))->getDeletedCount(), 1);
}

function find_and_modify(Manager $manager): void
{
    $change = ['$set' => ['ssn' => '900-00-1020']];
    $reply = command($manager, ['findAndModify' => 'people', 'query' => ['ssn' => '900-00-0020'], 'update' => $change]);
    equal($reply[0]['value'], person(20));
    $reply = command($manager, ['findAndModify' => 'people', 'query' => ['ssn' => '900-00-1020'], 'remove' => true]);
    equal($reply[0]['value']['ssn'], '900-00-1020');
    write($manager, fn ($bulk) => $bulk->insert(person(20)));
}

function bulk(Manager $manager): void
{
    $result = write($manager, function (BulkWrite $bulk) {
        $bulk->insert(person(100));
        $bulk->update(['ssn' => '900-00-0100'], ['$set' => ['ssn' => '900-00-1100']]);
        $bulk->update(['ssn' => '900-00-1100'], person(100));
        $bulk->insert(person(101));
        $bulk->delete(['payment.card' => '4000-0000-0000-0101'], ['limit' => true]);
    });
    equal([$result->getInsertedCount(), $result->getModifiedCount(), $result->getDeletedCount()], [2, 2, 1]);
    equal(find($manager, ['ssn' => '900-00-0100']), [person(100)]);

    foreach ([[true, 110, 1], [false, 120, 2]] as [$ordered, $base, $inserted]) {
        $duplicate = function (BulkWrite $bulk) use ($base) {
            $bulk->insert(person($base));
            $bulk->insert(person(0));
            $bulk->insert(person($base + 1));
        };
        $error = failure(fn () => write($manager, $duplicate, $ordered));
        equal($error instanceof BulkWriteException, true);
        $result = $error->getWriteResult();
        equal($result->getInsertedCount(), $inserted);
        $errors = array_map(fn ($one) => [$one->getIndex(), $one->getCode()], array_values($result->getWriteErrors()));
        equal($errors, [[1, 11000]]);
    }
    equal(write($manager, fn ($bulk) => $bulk->delete(['_id' => ['$gte' => 100]]))->getDeletedCount(), 4);
}

function transaction(Manager $manager): void
{
    $session = $manager->startSession();
    $inside = ['session' => $session];
    $session->startTransaction();
    write($manager, fn ($bulk) => $bulk->insert(person(200)), true, $inside);
    equal(find($manager, ['ssn' => '900-00-0200']), []);
    $session->commitTransaction();
    equal(find($manager, ['ssn' => '900-00-0200']), [person(200)]);

    $session->startTransaction();
    write($manager, fn ($bulk) => $bulk->insert(person(201)), true, $inside);
    $cursor = $manager->executeQuery(PEOPLE, new Query(['ssn' => '900-00-0201']), $inside);
    equal(count($cursor->toArray()), 1);
    $session->abortTransaction();
    equal(find($manager, ['ssn' => '900-00-0201']), []);
    equal(write($manager, fn ($bulk) => $bulk->delete(['ssn' => '900-00-0200']))->getDeletedCount(), 1);
}

function unacknowledged(Manager $manager): void
{
    $careless = ['writeConcern' => new WriteConcern(0)];
    write($manager, fn ($bulk) => $bulk->insert(person(300)), true, $careless);
    // It may still be on its way.
    $deadline = time() + 30;
    while (count_documents($manager, ['ssn' => '900-00-0300']) === 0) {
        equal(time() < $deadline, true);
    }
    equal(write($manager, fn ($bulk) => $bulk->delete(['ssn' => '900-00-0300']))->getDeletedCount(), 1);
}

function unique_index(Manager $manager): void
{
    $index = ['key' => ['ssn' => 1], 'name' => 'ssn_1', 'unique' => true];
    command($manager, ['createIndexes' => 'people', 'indexes' => [$index]]);
    $duplicate = array_replace(person(400), ['ssn' => '900-00-0005']);
    equal(failure(fn () => write($manager, fn ($bulk) => $bulk->insert($duplicate)))->getCode(), 11000);
    command($manager, ['dropIndexes' => 'people', 'index' => 'ssn_1']);
}

function refused(Manager $manager): void
{
    $range = fn () => ids($manager, ['ssn' => ['$gt' => '900-00-0050']]);
    if (SEALED) {
        equal(str_contains(failure($range)->getMessage(), 'fieldseal'), true);
    } else {
        equal($range(), range(51, ALL - 1));
    }
}

function is_sealed(mixed $value): bool
{
    return $value instanceof Binary && $value->getType() === 0x8F;
}

function is_sealed_document(mixed $value): bool
{
    return is_array($value) && array_keys($value) === ['c', 'e1'] && is_sealed($value['c'])
        && strlen($value['e1']->getData()) === 16;
}

function stored(Manager $direct): void
{
    $documents = find($direct, []);
    equal(count($documents), ALL);
    foreach ($documents as $document) {
        equal(is_sealed_document($document['ssn']), SEALED);
        equal(is_sealed_document($document['payment']['card']), SEALED);
        equal(is_sealed($document['address']), SEALED);
        foreach ($document['tags'] as $tag) {
            equal(is_sealed_document($tag), SEALED);
        }
        equal($document['name'], "person {$document['_id']}");
        $bytes = serialize($document);
        foreach (['900-00-', '4000-0000-', 'Street ', 'everyone'] as $plain) {
            equal(str_contains($bytes, $plain), !SEALED);
        }
    }
}

echo 'version: ', phpversion('mongodb'), "\n";
$manager = new Manager(getenv('FIELDSEAL_URI'));
try {
    command($manager, ['drop' => 'people']);
} catch (CommandException $exception) {
    // It may not be there, which is an error on this server.
    equal($exception->getCode(), 26);
}
insert($manager);
find_and_count($manager);
update($manager);
find_and_modify($manager);
bulk($manager);
transaction($manager);
unacknowledged($manager);
unique_index($manager);
refused($manager);
stored(new Manager(getenv('DIRECT_URI')));
equal(write($manager, fn ($bulk) => $bulk->delete(['tags' => 'group 3']))->getDeletedCount(), 12);
equal(write($manager, fn ($bulk) => $bulk->delete(['ssn' => ['$ne' => '900-00-0001']]))->getDeletedCount(), 47);
