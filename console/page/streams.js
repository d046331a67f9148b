// streams.js - the streams of events: who reads them, how far, and what is set aside.
import { ago, ask, duration, el, failure, fill, note, number, orderLink, section, shortType, table, time } from "./base.js";
import { watch } from "./live.js";

const REFRESH_MS = 5000;

export function streams(main) {
  const groups = el("div");
  const asides = el("div");
  const events = el("div");
  let asked = 0;

  async function part(place, path, parameters, show) {
    try {
      const answer = await ask(path, parameters);
      fill(place, answer.said ? note("warn", answer.said) : null, show(answer.items));
    } catch (error) {
      fill(place, failure(error));
    }
  }
  async function refresh() {
    asked = Date.now();
    await part(groups, "/api/streams", {}, (rows) => table("Groups", [
      { name: "Stream", cell: (row) => el("span", { class: "code" }, row.stream) },
      { name: "Events", number: true, cell: (row) => number(row.length), wide: true },
      { name: "Group", cell: (row) => row.group },
      { name: "Lag", number: true, cell: (row) => number(row.lag) },
      { name: "Pending", number: true, cell: (row) => number(row.pending) },
      { name: "Aside", number: true, cell: (row) => number(row.aside) },
      { name: "Oldest", number: true, cell: (row) => (row.oldest_pending_ms === null ? "–" : duration(row.oldest_pending_ms / 1000)) },
      { name: "Consumers", number: true, cell: (row) => number(row.consumers) },
      { name: "Seen", cell: (row) => ago(row.seen_ms), wide: true },
    ], rows, "There is no group."));
    await part(asides, "/api/aside", {}, (rows) => table("Events set aside", [
      { name: "Event", cell: (row) => row.event_id || row.id },
      { name: "Type", cell: (row) => shortType(row.type) },
      { name: "Reader", cell: (row) => row.context || row.reader },
      { name: "Failed", number: true, cell: (row) => number(row.failed) },
      { name: "Waits for", cell: (row) => row.waits, wide: true },
    ], rows, "No event is set aside."));
    await part(events, "/api/events", { count: 50 }, (rows) => table("Newest events", [
      { name: "Time", cell: (row) => time(row.time) },
      { name: "Domain", cell: (row) => row.context },
      { name: "Type", cell: (row) => shortType(row.type) },
      { name: "About", cell: (row) => ((row.subject || "").startsWith("ord_") ? orderLink(row.subject) : row.subject) },
      { name: "By", cell: (row) => row.actor, wide: true },
      { name: "Entry", cell: (row) => el("span", { class: "code" }, row.stream_id), wide: true },
    ], [...rows].reverse(), "There is no event."));
  }
  main.append(el("h1", {}, "Streams"), section("Groups that read", groups), section("Set aside", asides), section("Newest events", events));
  refresh();
  return watch(() => {
    if (Date.now() - asked >= REFRESH_MS && !document.hidden) refresh();
  });
}
