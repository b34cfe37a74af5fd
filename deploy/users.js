// Run once by mongosh, in the service `users` of docker-compose.yml: makes the replica set
// and MongoDB's users. Later runs find both made.

const { readFileSync } = require("fs");

const secrets = process.env.SECRETS ?? "/run/secrets";
const secret = (name) => readFileSync(`${secrets}/${name}`, "utf8").trim();
const admin = db.getSiblingDB("admin");

function logIn() {
  try {
    return admin.auth("admin", secret("mongodb_admin_password")).ok === 1;
  } catch {
    return false;
  }
}

if (!logIn()) {
  // Until there is a user, MongoDB lets who comes from its own loopback do this, and nobody else.
  try {
    rs.initiate({ _id: "rs0", members: [{ _id: 0, host: process.env.MEMBER }] });
  } catch (error) {
    if (error.codeName !== "AlreadyInitialized") throw error;
  }
  while (!db.hello().isWritablePrimary) sleep(200);
  admin.createUser({
    user: "admin",
    pwd: secret("mongodb_admin_password"),
    // Keeps users and the replica set, and reads no data.
    roles: ["userAdminAnyDatabase", "clusterAdmin"],
  });
  if (!logIn()) throw new Error("the user that was just made cannot log in");
}

const music = db.getSiblingDB("musiccorp");
if (music.getUser("musiccorp") === null) {
  music.createUser({
    user: "musiccorp",
    pwd: secret("mongodb_service_password"),
    roles: [{ role: "readWrite", db: "musiccorp" }],
  });
}
print("the replica set and its users are there");
