// console.js - which view is shown: what stands behind # in the address.
import { byId, el, failure, note } from "./base.js";
import { alarms } from "./alarms.js";
import { archive, life, movements } from "./archive.js";
import { checks } from "./checks.js";
import { connect, disconnect } from "./live.js";
import { dead } from "./dead.js";
import { me, onChange, readMe, signIn } from "./me.js";
import { order, orders } from "./orders.js";
import { overview } from "./overview.js";
import { sku, stock } from "./stock.js";
import { streams } from "./streams.js";

// A view fills `main`, and may return what is to be done when it is left.
const VIEWS = [
  { name: "overview", title: "Overview", show: overview },
  { name: "orders", title: "Orders", show: (main, rest, query) => orders(main, query) },
  { name: "order", within: "orders", title: "Order", show: order },
  { name: "stock", title: "Stock", show: (main, rest, query) => (rest ? sku(main, rest) : stock(main, query)) },
  { name: "archive", title: "Archive", show: (main, rest, query) => (rest ? life(main, rest) : archive(main, query)) },
  { name: "movements", within: "archive", title: "Movements", show: movements },
  { name: "streams", title: "Streams", show: streams },
  { name: "dead", title: "Dead letters", show: dead },
  { name: "checks", title: "Checks", show: checks },
  { name: "alarms", title: "Alarms", show: alarms },
];
let leave = null;
let moved = false;

/** The value of a part of an address; what is no such part is taken as it is. */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const view = VIEWS.find((one) => one.name === name) || VIEWS[0];
  const main = byId("main");

  if (leave) leave();
  leave = null;
  main.replaceChildren();
  document.title = `${view.title} – Tandem`;
  for (const link of byId("views").querySelectorAll("a"))
    if (link.getAttribute("href") === `#/${view.within || view.name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  if (me.public && !me.signed_in) {
    main.append(el("h1", {}, view.title), note("info", "Sign in first."), el("button", { type: "button", click: signIn }, "Sign in"));
    return;
  }
  leave = view.show(main, decode(rest.join("/")), Object.fromEntries(new URLSearchParams(query))) || null;
  if (moved) main.focus({ preventScroll: true });
  if (moved) window.scrollTo(0, 0);
  moved = true;
}

async function begin() {
  byId("views").append(...VIEWS.filter((view) => !view.within).map((view) =>
    el("li", {}, el("a", { href: `#/${view.name}` }, view.title))));
  // The target is in this page: the address must not change.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  try {
    await readMe();
  } catch (error) {
    byId("main").replaceChildren(failure(error));
    setTimeout(begin, 5000);
    byId("views").replaceChildren();
    return;
  }
  const mayLook = () => !me.public || me.signed_in;
  onChange(() => {
    moved = false;
    if (mayLook()) connect();
    else disconnect();
    show();
  });
  window.addEventListener("hashchange", show);
  if (mayLook()) connect();
  show();
}

begin();
