// Go's driver through the proxy; the steps are those of ../README.md.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sort"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
	"go.mongodb.org/mongo-driver/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/version"
)

type payment struct {
	Card string
	Kind string
}

type address struct {
	Street string
	Zip    int32
	Geo    []float64
}

type person struct {
	ID      int32 `bson:"_id"`
	Name    string
	City    string
	Ssn     string
	Payment payment
	Address address
	Tags    []string
}

var (
	ctx    = context.Background()
	sealed = os.Getenv("SEALED") == "1"
)

func newPerson(i int32) person {
	city := "Oslo"
	if i%2 == 1 {
		city = "Rome"
	}
	return person{
		ID:      i,
		Name:    fmt.Sprintf("person %d", i),
		City:    city,
		Ssn:     fmt.Sprintf("900-00-%04d", i),
		Payment: payment{fmt.Sprintf("4000-0000-0000-%04d", i), "visa"},
		Address: address{fmt.Sprintf("Street %d", i), 10000 + i, []float64{1.5, float64(i)}},
		Tags:    []string{"everyone", fmt.Sprintf("group %d", i%5)},
	}
}

func all(keep func(int32) bool) []int32 {
	var ids []int32
	for i := int32(0); i < 60; i++ {
		if keep(i) {
			ids = append(ids, i)
		}
	}
	return ids
}

// check ends the program, with the line that called it, unless there is no error.
func check(err error) {
	if err != nil {
		fail(fmt.Sprint(err))
	}
}

func equal(found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		fail(fmt.Sprintf("%v instead of %v", found, expected))
	}
}

func fail(reason string) {
	_, file, line, _ := runtime.Caller(2)
	fmt.Fprintf(os.Stderr, "%s:%d: %s\n", filepath.Base(file), line, reason)
	os.Exit(1)
}

func findOne(people *mongo.Collection, filter interface{}) person {
	var found person
	check(people.FindOne(ctx, filter).Decode(&found))
	return found
}

func absent(ctx context.Context, people *mongo.Collection, filter interface{}) bool {
	return errors.Is(people.FindOne(ctx, filter).Err(), mongo.ErrNoDocuments)
}

func findIds(people *mongo.Collection, filter interface{}) ([]int32, error) {
	cursor, err := people.Find(ctx, filter)
	if err != nil {
		return nil, err
	}
	var found []person
	check(cursor.All(ctx, &found))
	var ids []int32
	for _, one := range found {
		ids = append(ids, one.ID)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids, nil
}

func equalIds(people *mongo.Collection, filter interface{}, expected []int32) {
	ids, err := findIds(people, filter)
	check(err)
	equal(ids, expected)
}

func count(people *mongo.Collection, filter interface{}) int64 {
	number, err := people.CountDocuments(ctx, filter)
	check(err)
	return number
}

func insert(people *mongo.Collection) {
	_, err := people.InsertOne(ctx, newPerson(0))
	check(err)
	var rest []interface{}
	for i := int32(1); i < 60; i++ {
		rest = append(rest, newPerson(i))
	}
	result, err := people.InsertMany(ctx, rest)
	check(err)
	equal(len(result.InsertedIDs), 59)
}

func find(people *mongo.Collection) {
	equal(findOne(people, bson.M{"_id": 7}), newPerson(7))
	equal(findOne(people, bson.M{"ssn": "900-00-0007"}), newPerson(7))
	equal(findOne(people, bson.M{"payment.card": "4000-0000-0000-0008"}), newPerson(8))
	equal(absent(ctx, people, bson.M{"ssn": "900-00-9999"}), true)
	equalIds(people, bson.M{"city": "Rome"}, all(func(i int32) bool { return i%2 == 1 }))
	equalIds(people, bson.M{"tags": "group 3"}, all(func(i int32) bool { return i%5 == 3 }))
	equalIds(people, bson.M{"ssn": bson.M{"$in": bson.A{"900-00-0001", "900-00-0002"}}}, []int32{1, 2})
}

func countAndDistinct(people *mongo.Collection) {
	equal(count(people, bson.M{"tags": "group 3"}), int64(12))
	equal(count(people, bson.M{"ssn": "900-00-0003"}), int64(1))
	estimate, err := people.EstimatedDocumentCount(ctx)
	check(err)
	equal(estimate, int64(60))
	cities, err := people.Distinct(ctx, "city", bson.M{"tags": "everyone"})
	check(err)
	equal(len(cities), 2)
}

func cursor(people *mongo.Collection) {
	sorted := options.Find().SetBatchSize(7).SetSort(bson.M{"_id": 1})
	cursor, err := people.Find(ctx, bson.M{}, sorted)
	check(err)
	next := int32(0)
	for ; cursor.Next(ctx); next++ {
		var one person
		check(cursor.Decode(&one))
		equal(one, newPerson(next))
	}
	check(cursor.Err())
	equal(next, int32(60))
}

func update(people *mongo.Collection) {
	moved := address{"Street of the moved", 1, []float64{}}
	change := bson.M{"$set": bson.M{"ssn": "900-00-1010", "address": moved}, "$push": bson.M{"tags": "late"}}
	result, err := people.UpdateOne(ctx, bson.M{"ssn": "900-00-0010"}, change)
	check(err)
	equal(result.ModifiedCount, int64(1))
	expected := newPerson(10)
	expected.Ssn, expected.Address, expected.Tags = "900-00-1010", moved, []string{"everyone", "group 0", "late"}
	equal(findOne(people, bson.M{"tags": "late"}), expected)

	card := bson.M{"payment.card": "4000-0000-0000-1111"}
	result, err = people.UpdateMany(ctx, bson.M{"tags": "group 1"}, bson.M{"$set": card})
	check(err)
	equal(result.MatchedCount, int64(12))
	equalIds(people, card, all(func(i int32) bool { return i%5 == 1 }))

	result, err = people.ReplaceOne(ctx, bson.M{"ssn": "900-00-1010"}, newPerson(10))
	check(err)
	equal(result.ModifiedCount, int64(1))
	equal(findOne(people, bson.M{"_id": 10}), newPerson(10))

	upsert := options.Update().SetUpsert(true)
	change = bson.M{"$set": bson.M{"city": "Bonn"}, "$setOnInsert": bson.M{"_id": 500}}
	_, err = people.UpdateOne(ctx, bson.M{"ssn": "900-00-2000"}, change, upsert)
	check(err)
	equal(findOne(people, bson.M{"ssn": "900-00-2000"}), person{ID: 500, City: "Bonn", Ssn: "900-00-2000"})
	deleted, err := people.DeleteOne(ctx, bson.M{"ssn": "900-00-2000"})
	check(err)
	equal(deleted.DeletedCount, int64(1))
}

func findAndModify(people *mongo.Collection) {
	var found person
	change := bson.M{"$set": bson.M{"ssn": "900-00-1020"}}
	check(people.FindOneAndUpdate(ctx, bson.M{"ssn": "900-00-0020"}, change).Decode(&found))
	equal(found, newPerson(20))
	check(people.FindOneAndDelete(ctx, bson.M{"ssn": "900-00-1020"}).Decode(&found))
	equal(found.Ssn, "900-00-1020")
	_, err := people.InsertOne(ctx, newPerson(20))
	check(err)
}

func bulk(people *mongo.Collection) {
	bulked := newPerson(100)
	bulked.Name = "bulk"
	result, err := people.BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(newPerson(100)),
		mongo.NewUpdateOneModel().SetFilter(bson.M{"ssn": "900-00-0100"}).
			SetUpdate(bson.M{"$set": bson.M{"ssn": "900-00-1100"}}),
		mongo.NewReplaceOneModel().SetFilter(bson.M{"ssn": "900-00-1100"}).SetReplacement(bulked),
		mongo.NewInsertOneModel().SetDocument(newPerson(101)),
		mongo.NewDeleteOneModel().SetFilter(bson.M{"payment.card": "4000-0000-0000-0101"}),
	})
	check(err)
	equal([]int64{result.InsertedCount, result.ModifiedCount, result.DeletedCount}, []int64{2, 2, 1})
	equal(findOne(people, bson.M{"ssn": "900-00-0100"}), bulked)

	for ordered, base := range map[bool]int32{true: 110, false: 120} {
		var writes []mongo.WriteModel
		for _, i := range []int32{base, 0, base + 1} {
			writes = append(writes, mongo.NewInsertOneModel().SetDocument(newPerson(i)))
		}
		_, err := people.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(ordered))
		var several mongo.BulkWriteException
		equal(errors.As(err, &several), true)
		equal(len(several.WriteErrors), 1)
		equal([]int{several.WriteErrors[0].Index, several.WriteErrors[0].Code}, []int{1, 11000})
	}
	deleted, err := people.DeleteMany(ctx, bson.M{"_id": bson.M{"$gte": 100}})
	check(err)
	equal(deleted.DeletedCount, int64(4))
}

func transaction(client *mongo.Client, people *mongo.Collection) {
	session, err := client.StartSession()
	check(err)
	defer session.EndSession(ctx)
	_, err = session.WithTransaction(ctx, func(inside mongo.SessionContext) (interface{}, error) {
		if _, err := people.InsertOne(inside, newPerson(200)); err != nil {
			return nil, err
		}
		equal(absent(ctx, people, bson.M{"ssn": "900-00-0200"}), true)
		return people.UpdateOne(inside, bson.M{"ssn": "900-00-0200"}, bson.M{"$set": bson.M{"ssn": "900-00-1200"}})
	})
	check(err)
	equal(findOne(people, bson.M{"ssn": "900-00-1200"}).ID, int32(200))

	check(mongo.WithSession(ctx, session, func(inside mongo.SessionContext) error {
		check(session.StartTransaction())
		_, err := people.InsertOne(inside, newPerson(201))
		check(err)
		equal(absent(inside, people, bson.M{"ssn": "900-00-0201"}), false)
		return session.AbortTransaction(inside)
	}))
	equal(absent(ctx, people, bson.M{"ssn": "900-00-0201"}), true)
	_, err = people.DeleteOne(ctx, bson.M{"ssn": "900-00-1200"})
	check(err)
}

func unacknowledged(people *mongo.Collection) {
	careless, err := people.Clone(options.Collection().SetWriteConcern(writeconcern.New(writeconcern.W(0))))
	check(err)
	if _, err = careless.InsertOne(ctx, newPerson(300)); !errors.Is(err, mongo.ErrUnacknowledgedWrite) {
		check(err)
	}
	// It may still be on its way.
	for deadline := time.Now().Add(30 * time.Second); count(people, bson.M{"ssn": "900-00-0300"}) == 0; {
		equal(time.Now().Before(deadline), true)
	}
	_, err = people.DeleteOne(ctx, bson.M{"ssn": "900-00-0300"})
	check(err)
}

func uniqueIndex(people *mongo.Collection) {
	model := mongo.IndexModel{Keys: bson.D{{Key: "ssn", Value: 1}}, Options: options.Index().SetUnique(true)}
	name, err := people.Indexes().CreateOne(ctx, model)
	check(err)
	duplicate := newPerson(400)
	duplicate.Ssn = "900-00-0005"
	_, err = people.InsertOne(ctx, duplicate)
	equal(mongo.IsDuplicateKeyError(err), true)
	_, err = people.Indexes().DropOne(ctx, name)
	check(err)
}

func refused(people *mongo.Collection) {
	ids, err := findIds(people, bson.M{"ssn": bson.M{"$gt": "900-00-0050"}})
	if sealed {
		equal(err != nil && strings.Contains(err.Error(), "fieldseal"), true)
		return
	}
	check(err)
	equal(ids, all(func(i int32) bool { return i > 50 }))
}

func isSealed(value interface{}) bool {
	binary, ok := value.(primitive.Binary)
	return ok && binary.Subtype == 0x8F
}

func isSealedDocument(value interface{}) bool {
	document, ok := value.(bson.M)
	if !ok || len(document) != 2 || !isSealed(document["c"]) {
		return false
	}
	token, ok := document["e1"].(primitive.Binary)
	return ok && len(token.Data) == 16
}

func stored(people *mongo.Collection) {
	cursor, err := people.Find(ctx, bson.M{})
	check(err)
	number := 0
	for ; cursor.Next(ctx); number++ {
		for _, plain := range []string{"900-00-", "4000-0000-", "Street ", "everyone"} {
			equal(bytes.Contains(cursor.Current, []byte(plain)), !sealed)
		}
		var document bson.M
		check(cursor.Decode(&document))
		equal(isSealedDocument(document["ssn"]), sealed)
		equal(isSealedDocument(document["payment"].(bson.M)["card"]), sealed)
		equal(isSealed(document["address"]), sealed)
		for _, tag := range document["tags"].(bson.A) {
			equal(isSealedDocument(tag), sealed)
		}
		equal(strings.HasPrefix(document["name"].(string), "person "), true)
	}
	check(cursor.Err())
	equal(number, 60)
}

func remove(people *mongo.Collection) {
	deleted, err := people.DeleteOne(ctx, bson.M{"ssn": "900-00-0000"})
	check(err)
	equal(deleted.DeletedCount, int64(1))
	deleted, err = people.DeleteMany(ctx, bson.M{"tags": "group 3"})
	check(err)
	equal(deleted.DeletedCount, int64(12))
	equal(count(people, bson.M{}), int64(47))
}

func connect(name string) (*mongo.Client, *mongo.Collection) {
	client, err := mongo.Connect(ctx, options.Client().ApplyURI(os.Getenv(name)))
	check(err)
	return client, client.Database(os.Getenv("DATABASE")).Collection("people")
}

func main() {
	fmt.Println("version:", version.Driver)
	client, people := connect("FIELDSEAL_URI")
	_, direct := connect("DIRECT_URI")
	check(people.Drop(ctx))
	insert(people)
	find(people)
	countAndDistinct(people)
	cursor(people)
	update(people)
	findAndModify(people)
	bulk(people)
	transaction(client, people)
	unacknowledged(people)
	uniqueIndex(people)
	refused(people)
	stored(direct)
	remove(people)
}
