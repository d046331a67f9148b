// archive.js - what the archive knows: a search among the orders of all customers, an order's whole life, the movements of a SKU.
import { ask, badge, el, failure, field, fill, lines, lookThrough, note, number, orderLink, section, table, time, update } from "./base.js";
import { facts, happened, labels, period, returned, STATUSES } from "./orders.js";

const PART = 1000; // that are asked for at once
const KINDS = { ADJUSTED: "put in or taken out", RESERVED: "reserved", COMMITTED: "sold", RELEASED: "released",
  RETURNED: "came back" };

const address = (query) => `#/archive?${new URLSearchParams(Object.entries(query).filter(([, value]) => value))}`;
const lifeLink = (id) => el("a", { class: "code", href: `#/archive/${encodeURIComponent(id)}` }, id);

/** The parts of a list, each the next page. rows(items): those of its rows that count. */
function pages(path, parameters, rows) {
  let token = "";

  return async (wanted) => {
    const answer = await ask(path, { ...parameters, limit: Math.min(wanted, PART), page_token: token });
    const found = rows(answer.items);
    if (answer.code !== 0) throw new Error(answer.said);
    token = (answer.items.find((item) => item.next_page_token) || {}).next_page_token || "";
    return { rows: found, looked: found.length, done: token === "" };
  };
}

/** What the form asks for, as the console has it. */
function asked(query) {
  const [from, before] = period(query);
  const iso = (ms) => (Number.isFinite(ms) ? new Date(ms).toISOString() : "");
  return { customer: query.customer, status: query.status, sku: query.sku, label: query.label, oldest: query.oldest,
    since: iso(from), until: iso(before) };
}

/** The command that writes all of it to a file. */
function exporting(query) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const { customer, status, sku, label, since, until } = asked(query);
  const options = Object.entries({ customer, status, sku, label, since, until }).filter(([, value]) => value)
    .map(([name, value]) => ` --${name}=${/^[\w.:-]+$/.test(value) ? value : quote(value)}`);
  return `tandemctl archive export --format csv${options.join("")} >orders.csv`;
}

const COLUMNS = [
  { name: "Order", cell: (row) => lifeLink(row.order.order_id) },
  { name: "Status", cell: (row) => badge(row.order.status) },
  { name: "Customer", cell: (row) => (row.order.customer_id ? el("a", { href: address({ customer: row.order.customer_id }) }, row.order.customer_id) : "?") },
  { name: "Placed", cell: (row) => time(row.order.create_time) },
  { name: "Changed", cell: (row) => time(row.order.update_time), wide: true },
  { name: "Lines", cell: (row) => lines(row.order.lines), wide: true },
  { name: "Labels", cell: (row) => labels(row.order), wide: true },
  { name: "Reason", cell: (row) => row.order.status_reason, wide: true },
];

export function archive(main, query) {
  const results = el("div");
  const choice = (value, text, chosen) => el("option", { value, selected: (chosen || "") === value }, text);
  const text = (name, most, more = {}) =>
    el("input", { name, value: query[name], autocomplete: "off", spellcheck: "false", maxlength: most, ...more });
  const form = el("form", {
    class: "search",
    submit: (event) => {
      event.preventDefault();
      location.hash = address(Object.fromEntries([...new FormData(form)].map(([key, value]) => [key, value.trim()])));
    },
  },
  field("Customer", text("customer", 128)),
  field("Status", el("select", { name: "status" }, choice("", "any", query.status), STATUSES.map((one) => choice(one, one, query.status)))),
  field("SKU", text("sku", 64)),
  field("Label", text("label", 321, { placeholder: "name=value" })),
  field("Placed from", el("input", { name: "from", type: "datetime-local", value: query.from })),
  field("Placed until", el("input", { name: "to", type: "datetime-local", value: query.to })),
  field("First", el("select", { name: "oldest" }, choice("", "newest", query.oldest), choice("true", "oldest", query.oldest))),
  el("button", { type: "submit" }, "Search"));
  const moves = el("form", { class: "search", submit: (event) => {
    event.preventDefault();
    const name = new FormData(moves).get("moved").trim();
    if (name) location.hash = `#/movements/${encodeURIComponent(name)}`;
  } },
  field("Movements of SKU", el("input", { name: "moved", autocomplete: "off", spellcheck: "false", maxlength: 64 })),
  el("button", { type: "submit" }, "List them"));

  main.append(el("h1", {}, "Archive"),
    el("p", { class: "small" }, "All orders that were ever placed, also those that Redis has dropped; as of a moment ago."),
    form, moves, section("Orders", results),
    section("All of them as a file", el("p", { class: "code" }, exporting(query))));
  return lookThrough(results, {
    next: pages("/api/archive/orders", asked(query), (items) => items.filter((item) => item.order)),
    enough: 100, noun: "order",
    show: (place, rows) => update(place, table("Orders", COLUMNS, rows, "No order fits.")),
  });
}

// ---- one ----

const known = (order, incomplete) => [["Status", badge(order.status)], ["Reason", order.status_reason],
  ["Customer", incomplete ? "?" : order.customer_id], ["Lines", lines(order.lines)], ["Labels", labels(order)],
  ["Settled", order.settled ? "yes" : "no"], ["Came back", returned(order)], ["Version", String(order.version)],
  ["Placed", time(order.create_time)], ["Changed", time(order.update_time)]];

const back = () => el("p", { class: "back" }, el("a", { href: "#/archive" }, "Archive"));

/** An order's whole life, as it was archived. */
export function life(main, id) {
  const place = el("div");
  let ended = false;

  async function load() {
    try {
      const answer = await ask("/api/archive/order", { id });
      if (ended) return;
      const { order: archived, events } = answer.items[0];
      fill(place, facts(known(archived.order, archived.incomplete)),
        archived.incomplete ? note("warn", "How it was placed was gone before it was archived.") : null,
        el("p", {}, "As it is now: ", orderLink(id)),
        section("Its life", el("ol", { class: "timeline" }, (events || []).map((event) => happened(event, Infinity)))));
    } catch (error) {
      if (!ended) fill(place, failure(error));
    }
  }
  main.append(back(), el("h1", { class: "code" }, id), place);
  place.append(el("p", { role: "status" }, "Asking …"));
  load();
  return () => {
    ended = true;
  };
}

/** What happened to the stock of a SKU, the newest first. */
export function movements(main, name) {
  const results = el("div");
  const kind = (row) => {
    const short = (row.kind || "").replace("STOCK_MOVEMENT_KIND_", "");
    return KINDS[short] || short;
  };

  main.append(back(), el("h1", {}, "Movements of ", el("span", { class: "code" }, name)),
    el("p", {}, "What is there now: ", el("a", { class: "code", href: `#/stock/${encodeURIComponent(name)}` }, name)), results);
  return lookThrough(results, {
    next: pages("/api/archive/movements", { sku: name }, (items) => items.filter((item) => item.kind)),
    enough: 200, noun: "movement",
    show: (place, rows) => update(place, table("Movements", [
      { name: "Time", cell: (row) => time(row.time) },
      { name: "What", cell: kind },
      { name: "Quantity", number: true, cell: (row) => number(Number(row.quantity)) },
      { name: "Order", cell: (row) => (row.order_id ? lifeLink(row.order_id) : "–") },
      { name: "Reason", cell: (row) => row.reason, wide: true },
      { name: "By", cell: (row) => row.actor, wide: true },
    ], rows, "Nothing was archived of it.")),
  });
}
