// overview.js - how it goes now: what needs a look, plots, services, and how far each reader of a stream is.
import { bytes, duration, el, number, section, table, time, update } from "./base.js";
import { needs } from "./alarms.js";
import { points, watch } from "./live.js";
import { plot } from "./plots.js";

const perSecond = (value) => (value === null || value === undefined ? "–" : `${number(value)}/s`);
const percent = (value) => (value === null || value === undefined ? "–" : `${number(value * 100)} %`);

const SERVICES = [
  { name: "Service", cell: (row) => row.name || "?" },
  { name: "State", cell: (row) => el("span", { class: `badge ${row.up ? "ok" : "bad"}` }, row.up ? "UP" : "AWAY") },
  { name: "Messages", number: true, cell: (row) => perSecond(row.messages) },
  { name: "Events", number: true, cell: (row) => perSecond(row.events) },
  { name: "Half within", number: true, wide: true, cell: (row) => duration(row.p50) },
  { name: "99 % within", number: true, wide: true, cell: (row) => duration(row.p99) },
  { name: "CPU", number: true, wide: true, cell: (row) => percent(row.cpu) },
  { name: "Memory", number: true, wide: true, cell: (row) => bytes(row.memory) },
  { name: "Since", wide: true, cell: (row) => (row.start_s ? time(new Date(row.start_s * 1000).toISOString()) : "–") },
  { name: "Version", cell: (row) => row.version, wide: true },
  { name: "Metrics", cell: (row) => row.url, wide: true },
];

const READERS = [
  { name: "Reader", cell: (row) => row.reader },
  { name: "Stream", cell: (row) => el("span", { class: "code" }, row.stream) },
  { name: "Events", number: true, cell: (row) => perSecond(row.events) },
  { name: "Lag", number: true, cell: (row) => number(row.lag) },
  { name: "Pending", number: true, cell: (row) => number(row.pending) },
  { name: "Oldest", number: true, cell: (row) => duration(row.oldest_s) },
  { name: "Aside", number: true, wide: true, cell: (row) => number(row.aside) },
  { name: "Retried", number: true, wide: true, cell: (row) => number(row.parked) },
  { name: "Given up", number: true, wide: true, cell: (row) => number(row.dead) },
];

const partitionOf = (stream) => Number((stream.match(/\{(\d+)\}/) || [0, 0])[1]);

function most(values) {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
}

function sum(values) {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((all, value) => all + value, 0);
}

/** The readers' rows, by partition; where there are several, each reader's sum (and the oldest of all) comes first. */
export function readerRows(streams) {
  const rows = streams.map((row) => ({ ...row, key: `${row.reader} ${row.stream}` }))
    .sort((a, b) => a.reader.localeCompare(b.reader) || partitionOf(a.stream) - partitionOf(b.stream));
  const sums = [];
  for (const reader of new Set(rows.map((row) => row.reader))) {
    const own = rows.filter((row) => row.reader === reader);
    const all = (name) => sum(own.map((row) => row[name]));
    if (own.length > 1)
      sums.push({ key: reader, reader, stream: `all ${own.length}`, events: all("events"), lag: all("lag"), pending: all("pending"),
        oldest_s: most(own.map((row) => row.oldest_s)), aside: all("aside"), parked: all("parked"), dead: all("dead") });
  }
  return [...sums, ...rows];
}

export function overview(main) {
  const now = needs();
  const services = el("div");
  const readers = el("div");
  const plots = [
    plot("Orders placed", [{ key: "placed", name: "placed" }], perSecond),
    plot("Orders decided", [{ key: "reserved", name: "reserved" }, { key: "rejected", name: "rejected" }], perSecond),
    plot("Orders ended", [{ key: "confirmed", name: "confirmed" }, { key: "cancelled", name: "cancelled" },
      { key: "expired", name: "expired" }], perSecond),
    plot("Time to decision", [{ key: "decision_p50", name: "half within" }, { key: "decision_p99", name: "99 % within" }], duration),
    plot("Calls", [{ key: "calls", name: "calls" }], perSecond),
    plot("Load, against its limit", [{ key: "load", name: "load" }], percent, 1),
    plot("Orders refused", [{ key: "shed", name: "too much load" }, { key: "refused", name: "too many under way" }], perSecond),
    plot("Time of a call", [{ key: "call_p50", name: "half within" }, { key: "call_p99", name: "99 % within" }], duration),
    plot("Events not delivered yet", [{ key: "lag", name: "events" }], number),
    plot("Oldest not acknowledged", [{ key: "oldest_s", name: "age" }], duration),
    plot("Time until settled", [{ key: "settled_p50", name: "half within" }, { key: "settled_p99", name: "99 % within" }], duration),
    plot("Oldest without an answer", [{ key: "unanswered_s", name: "age" }], duration),
    plot("Memory of Redis", [{ key: "redis_used", name: "used" }], bytes),
    plot("Orders not settled", [{ key: "unsettled", name: "orders" }, { key: "waiters", name: "calls that wait" }], number),
  ];

  main.append(el("h1", {}, "Overview"), now.place, el("div", { class: "plots" }, plots.map((one) => one.figure)),
    section("Services", services), section("Readers of streams", readers));
  return watch((point) => {
    now.show(point);
    for (const one of plots) one.update(points);
    update(services, table("Services", SERVICES, point.services.map((row) => ({ ...row, key: row.url }))));
    update(readers, table("Readers of streams", READERS, readerRows(point.streams), "No service says what it reads."));
  });
}
