// The writer on Go's driver; what it does is in ../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
	"go.mongodb.org/mongo-driver/mongo/readpref"
	"go.mongodb.org/mongo-driver/version"
)

type person struct {
	ID     string `bson:"_id"`
	Worker int32
	Number int32
	Ssn    string
	Note   string
}

type line struct {
	At      float64 `json:"at"`
	Took    float64 `json:"took"`
	Worker  int32   `json:"worker"`
	Op      string  `json:"op"`
	Number  int32   `json:"number"`
	Outcome string  `json:"outcome"`
	Text    string  `json:"text"`
}

var (
	ctx      = context.Background()
	ended    int32
	printing sync.Mutex
	errWrong = errors.New("another document, or other values")
)

func newPerson(worker, number int32) person {
	name := fmt.Sprintf("%d-%d", worker, number)
	return person{name, worker, number, "ssn " + name, "note " + name}
}

func tell(worker int32, op string, number int32, work func() (bool, error)) bool {
	began := time.Now()
	done, err := work()
	told := line{float64(began.UnixNano()) / 1e9, time.Since(began).Seconds(), worker, op, number, "ok", ""}
	switch {
	case errors.Is(err, errWrong):
		told.Outcome, told.Text = "wrong", err.Error()
	case err != nil:
		told.Outcome, told.Text = "failed", err.Error()
	case !done:
		told.Outcome = "absent"
	}
	text, err := json.Marshal(told)
	if err != nil {
		panic(err)
	}
	printing.Lock()
	defer printing.Unlock()
	fmt.Println(string(text))
	return told.Outcome == "ok"
}

func found(reading *mongo.Collection, filter bson.D, expected person) (bool, error) {
	var answer person
	err := reading.FindOne(ctx, filter).Decode(&answer)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	if err == nil && answer != expected {
		err = errWrong
	}
	return err == nil, err
}

func work(database *mongo.Database, reading *mongo.Collection, worker int32) {
	var acknowledged []int32
	for number := int32(1); atomic.LoadInt32(&ended) == 0; number++ {
		one := newPerson(worker, number)
		tell(worker, "count", number, func() (bool, error) {
			change := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}
			done, err := database.Collection("counters").UpdateOne(ctx, bson.D{{Key: "_id", Value: worker}}, change)
			return err == nil && done.MatchedCount == 1, err
		})
		inserted := tell(worker, "insert", number, func() (bool, error) {
			_, err := database.Collection("people").InsertOne(ctx, one)
			return err == nil, err
		})
		if inserted {
			acknowledged = append(acknowledged, number)
			tell(worker, "find", number, func() (bool, error) {
				return found(reading, bson.D{{Key: "ssn", Value: one.Ssn}}, one)
			})
		}
		if len(acknowledged) > 0 {
			old := newPerson(worker, acknowledged[rand.Intn(len(acknowledged))])
			tell(worker, "read", old.Number, func() (bool, error) {
				return found(reading, bson.D{{Key: "_id", Value: old.ID}}, old)
			})
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func main() {
	client, err := mongo.Connect(ctx, options.Client().ApplyURI(os.Getenv("URI")))
	if err != nil {
		panic(err)
	}
	preference := readpref.Primary()
	if os.Getenv("READ") == "secondaryPreferred" {
		preference = readpref.SecondaryPreferred()
	}
	database := client.Database(os.Getenv("DATABASE"))
	reading := database.Collection("people", options.Collection().SetReadPreference(preference))
	count, err := strconv.Atoi(os.Getenv("WORKERS"))
	if err != nil {
		panic(err)
	}
	var workers sync.WaitGroup
	for worker := 0; worker < count; worker++ {
		workers.Add(1)
		go func(worker int32) {
			defer workers.Done()
			work(database, reading, worker)
		}(int32(worker))
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		panic(err)
	}
	atomic.StoreInt32(&ended, 1)
	workers.Wait()
	fmt.Printf("{\"version\": %q}\n", version.Driver)
}
