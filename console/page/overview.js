// overview.js - how it goes now: what needs a look, plots, services, and how far each reader of a stream is.
import { bytes, duration, el, fill, note, number, section, table, time } from "./base.js";
import { points, watch } from "./live.js";
import { plot } from "./plots.js";

const OLDEST_S = 30;
const LAG = 10000;

/** What is not as it should be: [kind, text, where more of it is]. */
export function problems(point) {
  const found = [];
  for (const service of point.services)
    if (!service.up) found.push(["bad", `${service.name || service.url} does not answer: ${service.error}`, "#/checks"]);
  for (const stream of point.streams) {
    const who = `${stream.reader} reads ${stream.stream}`;
    if (stream.oldest_s > OLDEST_S)
      found.push(["warn", `${who}: its oldest entry is not acknowledged for ${duration(stream.oldest_s)}`, "#/streams"]);
    if (stream.lag > LAG) found.push(["warn", `${who}: ${number(stream.lag)} events are not delivered yet`, "#/streams"]);
    if (stream.aside > 0) found.push(["warn", `${who}: ${number(stream.aside)} events are set aside`, "#/streams"]);
  }
  if (point.letters > 0) found.push(["warn", `${number(point.letters)} events were given up`, "#/dead"]);
  if (point.unanswered_s > OLDEST_S)
    found.push(["warn", `an order waits for inventory's answer for ${duration(point.unanswered_s)}`, "#/orders"]);
  if (point.redis_max > 0 && point.redis_used > 0.9 * point.redis_max)
    found.push(["warn", `Redis has ${bytes(point.redis_used)} of ${bytes(point.redis_max)}: new orders are refused at the limit`, "#/checks"]);
  if (point.due > 0) found.push(["warn", `the timers of ${number(point.due)} orders have run out`, "#/checks"]);
  if (point.shed_share > 0)
    found.push(["bad", `more orders come than can be served: ${number(point.shed_share * 100)} % of the new ones are refused`, "#/checks"]);
  if (point.refused > 0) found.push(["warn", `${number(point.refused)} orders a second are refused`, "#/checks"]);
  return found;
}

export function overview(main) {
  const needs = el("div", { role: "status", "aria-live": "polite" });
  const services = el("div");
  const readers = el("div");
  const perSecond = (value) => (value === null || value === undefined ? "–" : `${number(value)}/s`);
  const plots = [
    plot("Orders placed", [{ key: "placed", name: "placed" }], perSecond),
    plot("Orders decided", [{ key: "reserved", name: "reserved" }, { key: "rejected", name: "rejected" }], perSecond),
    plot("Orders ended", [{ key: "confirmed", name: "confirmed" }, { key: "cancelled", name: "cancelled" },
      { key: "expired", name: "expired" }], perSecond),
    plot("Time to decision", [{ key: "decision_p50", name: "half within" }, { key: "decision_p99", name: "99 % within" }], duration),
    plot("Calls", [{ key: "calls", name: "calls" }], perSecond),
    plot("Orders refused", [{ key: "shed", name: "too much load" }, { key: "refused", name: "too many under way" }], perSecond),
    plot("Time of a call", [{ key: "call_p50", name: "half within" }, { key: "call_p99", name: "99 % within" }], duration),
    plot("Events not delivered yet", [{ key: "lag", name: "events" }], number),
    plot("Oldest not acknowledged", [{ key: "oldest_s", name: "age" }], duration),
    plot("Time until settled", [{ key: "settled_p50", name: "half within" }, { key: "settled_p99", name: "99 % within" }], duration),
    plot("Oldest without an answer", [{ key: "unanswered_s", name: "age" }], duration),
    plot("Memory of Redis", [{ key: "redis_used", name: "used" }], bytes),
    plot("Orders not settled", [{ key: "unsettled", name: "orders" }, { key: "waiters", name: "calls that wait" }], number),
  ];
  let said = null;

  main.append(el("h1", {}, "Overview"), needs, el("div", { class: "plots" }, plots.map((one) => one.figure)),
    section("Services", services), section("Readers of streams", readers));
  return watch((point) => {
    const found = problems(point);
    const text = JSON.stringify(found.map(([kind, , where]) => [kind, where]));
    // The numbers in them change each second; who listens is told when something is new.
    needs.setAttribute("aria-live", text === said ? "off" : "polite");
    said = text;
    needs.replaceChildren(...(found.length === 0 ? [note("good", "nothing needs a look")]
      : found.map(([kind, what, where]) => note(kind, what, " ", el("a", { href: where }, "more")))));
    for (const one of plots) one.update(points);
    fill(services, table("Services", [
      { name: "Service", cell: (row) => row.name || "?" },
      { name: "State", cell: (row) => el("span", { class: `badge ${row.up ? "ok" : "bad"}` }, row.up ? "UP" : "AWAY") },
      { name: "Since", wide: true, cell: (row) => (row.start_s ? time(new Date(row.start_s * 1000).toISOString()) : "–") },
      { name: "Version", cell: (row) => row.version, wide: true },
      { name: "Metrics", cell: (row) => row.url, wide: true },
    ], point.services));
    fill(readers, table("Readers of streams", [
      { name: "Reader", cell: (row) => row.reader },
      { name: "Stream", cell: (row) => el("span", { class: "code" }, row.stream) },
      { name: "Lag", number: true, cell: (row) => number(row.lag) },
      { name: "Pending", number: true, cell: (row) => number(row.pending) },
      { name: "Oldest", number: true, cell: (row) => duration(row.oldest_s) },
      { name: "Aside", number: true, cell: (row) => number(row.aside) },
      { name: "Retried", number: true, wide: true, cell: (row) => number(row.parked) },
      { name: "Given up", number: true, wide: true, cell: (row) => number(row.dead) },
    ], [...point.streams].sort((a, b) => (a.reader + a.stream).localeCompare(b.reader + b.stream)), "No service says what it reads."));
  });
}
