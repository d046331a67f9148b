// orders.js - the newest orders, a customer's orders, and one order's timeline.
import { ask, badge, el, failure, field, fill, lines, note, orderLink, say, section, shortType, statusName, table, time }
  from "./base.js";
import { watch } from "./live.js";

const STATUSES = ["pending", "reserved", "rejected", "confirmed", "cancelled", "expired"];
const REFRESH_MS = 2000;

// ---- the newest, from the events of orders ----

const MOVES = { OrderPlaced: "PENDING", OrderReserved: "RESERVED", OrderRejected: "REJECTED", OrderConfirmed: "CONFIRMED",
  OrderCancelled: "CANCELLED", OrderExpired: "EXPIRED" };

/** Rows of orders that were placed, the newest first, with what the last of these events made of each. */
export function newestOrders(events) {
  const orders = new Map();
  for (const event of events) {
    const move = MOVES[shortType(event.type)];
    const content = (event.data || {}).content || {};
    if (move === "PENDING" && !orders.has(event.subject))
      orders.set(event.subject, { id: event.subject, placed: event.time, customer: content.customer_id,
        lines: content.lines });
    const order = orders.get(event.subject);
    if (order && move) Object.assign(order, { status: move, changed: event.time });
  }
  return [...orders.values()].reverse();
}

function newest(place) {
  let asked = 0;
  let running = false;
  let known = null;

  async function refresh() {
    if (running || document.hidden) return;
    running = true;
    asked = Date.now();
    try {
      const answer = await ask("/api/events", { context: "order", count: 300 });
      const rows = newestOrders(answer.items).slice(0, 50);
      const added = known ? rows.filter((row) => !known.has(row.id)) : [];
      if (added.length > 0) say(added.length === 1 ? `A new order: ${added[0].id}` : `${added.length} new orders`);
      fill(place, table("Newest orders", [
        { name: "Order", cell: (row) => orderLink(row.id) },
        { name: "Status", cell: (row) => badge(row.status) },
        { name: "Customer", cell: (row) => (row.customer ? el("a", { href: listAddress({ customer: row.customer }) }, row.customer) : "–") },
        { name: "Placed", cell: (row) => time(row.placed) },
        { name: "Changed", cell: (row) => time(row.changed), wide: true },
        { name: "Lines", cell: (row) => lines(row.lines), wide: true },
      ], rows.map((row) => ({ ...row, attributes: { class: added.includes(row) ? "new" : null } })),
      "No order was placed, as far as the stream of events reaches."));
      known = new Set(rows.map((row) => row.id));
    } catch (error) {
      fill(place, failure(error));
    }
    running = false;
  }
  refresh();
  return watch((point) => {
    const busy = point.placed > 0 || point.reserved > 0 || point.rejected > 0;
    if (Date.now() - asked >= (busy ? REFRESH_MS : 10000)) refresh();
  });
}

// ---- a customer's ----

function listAddress(query) {
  const given = Object.entries(query).filter(([, value]) => value);
  return `#/orders?${new URLSearchParams(given)}`;
}

/** Whether an order was placed in the period of the form, whose ends are days or times of the reader's own zone. */
export function inPeriod(order, from, to) {
  const at = Date.parse(order.create_time);
  return (!from || at >= Date.parse(from)) && (!to || at <= Date.parse(to));
}

function list(place, query) {
  const state = el("p", { role: "status" });
  const results = el("div");
  const more = el("button", { type: "button", hidden: true }, "Show more");
  const rows = [];
  let token = "";

  async function load() {
    more.disabled = true;
    state.textContent = "Asking …";
    try {
      const answer = await ask("/api/orders", { customer: query.customer, status: query.status, limit: query.limit || "100",
        page_token: token });
      const last = answer.items[answer.items.length - 1];
      token = last && last.next_page_token ? last.next_page_token : "";
      rows.push(...answer.items.filter((item) => item.order_id && inPeriod(item, query.from, query.to)));
      state.textContent = `${rows.length} order${rows.length === 1 ? "" : "s"}${token ? ", and there are more" : ""}`;
      fill(results, table("Orders", [
        { name: "Order", cell: (row) => orderLink(row.order_id) },
        { name: "Status", cell: (row) => badge(row.status) },
        { name: "Settled", cell: (row) => (row.settled ? "yes" : "no") },
        { name: "Placed", cell: (row) => time(row.create_time) },
        { name: "Changed", cell: (row) => time(row.update_time), wide: true },
        { name: "Lines", cell: (row) => lines(row.lines), wide: true },
        { name: "Reason", cell: (row) => row.status_reason, wide: true },
      ], rows, "No order fits."));
    } catch (error) {
      state.textContent = "";
      fill(results, failure(error));
      token = "";
    }
    more.hidden = !token;
    more.disabled = false;
  }
  more.addEventListener("click", load);
  place.append(state, results, more);
  load();
}

export function orders(main, query) {
  const results = el("div");
  const find = el("form", {
    class: "search",
    submit: (event) => {
      event.preventDefault();
      const id = new FormData(find).get("id").trim();
      if (id) location.hash = `#/order/${encodeURIComponent(id)}`;
    },
  },
  field("Order", el("input", { name: "id", placeholder: "ord_…", autocomplete: "off", spellcheck: "false", maxlength: 128 })),
  el("button", { type: "submit" }, "Show its timeline"));
  const choice = (value, text) => el("option", { value, selected: (query.status || "") === value }, text);
  const search = el("form", {
    class: "search",
    submit: (event) => {
      event.preventDefault();
      location.hash = listAddress(Object.fromEntries(new FormData(search)));
    },
  },
  field("Customer", el("input", { name: "customer", value: query.customer, autocomplete: "off", maxlength: 128 })),
  field("Status", el("select", { name: "status" }, choice("", "any"), STATUSES.map((one) => choice(one, one)))),
  field("Placed from", el("input", { name: "from", type: "datetime-local", value: query.from })),
  field("Placed until", el("input", { name: "to", type: "datetime-local", value: query.to })),
  field("At once", el("select", { name: "limit" }, ["100", "1000", "10000"].map((value) =>
    el("option", { value, selected: query.limit === value }, value)))),
  el("button", { type: "submit" }, "List"));

  main.append(el("h1", {}, "Orders"), find, search,
    section(query.customer ? `Orders of ${query.customer}` : "Newest orders", results));
  if (query.customer) {
    list(results, query);
    return null;
  }
  return newest(results);
}

// ---- one ----

function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function happened(event, now) {
  const later = Date.parse(event.time) > now;
  return el("li", { class: `${event.context}${later ? " later" : ""}${/dead|aside/.test(event.kind) ? " wrong" : ""}` },
    el("p", { class: "what" }, el("span", { class: "lane" }, event.context), " ", el("strong", {}, event.kind), " ", time(event.time),
      later ? " (not yet)" : ""),
    event.text ? el("p", { class: "text" }, event.text) : null,
    el("p", { class: "small" }, [event.version ? `version ${event.version}` : "", event.actor ? `by ${event.actor}` : "",
      event.stream_id ? `entry ${event.stream_id}` : ""].filter(Boolean).join(" · ")));
}

function timeline(explained) {
  const { order } = explained;
  const now = Date.now();
  return [
    el("div", { class: "cards" },
      el("div", { class: "card" }, el("h2", {}, "Why it is where it is"), el("p", {}, badge(order.status), " ", explained.because)),
      el("div", { class: "card" }, el("h2", {}, "What happens next"), el("p", {}, explained.next))),
    facts([["Customer", el("a", { href: listAddress({ customer: order.customer_id }) }, order.customer_id)],
      ["Lines", lines(order.lines)], ["Settled", order.settled ? "yes" : "no"], ["Version", String(order.version)],
      ["Reason", order.status_reason], ["Missing", (order.shortages || []).map((one) =>
        one.unknown ? `${one.sku}: no such SKU` : `${one.sku}: ${one.requested} wanted, ${one.available} there`).join("; ")],
      ["Placed", time(order.create_time)], ["Changed", time(order.update_time)],
      ["Held until", order.hold_expire_time ? time(order.hold_expire_time) : ""],
      ["Reservation", explained.reservation || "none"],
      ["Trace", explained.trace_id ? el("span", { class: "code" }, explained.trace_id) : ""],
      ["Partition", explained.partition === undefined ? "" : String(explained.partition)],
      ["Labels", Object.entries(order.labels || {}).map(([key, value]) => `${key}=${value}`).join(" ")]]),
    section("Timeline", el("ol", { class: "timeline" }, explained.events.map((event) => happened(event, now)))),
  ];
}

export function order(main, id) {
  const place = el("div");
  let ended = false;
  let timer = null;
  let status = null;

  async function refresh() {
    let again = true;
    try {
      const answer = await ask("/api/order", { id });
      if (ended) return;
      const explained = answer.items[0];
      const now = statusName(explained.order.status);
      if (status !== null && status !== now) say(`The order is ${now} now.`);
      status = now;
      again = !explained.order.settled;
      fill(place, answer.said ? note("warn", answer.said) : null, ...timeline(explained));
    } catch (error) {
      if (ended) return;
      again = error.status !== 404 && error.status !== 400;
      fill(place, failure(error));
    }
    if (again && !ended) timer = setTimeout(() => (document.hidden ? (timer = setTimeout(refresh, REFRESH_MS)) : refresh()), REFRESH_MS);
  }
  main.append(el("p", { class: "back" }, el("a", { href: "#/orders" }, "Orders")), el("h1", { class: "code" }, id), place);
  place.append(el("p", { role: "status" }, "Asking …"));
  refresh();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

