// checks.js - alarms, doctor, audit, and the trail of what operators changed.
import { ask, el, failure, fill, note, number, say, section, table, time } from "./base.js";
import { me } from "./me.js";
import { problems } from "./overview.js";
import { watch } from "./live.js";

const LEVELS = { bad: 0, warn: 1, unchecked: 2, ok: 3 };

function results(items) {
  const rows = [...items].sort((a, b) => LEVELS[a.result] - LEVELS[b.result]);
  return table("Results of doctor", [
    { name: "Result", cell: (row) => el("span", { class: `badge ${row.result}` }, row.result.toUpperCase()) },
    { name: "Check", cell: (row) => row.check },
    { name: "What it found", cell: (row) => (row.node ? `${row.node}: ${row.detail}` : row.detail) },
    { name: "What to do", cell: (row) => (row.result === "unchecked" && !me.signed_in ? "sign in" : row.fix || "–") },
  ], rows);
}

/** What doctor finds wrong, and what the points show. */
export function alarms(main) {
  const now = el("div", { role: "status", "aria-live": "polite" });
  const found = el("div");
  let said = null;

  main.append(el("h1", {}, "Alarms"), section("What the services say now", now), section("What doctor says", found));
  found.append(el("p", { role: "status" }, "Asking …"));
  ask("/api/doctor").then((answer) => {
    const wrong = answer.items.filter((item) => item.result === "bad" || item.result === "warn");
    fill(found, answer.said ? note("warn", answer.said) : null,
      wrong.length === 0 ? note("good", "doctor finds nothing wrong") : results(wrong));
  }).catch((error) => fill(found, failure(error)));
  return watch((point) => {
    const list = problems(point);
    const text = JSON.stringify(list);
    if (text === said) return;
    said = text;
    now.replaceChildren(...(list.length === 0 ? [note("good", "nothing needs a look")]
      : list.map(([kind, what, where]) => note(kind, what, " ", el("a", { href: where }, "more")))));
  });
}

export function checks(main) {
  function part(title, about, action, path, show) {
    const place = el("div");
    const button = el("button", { type: "button", click: run }, action);
    async function run() {
      button.disabled = true;
      fill(place, el("p", { role: "status" }, "Asking …"));
      try {
        const answer = await ask(path, path === "/api/trail" ? { limit: "200" } : {});
        fill(place, answer.said ? note("warn", answer.said) : null, show(answer.items));
        say(`${title}: done`);
      } catch (error) {
        fill(place, failure(error));
      }
      button.disabled = false;
    }
    main.append(section(title, el("p", {}, about), button, place));
    return run;
  }
  main.append(el("h1", {}, "Checks"));
  const doctor = part("Doctor", me.signed_in ? "Redis, users, functions, groups, services."
    : "Redis, users, functions, groups, services. Some of it only an operator may look at: sign in for all of it.",
  "Check again", "/api/doctor", results);
  part("Audit", "Proves that orders, stock and timers agree. It reads everything, which takes a while in a large store.", "Run the audit",
    "/api/audit", (items) => {
      const sum = items.find((item) => item.violations !== undefined);
      const found = items.filter((item) => item.violation);
      return el("div", {},
        sum && sum.violations === 0 ? note("good", `everything agrees: ${number(sum.orders)} orders, ${number(sum.reservations)} ` +
          `reservations, ${number(sum.skus)} SKUs`) : note("bad", `${number(sum ? sum.violations : found.length)} violations`),
        found.length === 0 ? "" : table("Violations", [
          { name: "Violation", cell: (row) => row.violation },
          { name: "About", cell: (row) => row.order || row.sku || row.subject || "–" },
          { name: "What", cell: (row) => `${row.text} ${row.detail || ""}` },
          { name: "What to do", cell: (row) => row.fix },
        ], found));
    });
  const trail = part("Trail", "What operators changed: who, from where, why.", "Read again", "/api/trail", (items) => table("Trail", [
    { name: "Time", cell: (row) => time(row.time) },
    { name: "Who", cell: (row) => row.who },
    { name: "What", cell: (row) => row.action },
    { name: "About", cell: (row) => row.subject },
    { name: "Why", cell: (row) => row.why },
    { name: "Result", cell: (row) => row.result, wide: true },
    { name: "From", cell: (row) => row.from, wide: true },
  ], [...items].reverse(), "Operators have changed nothing."));
  doctor();
  trail();
}
