// subscriber.js - prints every event of orders as it happens, once for each that is handled.
//
//   subscriber.js PROTO PASSWORD_FILE [GROUP]   the folder of the .proto files; the password of the user "subscriber"; a
//                                               name of its own, "printer"
//
// With redis and protobufjs (examples/run node-subscriber). TANDEM_REDIS_PORT: 6390.
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const protobuf = require("protobufjs");
const { createClient, commandOptions } = require("redis");

const STREAM = "order:{0}:events"; // one for each partition
const [proto, passwordFile, group = "printer"] = process.argv.slice(2);
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

async function main() {
  const password = fs.readFileSync(passwordFile, "ascii").split("\n")[0];
  const server = createClient({ username: "subscriber", password, socket: { port: +(process.env.TANDEM_REDIS_PORT ?? 6390) } });
  const bytes = commandOptions({ returnBuffers: true });
  await server.connect();
  await server.xGroupCreate(STREAM, group, "0", { MKSTREAM: true }).catch((error) => {
    if (!error.message.includes("BUSYGROUP")) throw error;
  });
  for (;;) {
    // What a consumer that died had taken is ours after a minute; then what nobody has taken.
    let entries = (await server.xAutoClaim(bytes, STREAM, group, consumer, 60000, "0", { COUNT: 100 })).messages;
    if (entries.length === 0) {
      const read = await server.xReadGroup(bytes, group, consumer, { key: STREAM, id: ">" }, { COUNT: 100, BLOCK: 10000 });
      entries = read?.[0].messages ?? [];
    }
    for (const entry of entries.filter(Boolean)) { // null: it was deleted meanwhile
      eventsOf(entry.message).forEach(handle);
      await server.xAck(STREAM, group, entry.id);
    }
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
