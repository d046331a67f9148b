// dead.js - dead letters: what could not be processed; replay and discard, each asked back.
import { ask, byId, change, dialog, el, failure, field, fill, note, orderLink, say, shortType, time } from "./base.js";
import { me, signIn } from "./me.js";

const LETTERS_MAX = 1000;
const place = (row) => (row.partition === undefined ? row.stream_id : `${row.partition}/${row.stream_id}`);

let shown = async () => {}; // reads the letters of the view that is there

export function dead(main) {
  const state = el("p", { role: "status" }, "Asking …");
  const results = el("div");
  let asked = 0;

  async function load() {
    const mine = asked += 1;
    try {
      const answer = await ask("/api/dead", { limit: String(LETTERS_MAX) });
      if (mine !== asked) return; // what was asked later knows more
      const count = answer.items.length;
      state.textContent = count === 0 ? "" : count < LETTERS_MAX ? `${count} dead letter${count === 1 ? "" : "s"}, the oldest first`
        : `the oldest ${count} dead letters; there may be more`;
      fill(results, answer.said ? note("warn", answer.said) : null,
        count === 0 ? note("good", "there are no dead letters") : answer.items.map(letter));
    } catch (error) {
      if (mine !== asked) return;
      state.textContent = "";
      fill(results, failure(error));
    }
  }

  /** Asks back, and does it. */
  async function act(row, verb, text, danger) {
    if (!me.signed_in && !(await signIn())) return;
    const why = el("input", { name: "why", required: true, maxlength: 256, autocomplete: "off" });
    const tired = Number(row.replayed) >= 3;
    const force = el("input", { name: "force", type: "checkbox", value: "true" });
    const done = await dialog(`${verb} this dead letter?`, [
      el("p", {}, el("strong", {}, shortType(row.type)), " about ", el("span", { class: "code" }, row.subject || row.stream_id), ". ", text),
      field("Why (the trail keeps it)", why),
      verb === "Replay" && tired ? field("It was replayed three times already; once more", force) : "",
    ], verb, async (form) => {
      const fields = { id: place(row), context: row.context, why: form.get("why").trim() };
      if (form.get("force")) fields.force = "true";
      const answer = await change(`/api/dead/${verb.toLowerCase()}`, fields);
      const outcome = answer.items[0];
      if (answer.code !== 0) throw new Error(outcome ? `${outcome.outcome}: ${outcome.detail}` : answer.said);
      say(`${outcome.outcome} ${outcome.detail}`);
    }, danger);
    if (!done) return;
    // Signing in has shown the view anew.
    await shown();
    // The button is gone; who uses the keyboard goes on with the next letter.
    if (document.activeElement === document.body) byId("main").querySelector("article button, h1").focus();
  }

  function letter(row) {
    const name = shortType(row.type);
    return el("article", { class: "letter" },
      el("h2", {}, name, " ", el("span", { class: "badge" }, row.context)),
      note("warn", row.reason || "no reason is given"),
      el("dl", { class: "facts" }, [
        ["About", (row.subject || "").startsWith("ord_") ? orderLink(row.subject) : row.subject || "–"],
        ["Given up", time(row.dead_time)], ["Deliveries", row.deliveries || "–"], ["Replayed", row.replayed || "never"],
        ["Entry", el("span", { class: "code" }, place(row))], ["From", row.stream || "–"],
      ].map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value)))),
      el("details", {}, el("summary", {}, `What it holds: ${name}`),
        el("pre", { tabindex: "0" }, JSON.stringify(row.data ?? row, null, 2)), row.undecoded ? note("warn", row.undecoded) : null),
      el("div", { class: "actions" },
        el("button", { type: "button", "aria-label": `Replay ${name} ${place(row)}`,
          click: () => act(row, "Replay", "It goes back into its stream, and is processed again.", false) }, "Replay"),
        el("button", { type: "button", class: "danger", "aria-label": `Discard ${name} ${place(row)}`,
          click: () => act(row, "Discard", "It is deleted for good.", true) }, "Discard")));
  }
  shown = load;
  main.append(el("h1", { tabindex: "-1" }, "Dead letters"),
    el("p", {}, "Events that a service could not process. What is replayed or discarded stands in the ",
      el("a", { href: "#/checks" }, "trail"), "."), state, results);
  load();
}

