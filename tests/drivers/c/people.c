/* The C driver through the proxy; the steps are those of ../README.md. */

#define _GNU_SOURCE
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PEOPLE = 60 };

static bool sealed;

#define CHECK(condition)                                                             \
   do {                                                                              \
      if (!(condition)) {                                                            \
         fprintf (stderr, "people.c:%d: %s: %s\n", __LINE__, #condition, error.message); \
         exit (1);                                                                   \
      }                                                                              \
   } while (0)

/* The last error of the driver, for CHECK. */
static bson_error_t error;

static bson_t *
person (int i)
{
   char name[32], ssn[32], card[32], street[32], group[32];
   snprintf (name, sizeof name, "person %d", i);
   snprintf (ssn, sizeof ssn, "900-00-%04d", i);
   snprintf (card, sizeof card, "4000-0000-0000-%04d", i);
   snprintf (street, sizeof street, "Street %d", i);
   snprintf (group, sizeof group, "group %d", i % 5);
   return BCON_NEW ("_id", BCON_INT32 (i),
                    "name", BCON_UTF8 (name),
                    "city", BCON_UTF8 (i % 2 ? "Rome" : "Oslo"),
                    "ssn", BCON_UTF8 (ssn),
                    "payment", "{", "card", BCON_UTF8 (card), "kind", BCON_UTF8 ("visa"), "}",
                    "address", "{", "street", BCON_UTF8 (street), "zip", BCON_INT32 (10000 + i), "}",
                    "tags", "[", BCON_UTF8 ("everyone"), BCON_UTF8 (group), "]");
}

/* A document written as JSON with single quotes. */
static bson_t *
json (const char *text)
{
   char *quoted = strdup (text);
   for (char *c = quoted; *c; c++) {
      if (*c == '\'') {
         *c = '"';
      }
   }
   bson_t *document = bson_new_from_json ((const uint8_t *) quoted, -1, &error);
   CHECK (document);
   free (quoted);
   return document;
}

/* How many documents a filter finds; -1 when it is refused. The first is given as `first`. */
static int
find (mongoc_collection_t *people, const char *filter, const char *options, bson_t **first)
{
   bson_t *query = json (filter), *with = json (options);
   mongoc_cursor_t *cursor = mongoc_collection_find_with_opts (people, query, with, NULL);
   const bson_t *document;
   int found = 0;
   while (mongoc_cursor_next (cursor, &document)) {
      if (found++ == 0 && first) {
         *first = bson_copy (document);
      }
   }
   if (mongoc_cursor_error (cursor, &error)) {
      found = -1;
   }
   mongoc_cursor_destroy (cursor);
   bson_destroy (query);
   bson_destroy (with);
   return found;
}

static bool
finds_person (mongoc_collection_t *people, const char *filter, int i)
{
   bson_t *found = NULL, *expected = person (i);
   bool same = find (people, filter, "{}", &found) == 1 && bson_equal (found, expected);
   bson_destroy (expected);
   if (found) {
      bson_destroy (found);
   }
   return same;
}

static int64_t
count (mongoc_collection_t *people, const char *filter)
{
   bson_t *query = json (filter);
   int64_t number = mongoc_collection_count_documents (people, query, NULL, NULL, NULL, &error);
   bson_destroy (query);
   return number;
}

static int64_t
reply_number (const bson_t *reply, const char *name)
{
   bson_iter_t iter;
   return bson_iter_init_find (&iter, reply, name) ? bson_iter_as_int64 (&iter) : -1;
}

static bool
insert_one (mongoc_collection_t *people, int i, const bson_t *options)
{
   bson_t *document = person (i);
   bool done = mongoc_collection_insert_one (people, document, options, NULL, &error);
   bson_destroy (document);
   return done;
}

/* Runs an update and returns what the reply says under `name`. */
typedef bool (*update_function) (
   mongoc_collection_t *, const bson_t *, const bson_t *, const bson_t *, bson_t *, bson_error_t *);

static int64_t
update_with (mongoc_collection_t *people, update_function function, const char *filter, bson_t *change,
             const char *options, const char *name)
{
   bson_t *query = json (filter), *with = json (options), reply;
   CHECK (function (people, query, change, with, &reply, &error));
   int64_t number = reply_number (&reply, name);
   bson_destroy (&reply);
   bson_destroy (query);
   bson_destroy (with);
   bson_destroy (change);
   return number;
}

static int64_t
delete_where (mongoc_collection_t *people, const char *filter)
{
   bson_t *query = json (filter), reply;
   CHECK (mongoc_collection_delete_many (people, query, NULL, &reply, &error));
   int64_t number = reply_number (&reply, "deletedCount");
   bson_destroy (&reply);
   bson_destroy (query);
   return number;
}

static void
insert (mongoc_collection_t *people)
{
   bson_t *rest[PEOPLE - 1];
   CHECK (insert_one (people, 0, NULL));
   for (int i = 1; i < PEOPLE; i++) {
      rest[i - 1] = person (i);
   }
   CHECK (mongoc_collection_insert_many (people, (const bson_t **) rest, PEOPLE - 1, NULL, NULL, &error));
   for (int i = 1; i < PEOPLE; i++) {
      bson_destroy (rest[i - 1]);
   }
}

static void
find_and_count (mongoc_collection_t *people)
{
   CHECK (finds_person (people, "{'_id': 7}", 7));
   CHECK (finds_person (people, "{'ssn': '900-00-0007'}", 7));
   CHECK (finds_person (people, "{'payment.card': '4000-0000-0000-0008'}", 8));
   CHECK (find (people, "{'ssn': '900-00-9999'}", "{}", NULL) == 0);
   CHECK (find (people, "{'city': 'Rome'}", "{}", NULL) == 30);
   CHECK (find (people, "{'tags': 'group 3', 'city': 'Rome'}", "{}", NULL) == 6);
   CHECK (find (people, "{'ssn': {'$in': ['900-00-0001', '900-00-0002']}}", "{}", NULL) == 2);
   CHECK (count (people, "{'tags': 'group 3'}") == 12);
   CHECK (count (people, "{'ssn': '900-00-0003'}") == 1);
   CHECK (mongoc_collection_estimated_document_count (people, NULL, NULL, NULL, &error) == PEOPLE);

   bson_t *command = json ("{'distinct': 'people', 'key': 'city', 'query': {'tags': 'everyone'}}"), reply;
   CHECK (mongoc_collection_read_command_with_opts (people, command, NULL, NULL, &reply, &error));
   bson_iter_t iter, values;
   CHECK (bson_iter_init_find (&iter, &reply, "values") && bson_iter_recurse (&iter, &values));
   CHECK (bson_iter_next (&values) && bson_iter_next (&values) && !bson_iter_next (&values));
   bson_destroy (&reply);
   bson_destroy (command);
}

static void
cursor (mongoc_collection_t *people)
{
   bson_t *all = bson_new (), *options = json ("{'batchSize': 7, 'sort': {'_id': 1}}");
   mongoc_cursor_t *cursor = mongoc_collection_find_with_opts (people, all, options, NULL);
   const bson_t *document;
   int next = 0;
   for (; mongoc_cursor_next (cursor, &document); next++) {
      bson_t *expected = person (next);
      CHECK (bson_equal (document, expected));
      bson_destroy (expected);
   }
   CHECK (!mongoc_cursor_error (cursor, &error));
   CHECK (next == PEOPLE);
   mongoc_cursor_destroy (cursor);
   bson_destroy (options);
   bson_destroy (all);
}

static void
update (mongoc_collection_t *people)
{
   bson_t *change = json ("{'$set': {'ssn': '900-00-1010', 'address': {'zip': 1}}, '$push': {'tags': 'late'}}");
   CHECK (update_with (
             people, mongoc_collection_update_one, "{'ssn': '900-00-0010'}", change, "{}", "modifiedCount") == 1);
   CHECK (find (people, "{'tags': 'late', 'ssn': '900-00-1010'}", "{}", NULL) == 1);

   change = json ("{'$set': {'payment.card': '4000-0000-0000-1111'}}");
   CHECK (update_with (
             people, mongoc_collection_update_many, "{'tags': 'group 1'}", change, "{}", "matchedCount") == 12);
   CHECK (find (people, "{'payment.card': '4000-0000-0000-1111'}", "{}", NULL) == 12);

   CHECK (update_with (
             people, mongoc_collection_replace_one, "{'ssn': '900-00-1010'}", person (10), "{}", "modifiedCount") == 1);
   CHECK (finds_person (people, "{'_id': 10}", 10));

   change = json ("{'$set': {'city': 'Bonn'}}");
   CHECK (update_with (people, mongoc_collection_update_one, "{'ssn': '900-00-2000'}", change, "{'upsert': true}",
                       "upsertedCount") == 1);
   CHECK (find (people, "{'ssn': '900-00-2000', 'city': 'Bonn'}", "{}", NULL) == 1);
   CHECK (delete_where (people, "{'ssn': '900-00-2000'}") == 1);
}

static void
find_and_modify (mongoc_collection_t *people)
{
   bson_t *query = json ("{'ssn': '900-00-0020'}"), *change = json ("{'$set': {'ssn': '900-00-1020'}}"), reply;
   CHECK (mongoc_collection_find_and_modify (
      people, query, NULL, change, NULL, false, false, true /* the new one */, &reply, &error));
   bson_iter_t iter, ssn;
   CHECK (bson_iter_init (&iter, &reply) && bson_iter_find_descendant (&iter, "value.ssn", &ssn));
   CHECK (!strcmp (bson_iter_utf8 (&ssn, NULL), "900-00-1020"));
   bson_destroy (&reply);
   bson_destroy (query);
   bson_destroy (change);

   query = json ("{'ssn': '900-00-1020'}");
   CHECK (mongoc_collection_find_and_modify (people, query, NULL, NULL, NULL, true, false, false, &reply, &error));
   bson_destroy (&reply);
   bson_destroy (query);
   CHECK (insert_one (people, 20, NULL));
}

static void
add_insert (mongoc_bulk_operation_t *bulk, int i)
{
   bson_t *document = person (i);
   CHECK (mongoc_bulk_operation_insert_with_opts (bulk, document, NULL, &error));
   bson_destroy (document);
}

static void
bulk_with_duplicate (mongoc_collection_t *people, int base, const char *options, int64_t inserted)
{
   bson_t *with = json (options), reply;
   mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts (people, with);
   add_insert (bulk, base);
   add_insert (bulk, 0);
   add_insert (bulk, base + 1);
   CHECK (mongoc_bulk_operation_execute (bulk, &reply, &error) == 0);
   CHECK (error.code == 11000);
   CHECK (reply_number (&reply, "nInserted") == inserted);
   bson_destroy (&reply);
   mongoc_bulk_operation_destroy (bulk);
   bson_destroy (with);
}

static void
bulk (mongoc_collection_t *people)
{
   bson_t *filter = json ("{'ssn': '900-00-0100'}"), *change = json ("{'$set': {'ssn': '900-00-1100'}}");
   bson_t *changed = json ("{'ssn': '900-00-1100'}"), *whole = person (100), reply;
   bson_t *card = json ("{'payment.card': '4000-0000-0000-0101'}");
   mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts (people, NULL);
   add_insert (bulk, 100);
   CHECK (mongoc_bulk_operation_update_one_with_opts (bulk, filter, change, NULL, &error));
   CHECK (mongoc_bulk_operation_replace_one_with_opts (bulk, changed, whole, NULL, &error));
   add_insert (bulk, 101);
   CHECK (mongoc_bulk_operation_remove_one_with_opts (bulk, card, NULL, &error));
   CHECK (mongoc_bulk_operation_execute (bulk, &reply, &error));
   CHECK (reply_number (&reply, "nInserted") == 2);
   CHECK (reply_number (&reply, "nModified") == 2);
   CHECK (reply_number (&reply, "nRemoved") == 1);
   CHECK (finds_person (people, "{'ssn': '900-00-0100'}", 100));
   bson_destroy (&reply);
   mongoc_bulk_operation_destroy (bulk);
   bson_destroy (filter);
   bson_destroy (change);
   bson_destroy (changed);
   bson_destroy (whole);
   bson_destroy (card);

   bulk_with_duplicate (people, 110, "{'ordered': true}", 1);
   bulk_with_duplicate (people, 120, "{'ordered': false}", 2);
   CHECK (delete_where (people, "{'_id': {'$gte': 100}}") == 4);
}

static void
transaction (mongoc_client_t *client, mongoc_collection_t *people)
{
   mongoc_client_session_t *session = mongoc_client_start_session (client, NULL, &error);
   CHECK (session);
   bson_t *inside = bson_new ();
   CHECK (mongoc_client_session_append (session, inside, &error));

   CHECK (mongoc_client_session_start_transaction (session, NULL, &error));
   CHECK (insert_one (people, 200, inside));
   CHECK (find (people, "{'ssn': '900-00-0200'}", "{}", NULL) == 0);
   CHECK (mongoc_client_session_commit_transaction (session, NULL, &error));
   CHECK (finds_person (people, "{'ssn': '900-00-0200'}", 200));

   CHECK (mongoc_client_session_start_transaction (session, NULL, &error));
   CHECK (insert_one (people, 201, inside));
   bson_t *filter = json ("{'ssn': '900-00-0201'}");
   CHECK (mongoc_collection_count_documents (people, filter, inside, NULL, NULL, &error) == 1);
   CHECK (mongoc_client_session_abort_transaction (session, &error));
   CHECK (count (people, "{'ssn': '900-00-0201'}") == 0);
   CHECK (delete_where (people, "{'ssn': '900-00-0200'}") == 1);

   bson_destroy (filter);
   bson_destroy (inside);
   mongoc_client_session_destroy (session);
}

static void
unacknowledged (mongoc_collection_t *people)
{
   bson_t *careless = json ("{'writeConcern': {'w': 0}}");
   CHECK (insert_one (people, 300, careless));
   /* It may still be on its way. */
   time_t deadline = time (NULL) + 30;
   while (count (people, "{'ssn': '900-00-0300'}") == 0) {
      CHECK (time (NULL) < deadline);
   }
   CHECK (delete_where (people, "{'ssn': '900-00-0300'}") == 1);
   bson_destroy (careless);
}

static void
unique_index (mongoc_collection_t *people)
{
   bson_t *command = json ("{'createIndexes': 'people', 'indexes': [{'key': {'ssn': 1}, 'name': 'ssn_1', 'unique': true}]}");
   CHECK (mongoc_collection_write_command_with_opts (people, command, NULL, NULL, &error));
   bson_t *duplicate = json ("{'_id': 400, 'ssn': '900-00-0005'}");
   CHECK (!mongoc_collection_insert_one (people, duplicate, NULL, NULL, &error) && error.code == 11000);
   CHECK (mongoc_collection_drop_index (people, "ssn_1", &error));
   bson_destroy (duplicate);
   bson_destroy (command);
}

static void
refused (mongoc_collection_t *people)
{
   int found = find (people, "{'ssn': {'$gt': '900-00-0050'}}", "{}", NULL);
   if (sealed) {
      CHECK (found == -1 && strstr (error.message, "fieldseal"));
   } else {
      CHECK (found == 9);
   }
}

static bool
is_sealed (const bson_t *document, const char *path)
{
   bson_iter_t iter, value;
   bson_subtype_t subtype;
   uint32_t length;
   const uint8_t *bytes;
   if (!bson_iter_init (&iter, document) || !bson_iter_find_descendant (&iter, path, &value) ||
       !BSON_ITER_HOLDS_BINARY (&value)) {
      return false;
   }
   bson_iter_binary (&value, &subtype, &length, &bytes);
   return subtype == 0x8F;
}

static void
stored (mongoc_collection_t *people)
{
   static const char *const plain[] = {"900-00-", "4000-0000-", "Street ", "everyone"};
   static const char *const paths[] = {"ssn.c", "payment.card.c", "address", "tags.0.c", "tags.1.c"};
   bson_t *all = bson_new ();
   mongoc_cursor_t *cursor = mongoc_collection_find_with_opts (people, all, NULL, NULL);
   const bson_t *document;
   int found = 0;
   for (; mongoc_cursor_next (cursor, &document); found++) {
      for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
         bool there = memmem (bson_get_data (document), document->len, plain[i], strlen (plain[i])) != NULL;
         CHECK (there == !sealed);
      }
      for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
         CHECK (is_sealed (document, paths[i]) == sealed);
      }
   }
   CHECK (!mongoc_cursor_error (cursor, &error));
   CHECK (found == PEOPLE);
   mongoc_cursor_destroy (cursor);
   bson_destroy (all);
}

static mongoc_client_t *
connect_to (const char *name)
{
   mongoc_uri_t *uri = mongoc_uri_new_with_error (getenv (name), &error);
   CHECK (uri);
   mongoc_client_t *client = mongoc_client_new_from_uri (uri);
   CHECK (client && mongoc_client_set_error_api (client, MONGOC_ERROR_API_VERSION_2));
   mongoc_uri_destroy (uri);
   return client;
}

int
main (void)
{
   mongoc_init ();
   printf ("version: %s\n", mongoc_get_version ());
   sealed = !strcmp (getenv ("SEALED"), "1");
   mongoc_client_t *client = connect_to ("FIELDSEAL_URI"), *direct = connect_to ("DIRECT_URI");
   mongoc_collection_t *people = mongoc_client_get_collection (client, getenv ("DATABASE"), "people");
   mongoc_collection_t *below = mongoc_client_get_collection (direct, getenv ("DATABASE"), "people");

   /* It may not be there, which is an error on this server. */
   CHECK (mongoc_collection_drop (people, &error) || error.code == 26);
   insert (people);
   find_and_count (people);
   cursor (people);
   update (people);
   find_and_modify (people);
   bulk (people);
   transaction (client, people);
   unacknowledged (people);
   unique_index (people);
   refused (people);
   stored (below);
   CHECK (delete_where (people, "{'tags': 'group 3'}") == 12);
   CHECK (delete_where (people, "{'ssn': {'$ne': '900-00-0001'}}") == 47);

   mongoc_collection_destroy (below);
   mongoc_collection_destroy (people);
   mongoc_client_destroy (direct);
   mongoc_client_destroy (client);
   mongoc_cleanup ();
   return 0;
}
