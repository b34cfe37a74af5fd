import static com.mongodb.client.model.Filters.and;
import static com.mongodb.client.model.Filters.eq;
import static com.mongodb.client.model.Filters.gt;
import static com.mongodb.client.model.Filters.gte;
import static com.mongodb.client.model.Filters.in;
import static com.mongodb.client.model.Updates.combine;
import static com.mongodb.client.model.Updates.push;
import static com.mongodb.client.model.Updates.set;

import com.mongodb.ClientSessionOptions;
import com.mongodb.MongoBulkWriteException;
import com.mongodb.MongoClient;
import com.mongodb.MongoClientURI;
import com.mongodb.MongoException;
import com.mongodb.MongoWriteException;
import com.mongodb.WriteConcern;
import com.mongodb.bulk.BulkWriteResult;
import com.mongodb.client.MongoCollection;
import com.mongodb.client.model.BulkWriteOptions;
import com.mongodb.client.model.DeleteOneModel;
import com.mongodb.client.model.IndexOptions;
import com.mongodb.client.model.InsertOneModel;
import com.mongodb.client.model.ReplaceOneModel;
import com.mongodb.client.model.Sorts;
import com.mongodb.client.model.UpdateOneModel;
import com.mongodb.client.model.UpdateOptions;
import com.mongodb.client.result.UpdateResult;
import com.mongodb.session.ClientSession;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.IntPredicate;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.bson.Document;
import org.bson.RawBsonDocument;
import org.bson.conversions.Bson;
import org.bson.types.Binary;

/**
 * Java's driver through the proxy; the steps are those of ../README.md.
 *
 * <p>The one that Debian has is 3.6, of 2018. It has sessions and retryable writes, which are on
 * here, but no transactions: those came with 3.8. Its count is the command of that name.
 */
public final class People {
    private static final boolean SEALED = System.getenv("SEALED").equals("1");

    private static Document person(int i) {
        return new Document("_id", i)
                .append("name", "person " + i)
                .append("city", i % 2 == 1 ? "Rome" : "Oslo")
                .append("ssn", String.format("900-00-%04d", i))
                .append("payment", new Document("card", String.format("4000-0000-0000-%04d", i)).append("kind", "visa"))
                .append("address", new Document("street", "Street " + i).append("zip", 10000 + i))
                .append("tags", Arrays.asList("everyone", "group " + i % 5));
    }

    private static void equal(Object found, Object expected) {
        if (!expected.equals(found)) {
            throw new AssertionError(found + " instead of " + expected);
        }
    }

    private static Set<Integer> all(IntPredicate keep) {
        return IntStream.range(0, 60).filter(keep).boxed().collect(Collectors.toCollection(TreeSet::new));
    }

    private static Set<Integer> ids(MongoCollection<Document> people, Bson filter) {
        Set<Integer> ids = new TreeSet<>();
        for (Document document : people.find(filter)) {
            ids.add(document.getInteger("_id"));
        }
        return ids;
    }

    private static Document one(MongoCollection<Document> people, Bson filter) {
        return people.find(filter).first();
    }

    private static void insert(MongoCollection<Document> people) {
        people.insertOne(person(0));
        people.insertMany(IntStream.range(1, 60).mapToObj(People::person).collect(Collectors.toList()));
    }

    private static void find(MongoCollection<Document> people) {
        equal(one(people, eq("_id", 7)), person(7));
        equal(one(people, eq("ssn", "900-00-0007")), person(7));
        equal(one(people, eq("payment.card", "4000-0000-0000-0008")), person(8));
        equal(ids(people, eq("ssn", "900-00-9999")), all(i -> false));
        equal(ids(people, eq("city", "Rome")), all(i -> i % 2 == 1));
        equal(ids(people, eq("tags", "group 3")), all(i -> i % 5 == 3));
        equal(ids(people, in("ssn", "900-00-0001", "900-00-0002")), all(i -> i == 1 || i == 2));
        equal(ids(people, and(eq("tags", "group 3"), eq("city", "Rome"))), all(i -> i % 10 == 3));
    }

    private static void count(MongoCollection<Document> people) {
        equal(people.count(), 60L);
        equal(people.count(eq("tags", "group 3")), 12L);
        equal(people.count(eq("ssn", "900-00-0003")), 1L);
        Set<String> cities = people.distinct("city", eq("tags", "everyone"), String.class).into(new TreeSet<>());
        equal(cities, new TreeSet<>(Arrays.asList("Oslo", "Rome")));
    }

    private static void cursor(MongoCollection<Document> people) {
        List<Document> found = people.find().sort(Sorts.ascending("_id")).batchSize(7).into(new ArrayList<>());
        equal(found, IntStream.range(0, 60).mapToObj(People::person).collect(Collectors.toList()));
    }

    private static void update(MongoCollection<Document> people) {
        Document moved = new Document("street", "Street of the moved").append("zip", 1);
        Bson change = combine(set("ssn", "900-00-1010"), set("address", moved), push("tags", "late"));
        equal(people.updateOne(eq("ssn", "900-00-0010"), change).getModifiedCount(), 1L);
        Document expected = person(10);
        expected.put("ssn", "900-00-1010");
        expected.put("address", moved);
        expected.put("tags", Arrays.asList("everyone", "group 0", "late"));
        equal(one(people, eq("tags", "late")), expected);

        Bson newCard = set("payment.card", "4000-0000-0000-1111");
        equal(people.updateMany(eq("tags", "group 1"), newCard).getMatchedCount(), 12L);
        equal(ids(people, eq("payment.card", "4000-0000-0000-1111")), all(i -> i % 5 == 1));

        equal(people.replaceOne(eq("ssn", "900-00-1010"), person(10)).getModifiedCount(), 1L);
        equal(one(people, eq("_id", 10)), person(10));

        UpdateOptions upsert = new UpdateOptions().upsert(true);
        UpdateResult upserted = people.updateOne(eq("ssn", "900-00-2000"), set("city", "Bonn"), upsert);
        Document stored = one(people, eq("ssn", "900-00-2000"));
        equal(stored.get("_id"), upserted.getUpsertedId().asObjectId().getValue());
        equal(stored.get("city"), "Bonn");
        equal(people.deleteOne(eq("ssn", "900-00-2000")).getDeletedCount(), 1L);
    }

    private static void findAndModify(MongoCollection<Document> people) {
        equal(people.findOneAndUpdate(eq("ssn", "900-00-0020"), set("ssn", "900-00-1020")), person(20));
        equal(people.findOneAndReplace(eq("ssn", "900-00-1020"), person(20)).get("ssn"), "900-00-1020");
        equal(people.findOneAndDelete(eq("ssn", "900-00-0020")), person(20));
        people.insertOne(person(20));
    }

    private static void bulk(MongoCollection<Document> people) {
        BulkWriteResult result = people.bulkWrite(Arrays.asList(
                new InsertOneModel<>(person(100)),
                new UpdateOneModel<>(eq("ssn", "900-00-0100"), set("ssn", "900-00-1100")),
                new ReplaceOneModel<>(eq("ssn", "900-00-1100"), person(100)),
                new InsertOneModel<>(person(101)),
                new DeleteOneModel<>(eq("payment.card", "4000-0000-0000-0101"))));
        equal(result.getInsertedCount(), 2);
        equal(result.getModifiedCount(), 2);
        equal(result.getDeletedCount(), 1);
        equal(one(people, eq("ssn", "900-00-0100")), person(100));

        bulkWithDuplicate(people, 110, true, 1);
        bulkWithDuplicate(people, 120, false, 2);
        equal(people.deleteMany(gte("_id", 100)).getDeletedCount(), 4L);
    }

    private static void bulkWithDuplicate(MongoCollection<Document> people, int base, boolean ordered, int inserted) {
        List<InsertOneModel<Document>> writes = IntStream.of(base, 0, base + 1)
                .mapToObj(i -> new InsertOneModel<>(person(i)))
                .collect(Collectors.toList());
        try {
            people.bulkWrite(writes, new BulkWriteOptions().ordered(ordered));
            throw new AssertionError("a duplicate was inserted");
        } catch (MongoBulkWriteException exception) {
            equal(exception.getWriteResult().getInsertedCount(), inserted);
            equal(exception.getWriteErrors().size(), 1);
            equal(exception.getWriteErrors().get(0).getIndex(), 1);
            equal(exception.getWriteErrors().get(0).getCode(), 11000);
        }
    }

    private static void session(MongoClient client, MongoCollection<Document> people) {
        ClientSessionOptions causal = ClientSessionOptions.builder().causallyConsistent(true).build();
        try (ClientSession session = client.startSession(causal)) {
            people.insertOne(session, person(200));
            equal(people.find(session, eq("ssn", "900-00-0200")).first(), person(200));
            equal(people.deleteOne(session, eq("ssn", "900-00-0200")).getDeletedCount(), 1L);
        }
    }

    private static void unacknowledged(MongoCollection<Document> people) {
        people.withWriteConcern(WriteConcern.UNACKNOWLEDGED).insertOne(person(300));
        // It may still be on its way.
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (people.count(eq("ssn", "900-00-0300")) == 0) {
            equal(System.nanoTime() < deadline, true);
        }
        equal(people.deleteOne(eq("ssn", "900-00-0300")).getDeletedCount(), 1L);
    }

    private static void uniqueIndex(MongoCollection<Document> people) {
        String name = people.createIndex(new Document("ssn", 1), new IndexOptions().unique(true));
        try {
            people.insertOne(person(400).append("ssn", "900-00-0005"));
            throw new AssertionError("a duplicate was inserted");
        } catch (MongoWriteException exception) {
            equal(exception.getCode(), 11000);
        }
        people.dropIndex(name);
    }

    private static void refused(MongoCollection<Document> people) {
        try {
            Set<Integer> found = ids(people, gt("ssn", "900-00-0050"));
            equal(SEALED, false);
            equal(found, all(i -> i > 50));
        } catch (MongoException exception) {
            equal(SEALED && exception.getMessage().contains("fieldseal"), true);
        }
    }

    private static boolean isSealed(Object value) {
        return value instanceof Binary && ((Binary) value).getType() == (byte) 0x8F;
    }

    private static boolean isSealedDocument(Object value) {
        if (!(value instanceof Document)) {
            return false;
        }
        Document document = (Document) value;
        return new ArrayList<>(document.keySet()).equals(Arrays.asList("c", "e1"))
                && isSealed(document.get("c"))
                && ((Binary) document.get("e1")).length() == 16;
    }

    private static void stored(MongoCollection<Document> people) {
        equal(people.count(), 60L);
        for (Document document : people.find()) {
            equal(isSealedDocument(document.get("ssn")), SEALED);
            equal(isSealedDocument(((Document) document.get("payment")).get("card")), SEALED);
            equal(isSealed(document.get("address")), SEALED);
            for (Object tag : (List<?>) document.get("tags")) {
                equal(isSealedDocument(tag), SEALED);
            }
            equal(document.get("name"), "person " + document.get("_id"));
        }
        for (RawBsonDocument raw : people.withDocumentClass(RawBsonDocument.class).find()) {
            String bytes = new String(raw.getByteBuffer().array(), StandardCharsets.ISO_8859_1);
            for (String plain : Arrays.asList("900-00-", "4000-0000-", "Street ", "everyone")) {
                equal(bytes.contains(plain), !SEALED);
            }
        }
    }

    private static void delete(MongoCollection<Document> people) {
        equal(people.deleteOne(eq("ssn", "900-00-0000")).getDeletedCount(), 1L);
        equal(people.deleteMany(eq("tags", "group 3")).getDeletedCount(), 12L);
        equal(people.count(), 47L);
    }

    private static MongoClient connect(String uri) {
        return new MongoClient(new MongoClientURI(uri));
    }

    private static MongoCollection<Document> people(MongoClient client) {
        return client.getDatabase(System.getenv("DATABASE")).getCollection("people");
    }

    // The driver doesn't say; the name of the file that Debian's link leads to does.
    private static String version() throws Exception {
        URI jar = MongoClient.class.getProtectionDomain().getCodeSource().getLocation().toURI();
        return Paths.get(jar).toRealPath().getFileName().toString().replaceAll(".*-|\\.jar", "");
    }

    public static void main(String[] arguments) throws Exception {
        Logger.getLogger("org.mongodb.driver").setLevel(Level.WARNING);
        System.out.println("version: " + version());
        try (MongoClient client = connect(System.getenv("FIELDSEAL_URI") + "&retryWrites=true");
                MongoClient direct = connect(System.getenv("DIRECT_URI"))) {
            MongoCollection<Document> people = people(client);
            people.drop();
            insert(people);
            find(people);
            count(people);
            cursor(people);
            update(people);
            findAndModify(people);
            bulk(people);
            session(client, people);
            unacknowledged(people);
            uniqueIndex(people);
            refused(people);
            stored(people(direct));
            delete(people);
        }
    }
}
