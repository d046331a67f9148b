// checks.js - doctor, audit, and the trail of what operators changed.
import { ask, during, el, failure, fill, note, number, say, section, table, time } from "./base.js";
import { me } from "./me.js";

const TRAIL_MAX = 10000;
const LEVELS = { bad: 0, warn: 1, unchecked: 2, ok: 3 };

/** What is to be done about a result: who may look at more signs in here. */
function remedy(row) {
  if (row.result !== "unchecked" || !/redis-user/.test(row.fix || "")) return row.fix || "–";
  return me.signed_in ? "sign in with the password of Redis’s user ops" : "sign in";
}

export function results(items) {
  const rows = [...items].sort((a, b) => LEVELS[a.result] - LEVELS[b.result]);
  return table("Results of doctor", [
    { name: "Result", cell: (row) => el("span", { class: `badge ${row.result}` }, row.result.toUpperCase()) },
    { name: "Check", cell: (row) => row.check },
    { name: "What it found", cell: (row) => (row.node ? `${row.node}: ${row.detail}` : row.detail) },
    { name: "What to do", cell: remedy },
  ], rows);
}

/** What repairs a violation: at a terminal, as no page may. */
const repair = (fix) => (fix || "").replace(/(^|[;.] )--repair/g, "$1tandemctl audit --repair");

export function checks(main) {
  let changes = 200;

  function part(title, about, action, path, show, parameters = () => ({})) {
    const place = el("div");
    const button = el("button", { type: "button", click: () => during(button, run) }, action);
    async function run() {
      const inside = place.contains(document.activeElement);
      fill(place, el("p", { role: "status" }, "Asking …"));
      try {
        const answer = await ask(path, parameters());
        fill(place, answer.said ? note("warn", answer.said) : null, show(answer.items));
        say(`${title}: done`);
      } catch (error) {
        fill(place, failure(error));
      }
      if (inside && document.activeElement === document.body) button.focus();
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
          { name: "What to do", cell: (row) => repair(row.fix) },
        ], found));
    });
  const trail = part("Trail", "What operators changed: who, from where, why.", "Read again", "/api/trail", (items) => [table("Trail", [
    { name: "Time", cell: (row) => time(row.time) },
    { name: "Who", cell: (row) => row.who },
    { name: "What", cell: (row) => row.action },
    { name: "About", cell: (row) => row.subject },
    { name: "Why", cell: (row) => row.why },
    { name: "Result", cell: (row) => row.result, wide: true },
    { name: "From", cell: (row) => row.from, wide: true },
  ], [...items].reverse(), "Operators have changed nothing."),
  items.length < changes || changes === TRAIL_MAX ? null : el("button", { type: "button", click: () => {
    changes = Math.min(10 * changes, TRAIL_MAX);
    trail();
  } }, "Show older ones")], () => ({ limit: String(changes) }));
  doctor();
  trail();
}
