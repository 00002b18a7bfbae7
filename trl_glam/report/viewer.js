/* The episode viewer: a list with filters, one or two panes, a clock. Grids are drawn as Minigrid's renderer draws them. */

const COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [112, 39, 195], [255, 255, 0], [100, 100, 100]];
const COLOR_NAMES = ["red", "green", "blue", "purple", "yellow", "grey"];
const TYPE_NAMES = { 2: "wall", 3: "floor", 4: "door", 5: "key", 6: "ball", 7: "box", 8: "goal", 9: "lava" };
const OUTCOME_MARKS = { success: "✓", failure: "✗", "time limit": "◔" };

const rgb = (color, factor = 1) => `rgb(${color.map((part) => Math.round(part * factor)).join(",")})`;

/* One cell at (left, top) with side s; shapes and proportions are Minigrid's (world_object.py). */
function drawCell(g, code, left, top, s) {
  const kind = Math.floor(code / 100), color = COLORS[Math.floor(code / 10) % 10], state = code % 10;
  const rect = (x0, x1, y0, y1, fill) => { g.fillStyle = fill; g.fillRect(left + x0 * s, top + y0 * s, (x1 - x0) * s, (y1 - y0) * s); };
  const disc = (x, y, r, fill) => { g.fillStyle = fill; g.beginPath(); g.arc(left + x * s, top + y * s, r * s, 0, 7); g.fill(); };
  rect(0, 1, 0, 1, "#000");
  rect(0, 0.031, 0, 1, "rgb(100,100,100)");
  rect(0, 1, 0, 0.031, "rgb(100,100,100)");
  if (kind === 2 || kind === 8) rect(0, 1, 0, 1, rgb(color));
  if (kind === 3) rect(0.031, 1, 0.031, 1, rgb(color, 0.5));
  if (kind === 4 && state === 0) { rect(0.88, 1, 0, 1, rgb(color)); rect(0.92, 0.96, 0.04, 0.96, "#000"); }
  if (kind === 4 && state === 1) {
    rect(0, 1, 0, 1, rgb(color)); rect(0.04, 0.96, 0.04, 0.96, "#000");
    rect(0.08, 0.92, 0.08, 0.92, rgb(color)); rect(0.12, 0.88, 0.12, 0.88, "#000");
    disc(0.75, 0.5, 0.08, rgb(color));
  }
  if (kind === 4 && state === 2) { rect(0, 1, 0, 1, rgb(color)); rect(0.06, 0.94, 0.06, 0.94, rgb(color, 0.45)); rect(0.52, 0.75, 0.5, 0.56, rgb(color)); }
  if (kind === 5) {
    rect(0.5, 0.63, 0.31, 0.88, rgb(color)); rect(0.38, 0.5, 0.59, 0.66, rgb(color)); rect(0.38, 0.5, 0.81, 0.88, rgb(color));
    disc(0.56, 0.28, 0.19, rgb(color)); disc(0.56, 0.28, 0.064, "#000");
  }
  if (kind === 6) disc(0.5, 0.5, 0.31, rgb(color));
  if (kind === 7) { rect(0.12, 0.88, 0.12, 0.88, rgb(color)); rect(0.18, 0.82, 0.18, 0.82, "#000"); rect(0.16, 0.84, 0.47, 0.53, rgb(color)); }
  if (kind === 9) rect(0, 1, 0, 1, "rgb(255,128,0)");
}

function drawAgent(g, x, y, direction, s) {
  g.save();
  g.translate((x + 0.5) * s, (y + 0.5) * s);
  g.rotate((direction * Math.PI) / 2);
  g.fillStyle = "rgb(255,0,0)";
  g.beginPath();
  g.moveTo(-0.38 * s, -0.31 * s); g.lineTo(0.37 * s, 0); g.lineTo(-0.38 * s, 0.31 * s);
  g.fill();
  g.restore();
}

/* The cells at a frame: those of the reset with every change up to it. */
function cellsAt(grid, frame) {
  const cells = grid.cells.slice();
  for (let f = 0; f <= frame; f++) {
    const changes = grid.frames[f][5];
    for (let i = 0; i < changes.length; i += 2) cells[changes[i]] = changes[i + 1];
  }
  return cells;
}

function drawGrid(canvas, grid, frame) {
  const s = Math.max(8, Math.floor(640 / Math.max(grid.width, grid.height)));
  canvas.width = s * grid.width;
  canvas.height = s * grid.height;
  const g = canvas.getContext("2d");
  const [ax, ay, direction, , seen] = grid.frames[frame];
  cellsAt(grid, frame).forEach((code, i) => drawCell(g, code, (i % grid.width) * s, Math.floor(i / grid.width) * s, s));
  drawAgent(g, ax, ay, direction, s);
  g.fillStyle = "rgba(255,255,255,0.3)";
  for (let i = 0; i < grid.cells.length; i++) {
    if ((parseInt(seen[i >> 2], 16) >> (3 - (i & 3))) & 1) g.fillRect((i % grid.width) * s, Math.floor(i / grid.width) * s, s, s);
  }
}

const describe = (code) => `${COLOR_NAMES[Math.floor(code / 10) % 10]} ${TYPE_NAMES[Math.floor(code / 100)]}`;
const lengthOf = (episode) => episode.actions.length;
const returnOf = (episode, until = Infinity) => episode.rewards.slice(0, until).reduce((a, b) => a + b, 0);

class Pane {
  constructor(data, color, onSeek) {
    this.data = data;
    this.color = color;
    this.onSeek = onSeek;
    this.canvas = el("canvas", { role: "img" });
    this.carry = el("div", { class: "carry" });
    this.talk = el("div", { class: "talk", tabindex: 0 });
    this.world = el("div", { class: "world" });
    this.tiles = el("div", { class: "tiles" });
    this.bars = el("div", { class: "bars" });
    this.head = el("div", { class: "pane-head" });
    this.curve = el("div", { class: "line" });
    this.text = el("pre", { tabindex: 0 });
    this.promptLabel = el("summary");
    this.prompt = el("details", { class: "prompt", open: true }, this.promptLabel, this.text);
    this.root = el("article", { class: "pane" }, this.head, this.world, el("div", { class: "reads" }, this.tiles, this.bars), this.curve, this.prompt);
  }

  open(episode) {
    this.episode = episode;
    const mark = el("span", { class: episode.outcome }, `${OUTCOME_MARKS[episode.outcome]} ${episode.outcome}`);
    const policy = this.data.policies[episode.policy];
    const facts = [
      mark,
      el("span", {}, el("span", { class: "dot", style: `background:${this.color(policy)};margin-right:6px` }), policy + (episode.by !== policy ? ` · ${episode.by}` : "")),
      episode.kind ? el("span", {}, episode.kind) : null,
      el("span", {}, `seed ${episode.seed}`),
      episode.update ? el("span", {}, `update ${episode.update}, step ${episode.env_step.toLocaleString("en")}`) : null,
      el("span", {}, `return ${shortNumber(returnOf(episode))}`),
    ];
    this.head.replaceChildren(
      el("div", { class: episode.mission.length > 90 ? "mission long" : "mission" }, episode.mission || "(no mission)"),
      el("div", { class: "facts" }, ...facts.filter((fact) => fact !== null)),
    );
    this.world.replaceChildren(...(episode.grid ? [this.canvas, this.carry] : [this.talk]));
    this.drawCurve();
  }

  show(step) {
    const episode = this.episode, last = lengthOf(episode), at = Math.min(step, last);
    if (episode.grid) this.showGrid(at);
    else this.showTalk(at);
    const value = at < last ? episode.values[at] : null, reward = at > 0 ? episode.rewards[at - 1] : 0;
    const tile = (name, text) => el("div", { class: "tile" }, el("span", {}, name), el("b", { "data-tile": name }, text));
    this.tiles.replaceChildren(
      tile("step", `${at} / ${last}`), tile("value", value === null ? "–" : value.toFixed(3)),
      tile("reward", shortNumber(reward)), tile("return", shortNumber(returnOf(episode, at))),
    );
    this.showBars(at, last);
    this.showText(at, last);
    if (this.cursor) {
      this.cursor.setAttribute("x1", this.curveX(at));
      this.cursor.setAttribute("x2", this.curveX(at));
    }
  }

  showGrid(at) {
    const grid = this.episode.grid, carried = grid.frames[at][3];
    drawGrid(this.canvas, grid, at);
    this.canvas.setAttribute("aria-label", `Grid at step ${at}: ${this.episode.said[at].join(", ")}`);
    if (!carried) { this.carry.replaceChildren("carries nothing"); return; }
    const icon = el("canvas", { width: 40, height: 40 });
    drawCell(icon.getContext("2d"), carried, 0, 0, 40);
    this.carry.replaceChildren(icon, `carries a ${describe(carried)}`);
  }

  showTalk(at) {
    const episode = this.episode, nodes = [];
    for (let t = 0; t <= at; t++) {
      if (t > 0) nodes.push(el("div", { class: "did" }, `> ${this.actions(t - 1)[episode.actions[t - 1]]}`));
      for (const sentence of episode.said[t]) nodes.push(el("div", { class: t < at ? "old" : "" }, sentence));
    }
    this.talk.replaceChildren(...nodes);
    this.talk.scrollTop = this.talk.scrollHeight;
  }

  actions(t) { return this.data.sets[this.episode.sets[t]]; }

  showBars(at, last) {
    if (at === last) {
      const { outcome } = this.episode;
      this.bars.replaceChildren(el("p", { class: "note" }, el("b", { class: outcome }, `${OUTCOME_MARKS[outcome]} ${outcome}`), ` after ${last} step${last === 1 ? "" : "s"}`));
      return;
    }
    const probs = this.episode.probs[at], taken = this.episode.actions[at];
    const rows = this.actions(at).map((action, i) =>
      el("div", { class: i === taken ? "bar taken" : "bar", "data-p": probs ? probs[i] : "", title: action },
        el("span", { class: "label" }, `${i === taken ? "▸ " : ""}${action}`),
        el("span", { class: "track" }, el("i", { style: `width:${probs ? 100 * probs[i] : i === taken ? 100 : 0}%` })),
        el("span", { class: "num" }, probs ? percent(probs[i]) : i === taken ? "taken" : "")));
    this.bars.replaceChildren(...rows);
    const chosen = rows[taken];
    this.bars.scrollTop = Math.max(0, chosen.offsetTop - this.bars.offsetTop - this.bars.clientHeight / 2);
  }

  showText(at, last) {
    const prompt = at < last ? this.episode.prompts[at] : null;
    this.promptLabel.textContent = at === last ? "The last observation" : prompt === null ? "Observation (the log was written without prompts)" : "Prompt, as the model reads it";
    this.text.textContent = prompt === null ? this.episode.said[at].join("\n") : prompt;
  }

  drawCurve() {
    const values = this.episode.values, last = lengthOf(this.episode), known = values.filter((value) => value !== null);
    const width = 600, height = 44;
    this.curveX = (t) => (t / Math.max(last, 1)) * width;
    const svg = svgEl("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-label": "Value and rewards over the episode" });
    const low = Math.min(0, ...known), high = Math.max(...known, low + 1e-6);
    const y = (value) => height - 4 - ((value - low) / (high - low)) * (height - 8);
    svg.append(svgEl("line", { x1: 0, x2: width, y1: height - 1, y2: height - 1, stroke: "var(--line)" }));
    if (known.length) {
      const points = values.map((value, t) => (value === null ? null : `${this.curveX(t)},${y(value)}`)).filter((point) => point);
      svg.append(svgEl("polyline", { points: points.join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 1.8, "vector-effect": "non-scaling-stroke" }));
    }
    this.episode.rewards.forEach((reward, t) => {
      if (reward === 0) return;
      svg.append(svgEl("line", { x1: this.curveX(t + 1), x2: this.curveX(t + 1), y1: 6, y2: height - 1, stroke: reward > 0 ? "var(--good)" : "var(--bad)", "stroke-width": 3, "vector-effect": "non-scaling-stroke" }));
    });
    this.cursor = svgEl("line", { y1: 0, y2: height, stroke: "var(--ink)", "stroke-width": 1.4, "vector-effect": "non-scaling-stroke" });
    svg.append(this.cursor);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      this.onSeek(Math.round(((event.clientX - box.left) / box.width) * last));
    });
    this.curve.replaceChildren(el("div", { class: "cap" }, el("span", {}, known.length ? "value, and rewards as bars" : "rewards as bars"), el("span", {}, known.length ? `${low.toFixed(2)} … ${high.toFixed(2)}` : "")), svg);
  }
}

class Viewer {
  constructor(parent, data, color) {
    this.data = data;
    this.step = 0;
    this.timer = null;
    this.partners = new Map();
    for (const episode of data.episodes) this.partners.set(episode.same, [...(this.partners.get(episode.same) || []), episode]);
    this.panes = [new Pane(data, color, (t) => this.seek(t)), new Pane(data, color, (t) => this.seek(t))];
    this.panesBox = el("div", { class: "panes" });
    this.buildFilters();
    this.buildControls();
    const stage = el("div", { class: "stage" }, this.panesBox, this.controls);
    const side = el("div", { class: "side" }, this.filters, this.count, this.list);
    parent.append(el("div", { class: "card viewer", id: "viewer" }, side, stage));
    parent.append(el("p", { class: "keys" }, ...[["←", ""], ["→", " step  "], ["space", " play  "], ["↑", ""], ["↓", " episode  "], ["Home", ""], ["End", " ends  "], ["C", " side by side  "], ["P", " prompt  "], ["T", " light or dark"]].flatMap(([key, text]) => [el("kbd", {}, key), text || " "])));
    document.addEventListener("keydown", (event) => this.onKey(event));
    this.applyFilters();
  }

  buildFilters() {
    const { data } = this, options = (values) => values.map(([value, text]) => el("option", { value }, text));
    const kinds = [...new Set(data.episodes.map((episode) => episode.kind).filter((kind) => kind))].sort();
    const select = (id, label, values, wide = false) => {
      const box = el("select", { id, onchange: () => this.applyFilters() }, ...options(values));
      return [box, el("label", { class: wide ? "wide" : "" }, label, box)];
    };
    let labels = [];
    [this.byOutcome, labels[0]] = select("f-outcome", "Outcome", [["", "all"], ...Object.keys(OUTCOME_MARKS).map((name) => [name, name])]);
    [this.byKind, labels[1]] = select("f-kind", "Task kind", [["", "all"], ...kinds.map((kind) => [kind, kind])]);
    [this.byPolicy, labels[2]] = select("f-policy", "Run", [["", "all"], ...data.policies.map((name, i) => [String(i), name])], true);
    this.search = el("input", { type: "search", id: "f-search", placeholder: "Search missions", oninput: () => this.applyFilters(), "aria-label": "Search missions" });
    this.paired = el("input", { type: "checkbox", id: "f-paired", onchange: () => this.applyFilters() });
    const anyPair = [...this.partners.values()].some((of) => of.length > 1);
    this.filters = el("div", { class: "filters" }, ...labels, el("div", { class: "wide" }, this.search),
      anyPair ? el("label", { class: "check wide" }, this.paired, "only seeds that several runs played") : null);
    this.count = el("div", { class: "count", role: "status" });
    this.list = el("ul", { class: "list", role: "listbox", "aria-label": "Episodes", tabindex: 0 });
  }

  buildControls() {
    const button = (text, title, action, main = false) => el("button", { type: "button", title, "aria-label": title, class: main ? "main" : "", onclick: action }, text);
    this.play = button("Play", "Play or pause (space)", () => this.toggle(), true);
    this.range = el("input", { type: "range", min: 0, value: 0, "aria-label": "Step", oninput: () => this.seek(Number(this.range.value)) });
    this.at = el("span", { class: "at" });
    this.second = el("select", { id: "second", title: "Side by side on the same seed (C)", "aria-label": "Side by side with", onchange: () => this.openPanes() });
    this.controls = el("div", { class: "controls" }, button("◀", "One step back (←)", () => this.seek(this.step - 1)), this.play,
      button("▶", "One step on (→)", () => this.seek(this.step + 1)), this.range, this.at, this.second);
  }

  applyFilters() {
    const text = this.search.value.trim().toLowerCase();
    this.shown = this.data.episodes.filter((episode) =>
      (!this.byOutcome.value || episode.outcome === this.byOutcome.value) &&
      (!this.byKind.value || episode.kind === this.byKind.value) &&
      (!this.byPolicy.value || String(episode.policy) === this.byPolicy.value) &&
      (!this.paired.checked || this.partners.get(episode.same).length > 1) &&
      (!text || episode.mission.toLowerCase().includes(text)));
    const wins = this.shown.filter((episode) => episode.outcome === "success").length;
    this.count.textContent = `${this.shown.length} of ${this.data.episodes.length} episodes` + (this.shown.length ? `, ${wins} successful` : "");
    this.list.replaceChildren(...this.shown.map((episode, i) => el("li", { role: "option", onclick: () => this.open(i) },
      el("span", { class: episode.outcome }, OUTCOME_MARKS[episode.outcome]),
      el("span", { class: "what", title: episode.mission }, episode.mission || `seed ${episode.seed}`),
      el("span", { class: "len" }, `${lengthOf(episode)}`),
      el("span", { class: "meta" }, [this.data.policies[episode.policy], episode.kind, episode.update ? `update ${episode.update}` : null].filter((part) => part).join(" · ")))));
    const again = this.shown.indexOf(this.episode);
    if (this.shown.length) this.open(again < 0 ? 0 : again, again >= 0);
  }

  open(index, keepStep = false) {
    this.pause();
    this.index = index;
    this.episode = this.shown[index];
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === index)));
    const item = this.list.children[index];
    if (item.offsetTop < this.list.scrollTop + this.list.offsetTop || item.offsetTop + item.offsetHeight > this.list.scrollTop + this.list.offsetTop + this.list.clientHeight)
      this.list.scrollTop = item.offsetTop - this.list.offsetTop - this.list.clientHeight / 2;
    const wanted = this.wanted, others = this.partners.get(this.episode.same).filter((other) => other !== this.episode);
    this.second.replaceChildren(el("option", { value: "" }, others.length ? "side by side with …" : "no other run"),
      ...others.map((other, i) => el("option", { value: i }, this.data.policies[other.policy])));
    this.second.disabled = !others.length;
    const same = others.findIndex((other) => other.policy === wanted);
    if (wanted !== undefined && same >= 0) this.second.value = String(same);
    if (!keepStep) this.step = 0;
    this.openPanes(false);
  }

  openPanes(remember = true) {
    const others = this.partners.get(this.episode.same).filter((other) => other !== this.episode);
    const other = this.second.value === "" ? null : others[Number(this.second.value)];
    if (remember) this.wanted = other ? other.policy : undefined;
    this.opened = other ? [this.episode, other] : [this.episode];
    this.panesBox.className = other ? "panes two" : "panes";
    this.panesBox.replaceChildren(...this.opened.map((episode, i) => { this.panes[i].open(episode); return this.panes[i].root; }));
    this.last = Math.max(...this.opened.map(lengthOf));
    this.range.max = this.last;
    this.seek(this.step);
  }

  seek(step) {
    this.step = Math.max(0, Math.min(step, this.last));
    this.opened.forEach((_, i) => this.panes[i].show(this.step));
    this.range.value = this.step;
    this.at.textContent = `${this.step} / ${this.last}`;
  }

  toggle() { if (this.timer) this.pause(); else this.start(); }

  start() {
    if (this.step >= this.last) this.seek(0);
    this.play.textContent = "Pause";
    this.timer = setInterval(() => { this.seek(this.step + 1); if (this.step >= this.last) this.pause(); }, 450);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "Play";
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const on = event.target instanceof Element ? event.target : document.body;
    if (on.matches("input[type=search], select")) return;
    const move = { ArrowLeft: () => this.seek(this.step - 1), ArrowRight: () => this.seek(this.step + 1), Home: () => this.seek(0), End: () => this.seek(this.last),
      ArrowUp: () => this.index > 0 && this.open(this.index - 1), ArrowDown: () => this.index + 1 < this.shown.length && this.open(this.index + 1),
      " ": () => this.toggle(), c: () => this.compare(), p: () => this.panes.forEach((pane) => { pane.prompt.open = !pane.prompt.open; }) }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!move || (event.key === " " && on.matches("button, summary, a"))) return;
    // Home, End and the vertical arrows scroll the page elsewhere; here they belong to the viewer when it is in sight.
    const box = document.getElementById("viewer").getBoundingClientRect();
    if (box.bottom < 80 || box.top > innerHeight - 80) return;
    event.preventDefault();
    move();
  }

  compare() {
    if (this.second.disabled) return;
    this.second.value = this.second.value === "" ? "0" : "";
    this.openPanes();
  }
}
