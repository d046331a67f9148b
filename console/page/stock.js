// stock.js - what is there of each SKU, and who holds it.
import { ask, el, failure, field, fill, lookThrough, note, number, orderLink, section, shortType, table, time, update } from "./base.js";

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

/** Its threshold, and whether it is below it. */
function lowBelow(row) {
  if (!row.low_stock_threshold) return "";
  const below = number(row.low_stock_threshold);
  return row.available < row.low_stock_threshold ? el("span", {}, below, " ", el("strong", {}, "low")) : below;
}

const COLUMNS = [
  { name: "SKU", cell: (row) => skuLink(row.sku) },
  { name: "Available", number: true, cell: (row) => number(row.available) },
  { name: "Reserved", number: true, cell: (row) => number(row.reserved) },
  { name: "Sold", number: true, cell: (row) => number(row.committed) },
  { name: "Low below", number: true, cell: lowBelow, wide: true },
  { name: "Received", number: true, cell: (row) => number(row.received), wide: true },
  { name: "Parts", cell: bar },
];

/** The parts of the list of SKUs, of them those whose name has `wanted` in it. */
function skus(wanted) {
  let token = "";

  return async () => {
    const answer = await ask("/api/stock", { limit: "1000", page_token: token });
    const listed = answer.items.filter((item) => item.sku);
    if (answer.code !== 0) throw new Error(answer.said);
    token = (answer.items.find((item) => item.next_page_token) || {}).next_page_token || "";
    return { rows: listed.filter((row) => row.sku.includes(wanted)), looked: listed.length, done: token === "" };
  };
}

export function stock(main, query) {
  const wanted = query.part || "";
  const results = el("div");
  const exact = el("form", { class: "search", submit: (event) => {
    event.preventDefault();
    const name = new FormData(exact).get("sku").trim();
    if (name) location.hash = `#/stock/${encodeURIComponent(name)}`;
  } },
  field("SKU", el("input", { name: "sku", autocomplete: "off", spellcheck: "false", maxlength: 64 })),
  el("button", { type: "submit" }, "Show it"));
  const search = el("form", { class: "search", submit: (event) => {
    event.preventDefault();
    const part = new FormData(search).get("part").trim();
    location.hash = `#/stock${part ? `?${new URLSearchParams({ part })}` : ""}`;
  } },
  field("SKU contains", el("input", { name: "part", value: wanted, autocomplete: "off", spellcheck: "false", maxlength: 64 })),
  el("button", { type: "submit" }, "List"));

  main.append(el("h1", {}, "Stock"), exact, search, results);
  return lookThrough(results, {
    next: skus(wanted), enough: 1000, noun: "SKU",
    show: (place, rows) => update(place, table("Stock", COLUMNS, rows, "No SKU fits.")),
  });
}

/** The parts of the list of orders that hold a SKU. */
function holders(name) {
  let token = "";

  return async () => {
    const answer = await ask("/api/holders", { sku: name, limit: "1000", page_token: token });
    const rows = answer.items.filter((item) => item.order_id);
    if (answer.code !== 0) throw new Error(answer.said);
    token = (answer.items.find((item) => item.next_page_token) || {}).next_page_token || "";
    return { rows, looked: rows.length, done: token === "" };
  };
}

export function sku(main, name) {
  const counters = el("div");
  const events = el("div");
  const held = el("div");

  async function load() {
    try {
      const answer = await ask("/api/sku", { sku: name });
      const row = answer.items[0];
      fill(counters, el("p", { class: "barline" }, bar(row)), table(`Stock of ${name}`, COLUMNS.slice(1, 6), [row]),
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
    el("p", {}, el("a", { href: `#/movements/${encodeURIComponent(name)}` }, "All its movements, from the archive")),
    section("Who holds it", held), section("Changes by hand", events));
  load();
  return lookThrough(held, {
    next: holders(name), enough: 1000, noun: "order",
    show: (place, rows) => update(place, table("Who holds it", [
      { name: "Order", cell: (row) => orderLink(row.order_id) },
      { name: "Quantity", number: true, cell: (row) => number(((row.lines || [])[0] || {}).quantity) },
      { name: "Since", cell: (row) => time(row.update_time) },
    ], rows, "No order holds it.")),
  });
}

