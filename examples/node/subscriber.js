// subscriber.js - prints every event of orders as it happens, once for each that is handled.
//
//   subscriber.js PROTO PASSWORD_FILE [GROUP]   the folder of the .proto files; the password of the user "subscriber"; a
//                                               name of its own, "printer"
//
// With redis and protobufjs (examples/run node-subscriber). TANDEM_REDIS_HOST and TANDEM_REDIS_PORT: 127.0.0.1, 6390; or
// TANDEM_REDIS: cluster://HOST:PORT. TANDEM_REDIS_TLS_CA, with _CERT and _KEY, when Redis has TLS. TANDEM_PARTITIONS: 1. Each
// partition is read over a connection of its own.
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const protobuf = require("protobufjs");
const { createClient, createCluster, commandOptions } = require("redis");

const [proto, passwordFile, group = "printer"] = process.argv.slice(2);
const { TANDEM_PARTITIONS = "1", TANDEM_REDIS = "", TANDEM_REDIS_HOST = "127.0.0.1", TANDEM_REDIS_PORT = "6390" } = process.env;
const { TANDEM_REDIS_TLS_CA, TANDEM_REDIS_TLS_CERT, TANDEM_REDIS_TLS_KEY } = process.env;
const consumer = `${os.hostname()}-${process.pid}`;
const EventBatch = protobuf.loadSync(`${proto}/tandem/events/v1/events.proto`).lookupType("tandem.events.v1.EventBatch");

// { type, subject, seq, data } of each event of an entry; subject and seq are the same when it comes again.
function eventsOf(fields) {
  if (fields.type) { // a single event: one that was replayed
    return [{ type: `${fields.type}`, subject: `${fields.subject}`, seq: `${fields.seq}`, data: fields.data }];
  }
  const { data } = EventBatch.decode(fields.batch ?? Buffer.alloc(0));
  return Object.entries(fields)
    .filter(([type]) => !["time", "batch", "replayed"].includes(type))
    .flatMap(([type, names]) => `${names}`.split(" ").map((name) => ({ type, name })))
    .map(({ type, name }, n) => {
      const slash = name.lastIndexOf("/");
      return { type, subject: name.slice(0, slash), seq: name.slice(slash + 1), data: data[n] ?? Buffer.alloc(0) };
    });
}

// Yours. What it does must be safe to do twice.
function handle({ type, subject, seq, data }) {
  console.log(type.slice(type.lastIndexOf(".") + 1), subject, seq, `${data.length} bytes`);
}

function tlsOptions() {
  if (!TANDEM_REDIS_TLS_CA) return {};
  const [ca, cert, key] = [TANDEM_REDIS_TLS_CA, TANDEM_REDIS_TLS_CERT, TANDEM_REDIS_TLS_KEY].map((file) => fs.readFileSync(file));
  return { tls: true, ca, cert, key };
}

function connect(login) {
  const [, url] = /^cluster:(\/\/[^,]*)/.exec(TANDEM_REDIS) ?? [];
  const tls = tlsOptions();
  const server = url
    ? createCluster({ rootNodes: [{ url: `${tls.tls ? "rediss" : "redis"}:${url}` }], defaults: { ...login, socket: tls } })
    : createClient({ ...login, socket: { ...tls, host: TANDEM_REDIS_HOST, port: +TANDEM_REDIS_PORT } });
  server.on("error", (error) => console.error(error.message)); // it connects again
  return server.connect().then(() => server);
}

async function follow(stream, login) {
  const server = await connect(login);
  const bytes = commandOptions({ returnBuffers: true });
  await server.xGroupCreate(stream, group, "0", { MKSTREAM: true }).catch((error) => {
    if (!error.message.includes("BUSYGROUP")) throw error;
  });
  for (;;) {
    // What a consumer that died had taken is ours after a minute; then what nobody has taken.
    let entries = (await server.xAutoClaim(bytes, stream, group, consumer, 60000, "0", { COUNT: 100 })).messages;
    if (entries.length === 0) {
      const read = await server.xReadGroup(bytes, group, consumer, { key: stream, id: ">" }, { COUNT: 100, BLOCK: 10000 });
      entries = read?.[0].messages ?? [];
    }
    for (const entry of entries.filter(Boolean)) { // null: it was deleted meanwhile
      eventsOf(entry.message).forEach(handle);
      await server.xAck(stream, group, entry.id);
    }
  }
}

const login = { username: "subscriber", password: fs.readFileSync(passwordFile, "ascii").split("\n")[0] };
const streams = Array.from({ length: +TANDEM_PARTITIONS }, (_, p) => `order:{${p}}:events`);
Promise.all(streams.map((stream) => follow(stream, login))).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
