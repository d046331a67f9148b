// live.js - the points that the console sends each second, and those of the minutes before.
import { byId, whyRefused } from "./base.js";

const KEPT = 600;
const AGAIN_MS = 5000;
/** The numbers of the last minutes, the oldest first. Only the newest point says how each service and stream is. */
export const points = [];
const listeners = new Set();
let last = null;
let source = null;
let timer = null;
let state = "";

/** Calls `listener(point)` for each new point, until the function that is returned is called. */
export function watch(listener) {
  listeners.add(listener);
  if (last) listener(last);
  return () => listeners.delete(listener);
}

function show(now, text) {
  const place = byId("live");
  if (now === state && place.textContent === text) return;
  state = now;
  place.className = `live ${now}`;
  place.textContent = text;
}

/** A new point. */
export function take(point) {
  const { streams, services, ...numbers } = point;
  last = point;
  points.push(numbers);
  if (points.length > KEPT) points.shift();
  for (const listener of [...listeners]) listener(point);
}

function close() {
  clearTimeout(timer);
  if (source) source.close();
  source = null;
}

/** Ends the connection: nobody may look any more. */
export function disconnect() {
  close();
  show("", "");
}

/** Connects; when the connection is lost, the browser makes another. */
export function connect() {
  close();
  source = new EventSource("/api/live");
  source.addEventListener("history", (event) => {
    points.splice(0, points.length, ...JSON.parse(event.data));
  });
  source.addEventListener("point", (event) => {
    show("on", "live");
    take(JSON.parse(event.data));
  });
  source.addEventListener("error", () => {
    if (state !== "lost") show("lost", "not connected: what is shown is old");
    // It gives up when it is refused.
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(timer);
    timer = setTimeout(connect, AGAIN_MS);
    const refused = source;
    whyRefused("/api/live").then((why) => {
      if (why && source === refused) show("lost", `not connected: ${why}`);
    }).catch(() => {});
  });
}
