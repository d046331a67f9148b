// live.js - the points that the console sends each second, and those of the minutes before.
import { byId, say } from "./base.js";

const KEPT = 600;
export const points = [];
const listeners = new Set();
let source = null;
let state = "";

/** Calls `listener(point)` for each new point, until the function that is returned is called. */
export function watch(listener) {
  listeners.add(listener);
  if (points.length > 0) listener(points[points.length - 1]);
  return () => listeners.delete(listener);
}

function tell() {
  const last = points[points.length - 1];
  if (last) for (const listener of [...listeners]) listener(last);
}

function show(now, text) {
  if (now === state) return;
  state = now;
  const place = byId("live");
  place.className = `live ${now}`;
  place.textContent = text;
  if (now === "lost") say(text);
}

/** Connects; when the connection is lost, the browser makes another. */
export function connect() {
  if (source) source.close();
  source = new EventSource("/api/live");
  source.addEventListener("open", () => show("on", "live"));
  source.addEventListener("history", (event) => {
    points.splice(0, points.length, ...JSON.parse(event.data));
    tell();
  });
  source.addEventListener("point", (event) => {
    show("on", "live");
    points.push(JSON.parse(event.data));
    if (points.length > KEPT) points.shift();
    tell();
  });
  source.addEventListener("error", () => {
    show("lost", "not connected: what is shown is old");
    // It gives up when it is refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  });
}
