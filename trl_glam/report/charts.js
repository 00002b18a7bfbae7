/* Line charts with bands, as SVG of the width they are shown at. No knowledge of runs beyond {rows, color, label}. */

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function svgEl(name, attributes = {}, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

function percent(value, digits = 1) { return `${(100 * value).toFixed(digits)} %`; }

function shortNumber(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e3) return `${+(value / 1e3).toPrecision(3)}k`;
  return `${+value.toPrecision(3)}`;
}

function niceTicks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const distance = (step) => Math.abs(Math.log(step / raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).reduce((best, s) => (distance(s) < distance(best) ? s : best));
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Math.abs(tick) < step * 1e-9 ? 0 : tick);
  return ticks;
}

/* series: [{label, color, points: bool, rows: [[x, value, low, high], ...]}]; rate: the axis is 0 to 100 %. */
class LineChart {
  constructor(parent, { rate, height, label }) {
    this.rate = rate;
    this.height = height;
    this.svg = svgEl("svg", { role: "img", "aria-label": label });
    parent.append(this.svg);
    this.series = [];
    this.width = 0;
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width !== this.width) { this.width = width; this.draw(); }
    }).observe(parent);
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
  }

  show(series) { this.series = series; if (this.width) this.draw(); }

  draw() {
    const { width, height } = this, left = 42, right = 10, top = 8, bottom = 22;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.replaceChildren();
    const rows = this.series.flatMap((one) => one.rows);
    if (!rows.length || width < 60) return;
    const xMax = Math.max(...rows.map((row) => row[0])) || 1;
    let low = 0, high = 1;
    if (!this.rate) {
      const values = rows.flatMap((row) => row.slice(1).filter((value) => value !== null));
      low = Math.min(...values); high = Math.max(...values);
      if (low >= 0 && low < high * 0.6) low = 0;
      high += (high - low) * 0.04;
      if (high === low) { high += Math.abs(high) * 0.1 || 1; low -= Math.abs(low) * 0.1; }
    }
    const x = (value) => left + (value / xMax) * (width - left - right);
    const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
    this.scale = { x, xMax, left, right, width, height, top, bottom };
    for (const tick of this.rate ? [0, 0.25, 0.5, 0.75, 1] : niceTicks(low, high, 4)) {
      this.svg.append(svgEl("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), stroke: "var(--line)" }));
      const text = this.rate ? `${Math.round(100 * tick)} %` : shortNumber(tick);
      this.svg.append(svgEl("text", { x: left - 7, y: y(tick) + 4, "text-anchor": "end" }, text));
    }
    for (const tick of niceTicks(0, xMax, Math.max(2, Math.floor(width / 110)))) {
      this.svg.append(svgEl("text", { x: x(tick), y: height - 5, "text-anchor": tick === 0 ? "start" : x(tick) > width - 24 ? "end" : "middle" }, shortNumber(tick)));
    }
    for (const one of this.series) {
      const banded = one.rows.filter((row) => row[2] !== null);
      if (banded.length > 1 && !one.points) {
        const edge = [...banded.map((row) => [row[0], row[3]]), ...banded.reverse().map((row) => [row[0], row[2]])];
        this.svg.append(svgEl("polygon", { points: edge.map(([a, b]) => `${x(a)},${y(b)}`).join(" "), fill: one.color, opacity: 0.16 }));
      }
      if (one.points) {
        for (const [step, value, from, to] of one.rows) {
          if (from !== null) this.svg.append(svgEl("line", { x1: x(step), x2: x(step), y1: y(from), y2: y(to), stroke: one.color, "stroke-width": 1.5 }));
          this.svg.append(svgEl("circle", { cx: x(step), cy: y(value), r: 4, fill: "var(--card)", stroke: one.color, "stroke-width": 2 }));
        }
      } else if (one.rows.length === 1) {
        this.svg.append(svgEl("circle", { cx: x(one.rows[0][0]), cy: y(one.rows[0][1]), r: 3, fill: one.color }));
      } else {
        const line = one.rows.map((row) => `${x(row[0]).toFixed(1)},${y(row[1]).toFixed(1)}`).join(" ");
        this.svg.append(svgEl("polyline", { points: line, fill: "none", stroke: one.color, "stroke-width": 2, "stroke-linejoin": "round", ...(one.dash ? { "stroke-dasharray": one.dash } : {}) }));
      }
    }
    this.cross = svgEl("line", { y1: top, y2: height - bottom, stroke: "var(--faint)", "stroke-dasharray": "3 3", visibility: "hidden" });
    this.svg.append(this.cross);
  }

  hover(event) {
    if (!this.scale || !this.cross) return;
    const { x, xMax, left, right, width } = this.scale;
    const box = this.svg.getBoundingClientRect();
    const at = ((event.clientX - box.left - left) / (width - left - right)) * xMax;
    const all = this.series.flatMap((one) => one.rows.map((row) => row[0]));
    if (!all.length) return;
    const step = all.reduce((best, value) => (Math.abs(value - at) < Math.abs(best - at) ? value : best));
    this.cross.setAttribute("x1", x(step));
    this.cross.setAttribute("x2", x(step));
    this.cross.setAttribute("visibility", "visible");
    const write = (value) => (this.rate ? percent(value) : shortNumber(value));
    const lines = [el("div", {}, el("b", {}, `${Math.round(step).toLocaleString("en")} steps`))];
    for (const one of this.series) {
      const row = one.rows.reduce((best, r) => (Math.abs(r[0] - step) < Math.abs(best[0] - step) ? r : best), one.rows[0]);
      if (!row || Math.abs(row[0] - step) > xMax * 0.03) continue;
      const band = row[2] === null ? "" : ` [${write(row[2])}, ${write(row[3])}]`;
      lines.push(el("div", {}, el("span", { class: "dot", style: `background:${one.color}` }), `${one.label}  ${write(row[1])}${band}`));
    }
    const tip = document.getElementById("tip");
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const wide = tip.offsetWidth;
    tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - wide - 6))}px`;
    tip.style.top = `${Math.max(6, event.clientY - tip.offsetHeight - 12)}px`;
  }

  leave() {
    if (this.cross) this.cross.setAttribute("visibility", "hidden");
    document.getElementById("tip").hidden = true;
  }
}
