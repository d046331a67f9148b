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
 * A plot with a title. `series`: [{ key, name }]; `text`: a value for people. update(points) draws.
 */
export function plot(title, series, text) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  const values = document.createElement("span");
  const most = document.createElement("span");
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const paths = series.map((_, i) => svg("path", { class: `line line-${i}` }));

  figure.className = "plot";
  name.className = "title";
  name.textContent = title;
  values.className = "values";
  most.className = "most";
  picture.append(svg("line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), ...paths);
  caption.append(name, values);
  figure.append(caption, picture, most);

  function update(points) {
    const last = points[points.length - 1];
    const end = last ? last.t : 0;
    const shown = points.filter((point) => end - point.t <= SPAN_MS);
    const all = shown.flatMap((point) => series.map((one) => point[one.key] ?? 0));
    const top = roundUp(Math.max(0, ...all));

    values.replaceChildren(...series.map((one, i) => {
      const value = document.createElement("span");
      const mark = document.createElement("span");
      mark.className = `mark mark-${i}`;
      mark.setAttribute("aria-hidden", "true");
      value.append(...(series.length > 1 ? [mark, `${one.name} `] : []), text(last ? last[one.key] : null));
      return value;
    }));
    most.textContent = `up to ${text(top)}, 5 minutes`;
    picture.setAttribute("aria-label", `${title}, the last 5 minutes: now ` +
      series.map((one) => `${one.name} ${text(last ? last[one.key] : null)}`).join(", "));
    series.forEach((one, i) => {
      let path = "";
      let pen = "M";
      let before = null;
      for (const point of shown) {
        const value = point[one.key];
        if (value === null || value === undefined || (before !== null && point.t - before > 5000)) pen = "M";
        before = point.t;
        if (value === null || value === undefined) continue;
        const x = WIDTH - ((end - point.t) / SPAN_MS) * WIDTH;
        const y = HEIGHT - 2 - (value / top) * (HEIGHT - 6);
        path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
        pen = "L";
      }
      paths[i].setAttribute("d", path);
    });
  }
  return { figure, update };
}
