// streams.js - the streams of events: who reads them, how far, and what is set aside.
import { ago, ask, askAgain, duration, el, failure, note, number, orderLink, section, shortType, table, time, update } from "./base.js";
import { watch } from "./live.js";

const REFRESH_MS = 5000;

const code = (text) => el("span", { class: "code" }, text);

const GROUPS = [
  { name: "Stream", cell: (row) => code(row.stream) },
  { name: "Events", number: true, cell: (row) => number(row.length), wide: true },
  { name: "Group", cell: (row) => row.group },
  { name: "Lag", number: true, cell: (row) => number(row.lag) },
  { name: "Pending", number: true, cell: (row) => number(row.pending) },
  { name: "Aside", number: true, wide: true, cell: (row) => number(row.aside) },
  { name: "Oldest", number: true, cell: (row) => (row.oldest_pending_ms === null ? "–" : duration(row.oldest_pending_ms / 1000)) },
  { name: "Consumers", number: true, wide: true, cell: (row) => number(row.consumers) },
  { name: "Seen", cell: (row) => ago(row.seen_ms), wide: true },
];
const CONSUMERS = [
  { name: "Stream", cell: (row) => code(row.stream) },
  { name: "Group", cell: (row) => row.group },
  { name: "Consumer", cell: (row) => code(row.name) },
  { name: "Pending", number: true, cell: (row) => number(row.pending) },
  { name: "Seen", cell: (row) => ago(row.seen_ms) },
];

export function streams(main) {
  const groups = el("div");
  const consumers = el("div");
  const asides = el("div");
  const events = el("div");
  let asked = 0;
  let running = false;
  let ended = false;
  let how = ask;

  async function part(place, path, parameters, show) {
    if (ended) return;
    try {
      const answer = await how(path, parameters);
      update(place, answer.said ? note("warn", answer.said) : null, show(answer.items));
    } catch (error) {
      update(place, failure(error));
    }
  }
  async function refresh() {
    if (running) return;
    running = true;
    asked = Date.now();
    let members = [];
    await part(groups, "/api/streams", {}, (rows) => {
      members = rows.flatMap((row) => row.consumer_list.map((one) => ({ ...one, stream: row.stream, group: row.group })));
      return table("Groups", GROUPS, rows.map((row) => ({ ...row, key: `${row.stream} ${row.group}` })), "There is no group.");
    });
    update(consumers, table("Consumers", CONSUMERS, members.map((row) => ({ ...row, key: `${row.stream} ${row.group} ${row.name}` })),
      "There is no consumer."));
    await part(asides, "/api/aside", {}, (rows) => table("Events set aside", [
      { name: "Event", cell: (row) => row.event_id },
      { name: "Type", cell: (row) => shortType(row.type) },
      { name: "Reader", cell: (row) => row.context },
      { name: "Failed", number: true, cell: (row) => number(row.failed) },
      { name: "Waits for", cell: (row) => row.behind || "its next try", wide: true },
    ], rows, "No event is set aside."));
    await part(events, "/api/events", { count: 50 }, (rows) => table("Newest events", [
      { name: "Time", cell: (row) => time(row.time) },
      { name: "Domain", cell: (row) => row.context },
      { name: "Type", cell: (row) => shortType(row.type) },
      { name: "About", cell: (row) => ((row.subject || "").startsWith("ord_") ? orderLink(row.subject) : row.subject) },
      { name: "By", cell: (row) => row.actor, wide: true },
      { name: "Entry", cell: (row) => code(row.stream_id), wide: true },
    ], [...rows].reverse().map((row) => ({ ...row, key: `${row.context} ${row.partition} ${row.stream_id} ${row.event_id}` })),
    "There is no event."));
    how = askAgain;
    running = false;
  }
  main.append(el("h1", {}, "Streams"), section("Groups that read", groups), section("Consumers of these groups", consumers),
    section("Set aside", asides), section("Newest events", events));
  refresh();
  const unwatch = watch(() => {
    if (Date.now() - asked >= REFRESH_MS && !document.hidden) refresh();
  });
  return () => {
    ended = true;
    unwatch();
  };
}
