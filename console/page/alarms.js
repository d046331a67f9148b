// alarms.js - what is not as it should be: the rules that can be judged by the points, those that fire in Prometheus, and what doctor
// finds.
//
// The rules have the names, limits and times of packaging/prometheus/tandem.rules.yml (live/browser compares them), where each has a
// section in docs/runbook.md. Prometheus looks over minutes where a point looks over seconds, and knows more alarms.
import { ask, askAgain, bytes, duration, el, failure, fill, note, number, say, section, table, time, update } from "./base.js";
import { results } from "./checks.js";
import { points, watch } from "./live.js";
import { plot } from "./plots.js";

const perSecond = (value) => (value === null || value === undefined ? "–" : `${number(value)}/s`);
const percent = (value) => (value === null || value === undefined ? "–" : `${number(value * 100)} %`);
const ratio = (point) => (point.redis_max > 0 && point.redis_used !== null ? point.redis_used / point.redis_max : null);
const readers = (point, over, text) => point.streams.filter(over).map((stream) => `${stream.reader} reads ${stream.stream}: ${text(stream)}`);

// value(point): of the numbers of a point. tell(point): of the newest, what is wrong; it may name several things. where: the view with more.
export const RULES = [
  { name: "TandemInstanceDown", title: "Services that do not answer", limit: 0, for_s: 30, severity: "ticket", where: "#/overview",
    text: number, value: (point) => point.away,
    tell: (point) => point.services.filter((one) => !one.up).map((one) => `${one.name || one.url} does not answer: ${one.error}`) },
  { name: "TandemOrdersHang", title: "Oldest order without an answer", limit: 20, for_s: 10, severity: "page", where: "#/orders?status=pending",
    text: duration, value: (point) => point.unanswered_s,
    tell: (point) => [`an order has waited for inventory's answer for ${duration(point.unanswered_s)}`] },
  { name: "TandemDecisionsSlow", title: "Time to decision, 99 % within", limit: 1, for_s: 120, severity: "page", where: "#/streams",
    text: duration, value: (point) => point.decision_p99,
    tell: (point) => [`one order in a hundred waits longer than ${duration(point.decision_p99)} for its decision`] },
  { name: "TandemOverload", title: "New orders refused: too much load", limit: 0.01, for_s: 30, severity: "page", where: "#/overview",
    text: percent, value: (point) => point.shed_share,
    tell: (point) => [`more orders come than can be served: ${percent(point.shed_share)} of the new ones are refused`] },
  { name: "TandemOrdersRefused", title: "Orders refused: too many under way", limit: 0, for_s: 60, severity: "page", where: "#/overview",
    text: perSecond, value: (point) => point.refused,
    tell: (point) => [`${number(point.refused)} orders a second are refused: too many are under way`] },
  { name: "TandemEventsLag", title: "Events of a stream not delivered yet", limit: 5000, for_s: 60, severity: "page", where: "#/streams",
    text: number, value: (point) => point.lag_most,
    tell: (point) => readers(point, (one) => one.lag > 5000, (one) => `${number(one.lag)} events are not delivered yet`) },
  { name: "TandemEventsStuck", title: "Oldest entry not acknowledged", limit: 30, for_s: 30, severity: "page", where: "#/streams",
    text: duration, value: (point) => point.oldest_s,
    tell: (point) => readers(point, (one) => one.oldest_s > 30, (one) => `its oldest entry is not acknowledged for ${duration(one.oldest_s)}`) },
  { name: "TandemEventsAside", title: "Events set aside", limit: 0, for_s: 60, severity: "ticket", where: "#/streams",
    text: number, value: (point) => point.aside,
    tell: (point) => readers(point, (one) => one.aside > 0, (one) => `${number(one.aside)} events fail and are tried again`) },
  { name: "TandemDeadLetters", title: "Dead letters", limit: 0, for_s: 0, severity: "ticket", where: "#/dead",
    text: number, value: (point) => point.letters,
    tell: (point) => [`${number(point.letters)} events were given up`] },
  { name: "TandemRedisMemory", title: "Memory of Redis", limit: 0.8, for_s: 60, severity: "ticket", where: "#/checks",
    text: percent, value: ratio,
    tell: (point) => [`Redis has ${bytes(point.redis_used)} of ${bytes(point.redis_max)}`] },
  { name: "TandemRedisFull", title: "Memory of Redis, full", limit: 0.95, for_s: 15, severity: "page", where: "#/checks",
    text: percent, value: ratio,
    tell: (point) => [`Redis has ${bytes(point.redis_used)} of ${bytes(point.redis_max)}: new orders are refused at the limit`] },
  { name: "TandemNotInStep", title: "Partitions that wait for a reconciliation", limit: 0, for_s: 60, severity: "page", where: "#/checks",
    text: number, value: (point) => point.not_in_step,
    tell: (point) => [`${number(point.not_in_step)} partitions wait for a reconciliation`] },
];

/** How a rule is at the end of `list`: "off"; "on", since when it is over its limit; "fires". */
export function judge(rule, list) {
  let since = null;
  for (let i = list.length - 1; i >= 0 && rule.value(list[i]) > rule.limit; i -= 1) since = list[i].t;
  if (since === null) return { state: "off", since };
  return { state: list[list.length - 1].t - since >= rule.for_s * 1000 ? "fires" : "on", since };
}

const TELL_MS = 10000;

/** A list of what needs a look now, which is told to who listens when something is new, not when a number in it changes. */
export function needs() {
  const place = el("div");
  let known = new Set();
  let told = 0;

  function show(point) {
    const found = RULES.map((rule) => ({ rule, ...judge(rule, points) })).filter((one) => one.state !== "off");
    const rows = found.flatMap(({ rule, state }) => rule.tell(point).map((text, i) =>
      el("p", { class: `note ${state === "fires" && rule.severity === "page" ? "bad" : "warn"}`, "data-key": `${rule.name} ${i}` },
        el("strong", {}, state === "fires" ? "Alarm: " : "Look: "), text, " ",
        el("a", { href: rule.where, "aria-label": `more about: ${rule.title}` }, "more"))));
    update(place, ...(rows.length === 0 ? [note("good", "nothing needs a look")] : rows));
    const fresh = found.filter(({ rule, state }) => !known.has(`${rule.name} ${state}`));
    if (fresh.length > 0 && Date.now() - told > TELL_MS) {
      told = Date.now();
      known = new Set(found.map(({ rule, state }) => `${rule.name} ${state}`));
      say(fresh.map(({ rule, state }) => `${state === "fires" ? "Alarm" : "Look"}: ${rule.title}`).join(". "));
    } else if (found.length < known.size) {
      known = new Set([...known].filter((one) => found.some(({ rule, state }) => one === `${rule.name} ${state}`)));
      if (found.length === 0) say("Nothing needs a look any more");
    }
  }
  return { place, show };
}

const STATES = { off: "QUIET", on: "LOOK", fires: "FIRES" };
const BADGES = { off: "ok", on: "warn", fires: "bad" };

function rulesTable(point) {
  return table("Alarms", [
    { name: "State", cell: (row) => el("span", { class: `badge ${BADGES[row.state]}` }, STATES[row.state]) },
    { name: "Alarm", cell: (row) => row.rule.name },
    { name: "Now", number: true, cell: (row) => row.rule.text(row.rule.value(point)) },
    { name: "Limit", number: true, cell: (row) => row.rule.text(row.rule.limit) },
    { name: "For", number: true, wide: true, cell: (row) => (row.rule.for_s ? duration(row.rule.for_s) : "at once") },
    { name: "Since", wide: true, cell: (row) => (row.since ? time(new Date(row.since).toISOString()) : "–") },
    { name: "Urgency", wide: true, cell: (row) => row.rule.severity },
  ], RULES.map((rule) => ({ key: rule.name, rule, ...judge(rule, points) })));
}

/** What fires in Prometheus. */
function prometheusTable(items) {
  return table("Alarms in Prometheus", [
    { name: "State", cell: (row) => el("span", { class: `badge ${row.state === "firing" ? "bad" : "warn"}` }, row.state.toUpperCase()) },
    { name: "Alarm", cell: (row) => row.alert },
    { name: "What", cell: (row) => row.summary },
    { name: "Since", cell: (row) => time(row.since), wide: true },
    { name: "Urgency", cell: (row) => row.severity, wide: true },
    { name: "Runbook", wide: true, cell: (row) => (/^https?:/.test(row.runbook) ? el("a", { href: row.runbook, rel: "noreferrer" }, "runbook") : row.runbook) },
  ], items.map((row) => ({ ...row, key: `${row.alert} ${row.labels}` })), "No alarm of Tandem's fires in Prometheus.");
}

const REFRESH_MS = 10000;

export function alarms(main) {
  const now = needs();
  const judged = el("div");
  const prometheus = el("div");
  const found = el("div");
  const plots = RULES.map((rule) => plot(rule.title, [{ value: rule.value, name: "now" }], rule.text, rule.limit));
  let asked = 0;
  let ended = false;

  async function refresh(how) {
    asked = Date.now();
    try {
      const answer = await how("/api/alarms");
      if (ended) return;
      update(prometheus, answer.from ? prometheusTable(answer.items)
        : note("info", "The console is not told where Prometheus is (its setting prometheus), which looks at all alarms of the runbook."));
    } catch (error) {
      if (!ended) update(prometheus, failure(error));
    }
  }
  main.append(el("h1", {}, "Alarms"), section("What needs a look now", now.place),
    section("Alarms that the console judges", judged, el("div", { class: "plots" }, plots.map((one) => one.figure))),
    section("Alarms in Prometheus", prometheus), section("What doctor says", found));
  found.append(el("p", { role: "status" }, "Asking …"));
  refresh(ask);
  ask("/api/doctor").then((answer) => {
    const wrong = answer.items.filter((item) => item.result === "bad" || item.result === "warn");
    fill(found, answer.said ? note("warn", answer.said) : null,
      wrong.length === 0 ? note("good", "doctor finds nothing wrong") : results(wrong));
  }).catch((error) => fill(found, failure(error)));
  const unwatch = watch((point) => {
    now.show(point);
    update(judged, rulesTable(point));
    for (const one of plots) one.update(points);
    if (Date.now() - asked >= REFRESH_MS && !document.hidden) refresh(askAgain);
  });
  return () => {
    ended = true;
    unwatch();
  };
}
