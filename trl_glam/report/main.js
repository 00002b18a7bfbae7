/* Unpacks the data and builds the sections. */

async function unpack() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function section(id, title, note, ...content) {
  document.getElementById("nav").append(el("a", { href: `#${id}` }, title));
  const node = el("section", { id }, el("div", { class: "head" }, el("h2", {}, title), note ? el("p", {}, note) : null), ...content);
  document.getElementById("main").append(node);
  return node;
}

function rateCell(cell, color) {
  if (!cell) return el("td", { class: "rate" }, "–");
  const [low, high] = cell.interval || [cell.value, cell.value];
  return el("td", { class: "rate" }, el("b", {}, percent(cell.value)), el("small", {}, `${percent(low, 0)} – ${percent(high, 0)}`), spanBar(cell, color));
}

function spanBar(cell, color) {
  const [low, high] = cell.interval || [cell.value, cell.value];
  return el("span", { class: "span" }, el("i", { style: `left:${100 * low}%;width:${100 * (high - low)}%;background:${color}` }), el("b", { style: `left:${100 * cell.value}%;background:${color}` }));
}

function buildOverview(data, color) {
  const cards = data.overview.map((entry) => {
    const count = entry.folders.length, success = entry.success, settings = Object.entries(entry.settings);
    const facts = [
      entry.env, entry.trainer === "GLAM" ? "PPO" : entry.trainer === "BC" ? "behaviour cloning" : entry.training ? null : entry.policies.join(", "),
      count > 1 ? `${count} seeds` : null, entry.env_steps ? `${shortNumber(entry.env_steps)} environment steps` : null,
      entry.episodes ? `${entry.episodes.toLocaleString("en")} episodes logged` : null,
    ].filter((fact) => fact);
    return el("div", { class: "card run" },
      el("div", { class: "name" }, el("span", { class: "dot", style: `background:${color(entry.group)}` }), el("span", { title: entry.folders.join("\n") }, entry.group),
        entry.training ? el("span", { class: entry.running ? "badge live" : "badge" }, entry.running ? "running" : "finished") : null),
      success ? el("div", { class: "big" }, percent(success.value), el("small", {}, success.interval ? `${percent(success.interval[0], 0)} – ${percent(success.interval[1], 0)}` : "")) : null,
      success ? el("div", { class: "sub" }, `success, ${success.what}`) : null,
      el("div", { class: "sub" }, facts.join(" · ")),
      settings.length ? el("details", { class: "settings" }, el("summary", {}, "settings that differ from the defaults"), el("dl", {}, ...settings.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, typeof value === "string" ? value : JSON.stringify(value))]))) : null);
  });
  section("runs", "Runs", null, el("div", { class: "cards" }, ...cards));
}

function buildCurves(data, color) {
  const names = Object.keys(data.axes).filter((name) => data.curves[name]);
  if (!names.length) return;
  const hidden = new Set(), charts = [], groups = [...new Set(names.flatMap((name) => data.curves[name].map((one) => one.group)))];
  const refresh = () => charts.forEach(([chart, series]) => chart.show(series.filter((one) => !hidden.has(one.group))));
  const legend = el("div", { class: "legend" }, ...groups.map((group) => el("button", { class: "key", type: "button", "aria-pressed": "true", onclick: (event) => {
    if (!hidden.delete(group)) hidden.add(group);
    event.currentTarget.setAttribute("aria-pressed", String(!hidden.has(group)));
    refresh();
  } }, el("span", { class: "dot", style: `background:${color(group)}` }), group)));
  const boxes = names.map((name) => {
    const { title, unit } = data.axes[name], box = el("div", { class: "card chart", "data-curve": name }, el("h3", {}, title, el("span", {}, unit === "rate" ? "" : unit)));
    const series = data.curves[name].map((one) => ({ ...one, color: color(one.group), label: one.evaluation ? `${one.group} (evaluation)` : one.group, points: one.evaluation }));
    charts.push([new LineChart(box, { rate: unit === "rate", height: 210, label: `${title} over environment steps` }), series]);
    return box;
  });
  const banded = names.some((name) => data.curves[name].some((one) => one.seeds > 1)), evaluated = names.some((name) => data.curves[name].some((one) => one.evaluation));
  section("learning", "Learning", ["over environment steps", banded ? "bands: 95 % over seeds" : null, evaluated ? "circles: evaluations with 95 % intervals" : null].filter((part) => part).join(" · "),
    ...(groups.length > 1 ? [legend] : []), el("div", { class: "charts" }, ...boxes));
  refresh();
}

function buildKinds(data, color) {
  const curves = Object.keys(data.curves).filter((name) => name.startsWith("kind:"));
  if (!data.kinds.length && curves.length < 2) return; // one kind of task: nothing to tell apart
  const cards = data.kinds.map((entry) => el("div", { class: "card kind-card" }, el("h3", {}, el("span", { class: "dot", style: `background:${color(entry.group)};margin:0 8px 0 0` }), `${entry.group}, ${entry.what}`),
    ...entry.rates.map((rate) => el("div", { class: "kind-row" }, el("span", {}, rate.kind), spanBar(rate, color(entry.group)), el("span", { class: "num", title: `${rate.episodes} episodes` }, percent(rate.value), el("small", {}, `n ${rate.episodes}`))))));
  // Single kinds are noisy: lines without bands, and only where there is a course to see.
  const byGroup = (group) => curves.map((name) => [name.slice(5), data.curves[name].find((one) => one.group === group)]).filter(([, one]) => one && one.rows.length > 3);
  const charts = [...new Set(curves.flatMap((name) => data.curves[name].map((one) => one.group)))].filter((group) => byGroup(group).length > 1).map((group) => {
    const named = byGroup(group), box = el("div", { class: "card kind-card chart" }, el("h3", {}, `${group} over environment steps`));
    box.append(el("div", { class: "legend", style: "margin:8px 0 0" }, ...named.map(([kind], i) => el("span", { class: "key", style: "cursor:default" }, el("span", { class: "dot", style: `background:var(--s${i % 7})` }), kind))));
    const series = named.map(([kind, one], i) => ({ rows: one.rows.map(([steps, value]) => [steps, value, null, null]), color: `var(--s${i % 7})`, label: kind }));
    new LineChart(box, { rate: true, height: 210, label: `Success per task kind, ${group}` }).show(series);
    return box;
  });
  section("kinds", "Task kinds", "success rate with 95 % intervals", el("div", { class: "kinds" }, ...cards), charts.length ? el("div", { class: "kinds" }, ...charts) : null);
}

function buildTests(data, color) {
  if (!data.tests) return;
  const { groups, rows } = data.tests, references = ["random", "bot"].filter((name) => rows.some((row) => row.references[name]));
  const published = rows.some((row) => row.published["GFlan-T5"]), modes = ["sampled", "greedy"].filter((mode) => rows.some((row) => groups.some((group) => (row.cells[group] || {})[mode])));
  const columns = groups.flatMap((group) => modes.filter((mode) => rows.some((row) => (row.cells[group] || {})[mode])).map((mode) => [group, mode]));
  const head = el("tr", {}, el("th", {}, "Test"), ...columns.map(([group, mode]) => el("th", {}, modes.length > 1 ? `${group}, ${mode}` : group)), ...references.map((name) => el("th", {}, name)), published ? el("th", {}, "published") : null);
  const body = rows.map((row) => el("tr", {}, el("td", {}, el("b", {}, row.test), el("small", { class: "note", style: "display:block" }, `${row.episodes} episodes`)),
    ...columns.map(([group, mode]) => rateCell((row.cells[group] || {})[mode], color(group))), ...references.map((name) => rateCell(row.references[name], "var(--faint)")), published ? el("td", {}, row.published["GFlan-T5"] || "") : null));
  section("tests", "Tests", "success on frozen panels, 95 % intervals", el("div", { class: "card scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body))));
}

function buildCloning(data) {
  if (!data.rl_bc) return;
  const names = ["Test", "RL", "", "Cloned", "", "Difference", "p (McNemar, Holm)", "Episodes"];
  const body = data.rl_bc.rows.map((row) => el("tr", {}, el("td", {}, el("b", {}, row.test)), el("td", {}, row.rl), el("td", {}, percent(row.rl_rate)), el("td", {}, row.bc), el("td", {}, percent(row.bc_rate)),
    el("td", { class: row.interval[0] > 0 ? "best" : "" }, el("b", {}, `${row.difference >= 0 ? "+" : ""}${percent(row.difference)}`), ` [${percent(row.interval[0])}, ${percent(row.interval[1])}]`), el("td", {}, String(row.p_holm)), el("td", {}, String(row.episodes))));
  section("cloning", "RL against cloning", "paired on the same episodes", el("div", { class: "card scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...names.map((name) => el("th", {}, name)))), el("tbody", {}, ...body))));
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

async function main() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let own = null;
  applyTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => { if (!own) applyTheme(dark.matches ? "dark" : "light"); });
  const flip = () => { own = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; applyTheme(own); };
  document.getElementById("theme").addEventListener("click", flip);
  document.addEventListener("keydown", (event) => { if (event.key.toLowerCase() === "t" && !event.ctrlKey && !event.metaKey && !(event.target instanceof Element && event.target.matches("input[type=search], select"))) flip(); });

  const data = await unpack();
  document.getElementById("title").textContent = data.title;
  const order = data.overview.map((entry) => entry.group), known = [...order, ...(data.tests ? data.tests.groups.filter((group) => !order.includes(group)) : [])];
  const color = (group) => `var(--s${Math.max(known.indexOf(group), 0) % 7})`;
  buildOverview(data, color);
  buildCurves(data, color);
  buildKinds(data, color);
  buildTests(data, color);
  buildCloning(data);
  if (data.episodes.length) new Viewer(section("episodes", "Episodes", null), data, color);
  document.getElementById("foot").textContent = `Written by trl_glam ${data.version}. Everything is in this file; nothing is loaded from elsewhere.`;
  document.body.dataset.ready = "true";
}

main();
