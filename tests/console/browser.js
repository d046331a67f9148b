// A browser that a test drives: reads lines of JSON, {"code": "…", "args": {…}}, runs the code with `page`, `context` and
// `args`, and writes {"value": …} or {"error": "…"}. What the page writes into the browser's console as an error, and what
// it does not catch, is in `errors`.
//
//   node browser.js PROGRAM          PROGRAM: the browser's
"use strict";
const readline = require("node:readline");
const { chromium } = require("playwright-core");

/** The page asks again only now and then, and the machine may be busy. */
const PATIENCE_MS = 60000;
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

/** Faults of accessibility that can be found without knowing the page: an empty list if there are none. */
function faults() {
  const found = [];
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const label = (element) =>
    (element.getAttribute("aria-label") || (element.labels && [...element.labels].map((one) => one.textContent).join(" ")) ||
      (element.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join(" ") ||
      element.textContent || element.getAttribute("alt") || "").trim();
  const where = (element) => element.outerHTML.slice(0, 120);
  for (const element of document.querySelectorAll("a, button, input, select, textarea, dialog[open], [role=img], [role=region], nav, summary"))
    if (shown(element) && !label(element)) found.push(`has no name: ${where(element)}`);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`two elements have the id ${id}`);
  for (const table of document.querySelectorAll("table"))
    if (![...table.querySelectorAll("thead th")].every((head) => head.scope === "col")) found.push(`a head of no column: ${where(table)}`);
  if (document.querySelectorAll("main").length !== 1 || document.querySelectorAll("h1").length !== 1)
    found.push("there is not one main and one h1");
  if (!document.documentElement.lang || !document.title) found.push("no language or no title");
  // In rising order, none left out.
  let level = 0;
  for (const head of document.querySelectorAll("h1, h2, h3")) {
    if (!shown(head)) continue;
    if (Number(head.tagName[1]) > level + 1) found.push(`a heading is left out before ${where(head)}`);
    level = Number(head.tagName[1]);
  }
  for (const element of document.querySelectorAll("button, input, select"))
    if (shown(element) && element.type !== "radio" && element.type !== "checkbox" && element.getBoundingClientRect().height < 24)
      found.push(`too small to hit: ${where(element)}`);
  if (document.documentElement.scrollWidth > window.innerWidth) found.push(`wider than the window: ${document.documentElement.scrollWidth}`);

  if (window.innerWidth < 400)
    for (const frame of document.querySelectorAll(".frame"))
      if (frame.scrollWidth > frame.clientWidth) found.push(`wider than its frame: ${where(frame)} by ${frame.scrollWidth - frame.clientWidth}`);

  const channels = (color) => (color.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
      if (a === 1 && r !== undefined) return [r, g, b];
      if (a > 0 && a < 1) return null; // mixed: not judged here
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !shown(element) || element.closest(":disabled, .unseen, dialog:not([open])")) continue;
    const back = behind(element);
    if (back === null) continue;
    const [one, other] = [light(channels(getComputedStyle(element).color)), light(back)].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(2)}: ${where(element)}`);
  }
  return found;
}

async function main() {
  const browser = await chromium.launch({ executablePath: process.argv[2], timeout: PATIENCE_MS,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce" });
  const page = await context.newPage();
  const errors = [];
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  console.log(JSON.stringify({ value: "ready" }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { code, args } = JSON.parse(line);
    let answer;
    try {
      const run = new AsyncFunction("page", "context", "args", "errors", "faults", code);
      answer = { value: (await run(page, context, args, errors, faults)) ?? null };
    } catch (error) {
      answer = { error: String(error.stack || error) };
    }
    console.log(JSON.stringify(answer));
  }
  await browser.close();
}

main();
