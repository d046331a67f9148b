// plots.js - small plots of the last minutes, as SVG.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 72;
const SPAN_MS = 300000;

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** A round number that is not below `value`. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/**
 * A plot with a title. `series`: [{ key, name }], or with value(point) in place of the key; `text`: a value for people; `limit`: a line
 * that is drawn, too. update(points) draws.
 */
export function plot(title, series, text, limit = null) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  const values = document.createElement("span");
  const most = document.createElement("span");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const valueOf = (one, point) => (one.value ? one.value(point) : point[one.key]);
  const paths = series.map((_, i) => svg("path", { class: `line line-${i}` }));

  figure.className = "plot";
  name.className = "title";
  name.textContent = title;
  values.className = "values";
  const shownValues = series.map((one, i) => {
    const value = document.createElement("span");
    const content = document.createTextNode("");
    const mark = document.createElement("span");
    mark.className = `mark mark-${i}`;
    mark.setAttribute("aria-hidden", "true");
    value.append(...(series.length > 1 ? [mark, `${one.name} `] : []), content);
    values.append(value);
    return content;
  });
  most.className = "most";
  picture.append(svg("line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), ...paths);
  const bound = svg("line", { class: "limit", x1: 0, x2: WIDTH });
  if (limit !== null) picture.append(bound);
  caption.append(name, values);
  figure.append(caption, picture, most);

  function update(points) {
    const last = points[points.length - 1];
    const end = last ? last.t : 0;
    const shown = points.filter((point) => end - point.t <= SPAN_MS);
    const all = shown.flatMap((point) => series.map((one) => valueOf(one, point) ?? 0));
    const top = roundUp(Math.max(limit ?? 0, ...all));
    const height = (value) => (HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1);

    shownValues.forEach((value, i) => {
      value.data = text(last ? valueOf(series[i], last) : null);
    });
    bound.setAttribute("y1", height(limit ?? 0));
    bound.setAttribute("y2", height(limit ?? 0));
    most.textContent = `${limit === null ? "" : `limit ${text(limit)}, `}up to ${text(top)}, 5 minutes`;
    picture.setAttribute("aria-label", `${title}, the last 5 minutes: now ` +
      series.map((one) => `${one.name} ${text(last ? valueOf(one, last) : null)}`).join(", ") + (limit === null ? "" : `; the limit is ${text(limit)}`));
    series.forEach((one, i) => {
      let path = "";
      let pen = "M";
      let before = null;
      for (const point of shown) {
        const value = valueOf(one, point);
        if (value === null || value === undefined || (before !== null && point.t - before > 5000)) pen = "M";
        before = point.t;
        if (value === null || value === undefined) continue;
        const x = WIDTH - ((end - point.t) / SPAN_MS) * WIDTH;
        path += `${pen}${x.toFixed(1)} ${height(value)}`;
        pen = "L";
      }
      paths[i].setAttribute("d", path);
    });
  }
  return { figure, update };
}
