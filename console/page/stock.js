// stock.js - what is there of each SKU, and who holds it.
import { ask, el, failure, field, fill, note, number, orderLink, section, shortType, table, time } from "./base.js";

const PARTS = [["available", "available"], ["reserved", "reserved"], ["committed", "sold"]];

function bar(stock) {
  const all = Math.max(1, stock.available + stock.reserved + stock.committed);
  return el("span", { class: "bar", "aria-hidden": "true" }, PARTS.map(([key]) => {
    const part = el("span", { class: key });
    part.style.width = `${(stock[key] / all) * 100}%`;
    return part;
  }));
}

function skuLink(sku) {
  return el("a", { class: "code", href: `#/stock/${encodeURIComponent(sku)}` }, sku);
}

const COLUMNS = [
  { name: "SKU", cell: (row) => skuLink(row.sku) },
  { name: "Available", number: true, cell: (row) => number(row.available) },
  { name: "Reserved", number: true, cell: (row) => number(row.reserved) },
  { name: "Sold", number: true, cell: (row) => number(row.committed) },
  { name: "Received", number: true, cell: (row) => number(row.received), wide: true },
  { name: "Parts", cell: bar },
];

export function stock(main) {
  const filter = el("input", { name: "sku", autocomplete: "off", spellcheck: "false", input: () => show() });
  const state = el("p", { role: "status" }, "Asking …");
  const results = el("div");
  const more = el("button", { type: "button", hidden: true, click: () => load() }, "Show more");
  const rows = [];
  let token = "";

  function show() {
    const wanted = filter.value.trim();
    const shown = rows.filter((row) => row.sku.includes(wanted));
    state.textContent = `${shown.length} SKU${shown.length === 1 ? "" : "s"}${token ? ", and there are more" : ""}`;
    fill(results, table("Stock", COLUMNS, shown, "No SKU fits."));
  }
  async function load() {
    more.disabled = true;
    try {
      const answer = await ask("/api/stock", { limit: "1000", page_token: token });
      const last = answer.items[answer.items.length - 1];
      token = last && last.next_page_token ? last.next_page_token : "";
      rows.push(...answer.items.filter((item) => item.sku));
      show();
    } catch (error) {
      state.textContent = "";
      fill(results, failure(error));
      token = "";
    }
    more.hidden = !token;
    more.disabled = false;
  }
  main.append(el("h1", {}, "Stock"), el("form", { class: "search", submit: (event) => {
    event.preventDefault();
    if (filter.value.trim()) location.hash = `#/stock/${encodeURIComponent(filter.value.trim())}`;
  } }, field("SKU contains", filter), el("button", { type: "submit" }, "Show this SKU")), state, results, more);
  load();
}

export function sku(main, name) {
  const counters = el("div");
  const events = el("div");
  const state = el("p", { role: "status" });
  const held = el("div");
  const more = el("button", { type: "button", hidden: true, click: () => holders() }, "Look for more");
  const holding = [];
  let token = "";

  async function holders() {
    more.disabled = true;
    try {
      const answer = await ask("/api/holders", { sku: name, limit: "1000", page_token: token });
      const last = answer.items[answer.items.length - 1];
      token = last && last.next_page_token ? last.next_page_token : "";
      holding.push(...answer.items.filter((item) => item.order_id));
      state.textContent = token ? `${holding.length} orders, and there may be more` : "";
      fill(held, table("Who holds it", [
        { name: "Order", cell: (row) => orderLink(row.order_id) },
        { name: "Quantity", number: true, cell: (row) => number(((row.lines || [])[0] || {}).quantity) },
        { name: "Since", cell: (row) => time(row.update_time) },
      ], holding, "No order holds it."));
    } catch (error) {
      state.textContent = "";
      fill(held, failure(error));
      token = "";
    }
    more.hidden = !token;
    more.disabled = false;
  }
  async function load() {
    try {
      const answer = await ask("/api/sku", { sku: name });
      const row = answer.items[0];
      fill(counters, el("p", { class: "barline" }, bar(row)), table(`Stock of ${name}`, COLUMNS.slice(1, 5), [row]),
        row.received === row.available + row.reserved + row.committed ? note("good", "the parts add up to what was received")
          : note("bad", "the parts do not add up to what was received"));
    } catch (error) {
      fill(counters, failure(error));
    }
    try {
      const answer = await ask("/api/events", { order: name, count: 50 });
      fill(events, table("Changes", [
        { name: "Time", cell: (row) => time(row.time) },
        { name: "What", cell: (row) => shortType(row.type) },
        { name: "Change", number: true, cell: (row) => number((row.data || {}).delta) },
        { name: "Reason", cell: (row) => (row.data || {}).reason },
        { name: "By", cell: (row) => row.actor, wide: true },
      ], [...answer.items].reverse(), "No change of it is in the stream of events any more."));
    } catch (error) {
      fill(events, failure(error));
    }
  }
  main.append(el("p", { class: "back" }, el("a", { href: "#/stock" }, "Stock")), el("h1", { class: "code" }, name), counters,
    section("Who holds it", state, held, more), section("Changes by hand", events));
  load();
  holders();
}

