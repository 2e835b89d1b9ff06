"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const byId = (id) => document.getElementById(id);

  // ---- the table: filters by stage and verdict, sorting ----

  const wanted = { stage: "", verdict: "" };
  const rows = all("#verdicts tbody tr");

  function filterRows() {
    let visible = 0;
    for (const row of rows) {
      const fits = Object.entries(wanted).every(([key, is]) => is === "" || row.dataset[key] === is);
      row.hidden = !fits;
      visible += fits;
    }
    byId("row-count").textContent = visible === rows.length ? `${visible} rows` : `${visible} of ${rows.length} rows`;
  }

  function sortRows(heading) {
    const column = heading.cellIndex;
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const numeric = heading.dataset.sort === "number";
    const value = (row) => {
      const cell = row.cells[column];
      return numeric ? parseFloat(cell.dataset.value) : (cell.dataset.value ?? row.dataset.group);
    };
    const compare = numeric
      ? (a, b) => (isNaN(a) - isNaN(b)) || sign * (a - b) // unknown values stay last either way
      : (a, b) => sign * a.localeCompare(b, undefined, { numeric: true });
    const ordered = rows.map((row) => [value(row), row]).sort((a, b) => compare(a[0], b[0]));
    heading.closest("table").tBodies[0].append(...ordered.map(([, row]) => row));
    for (const other of all("[aria-sort]", heading.parentNode)) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  }

  for (const button of all("[data-filter]")) {
    button.addEventListener("click", () => {
      wanted[button.dataset.filter] = button.dataset.is;
      for (const other of all(`[data-filter="${button.dataset.filter}"]`)) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      filterRows();
    });
  }
  for (const heading of all("#verdicts th[data-sort]")) {
    heading.tabIndex = 0;
    heading.addEventListener("click", () => sortRows(heading));
    heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sortRows(heading); });
  }

  // ---- the charts: groups shown, tooltips ----

  const data = byId("charts-data");
  if (data === null) return;
  Bokeh.embed.embed_item(JSON.parse(data.textContent), "plot").then(() => {
    const charts = Bokeh.documents[0];
    const sources = ["angle", "lone_angle", "predicted_angle", "norm", "lone_norm", "predicted_norm"].map((name) => charts.get_model_by_name(name));
    const measured = ["angle", "norm"].map((name) => charts.get_model_by_name(`measured_${name}`));
    connectPicker(charts.get_model_by_name("shown"), sources, measured, (index) => chooseTug(index));
    for (const quantity of ["angle", "norm"]) connectTooltips(charts, quantity);
    const chooseTug = connectTug(charts);
    const ready = () => { document.documentElement.dataset.readyMs = String(Math.round(performance.now())); };
    if (charts.is_idle) ready(); else charts.idle.connect(ready);
  });

  function connectPicker(filter, sources, measured, onOnly) {
    const boxes = all("#groups input");
    const first = boxes.map((box) => box.checked);
    const names = boxes.map((box) => box.closest("label").title.toLowerCase());
    const palette = byId("groups").dataset.palette.split(" ");
    const slots = new Map(first.flatMap((isShown, i) => (isShown ? [i] : [])).map((i, slot) => [i, slot]));
    let colors = sources[0].data.color;

    function apply() {
      filter.indices = boxes.flatMap((box, i) => (box.checked ? [i] : []));
      recolor(filter.indices);
      // Bands of jitter that lie on top of each other must not hide the predictions in them.
      const alpha = Math.max(0.08, Math.min(0.9, 1.1 / Math.max(filter.indices.length, 1) ** 0.5));
      for (const lines of measured) lines.line_alpha = { value: alpha };
      byId("shown-count").textContent = `${filter.indices.length} of ${boxes.length} shown`;
    }
    // A few lines get distinct colours, which they keep while shown; many get the scale of depth.
    function recolor(indices) {
      const few = indices.length <= palette.length;
      for (const [index] of slots) if (!few || !boxes[index].checked) slots.delete(index);
      if (few) {
        for (const index of indices.filter((i) => !slots.has(i))) {
          const taken = new Set(slots.values());
          slots.set(index, palette.findIndex((_, slot) => !taken.has(slot)));
        }
      }
      const next = boxes.map((box, i) => (slots.has(i) ? palette[slots.get(i)] : box.dataset.color));
      if (next.every((color, i) => color === colors[i])) return;
      colors = next;
      boxes.forEach((box, i) => { box.nextElementSibling.style.background = colors[i]; });
      for (const source of sources) source.data = { ...source.data, color: colors };
    }
    function show(isShown) {
      boxes.forEach((box, i) => { box.checked = isShown(i); });
      apply();
    }
    function showOnly(index) {
      show((i) => i === index);
      onOnly(index);
      boxes[index].closest("li").scrollIntoView({ block: "nearest" });
    }
    function showNeighbour(by) {
      const listed = boxes.flatMap((box, i) => (box.closest("li").hidden ? [] : [i]));
      if (listed.length === 0) return;
      const shown = listed.filter((i) => boxes[i].checked);
      const start = by > 0 ? -1 : listed.length;
      const from = shown.length === 1 ? listed.indexOf(shown[0]) : start;
      showOnly(listed[(from + by + listed.length) % listed.length]);
    }

    byId("groups").addEventListener("change", apply);
    const listed = (i) => !boxes[i].closest("li").hidden;
    byId("show-all").addEventListener("click", () => show(listed));
    byId("show-none").addEventListener("click", () => show(() => false));
    byId("show-first").addEventListener("click", () => show((i) => first[i]));
    byId("show-previous").addEventListener("click", () => showNeighbour(-1));
    byId("show-next").addEventListener("click", () => showNeighbour(1));
    byId("search").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/);
      boxes.forEach((box, i) => { box.closest("li").hidden = !words.every((word) => names[i].includes(word)); });
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.matches("input[type=search]");
      if (typing || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "ArrowLeft") showNeighbour(-1);
      if (event.key === "ArrowRight") showNeighbour(1);
    });
    const indexOf = new Map(boxes.map((box, i) => [box.dataset.group, i]));
    for (const cell of all("#verdicts tbody th")) {
      cell.addEventListener("click", () => {
        const index = indexOf.get(cell.parentNode.dataset.group);
        if (index === undefined) return;
        showOnly(index);
        byId("charts").scrollIntoView({ behavior: "smooth" });
      });
    }
    apply();
  }

  // ---- the tug of war: one group at a time, steps as in the charts above ----

  // Returns what shows a group there.
  function connectTug(charts) {
    const data = byId("tug-data");
    if (data === null) return () => {};
    const select = byId("tug-group");
    const units = all("[data-tug]");
    let own = null;
    function apply() {
      byId("tug-words").textContent = select.selectedOptions[0].dataset.words;
      byId("tug-failed").textContent = select.selectedOptions[0].dataset.failed;
      if (own === null) return;
      const byRate = units[1].getAttribute("aria-pressed") === "true";
      const { range, range_by_rate, failed, told, label, ...columns } = Object.fromEntries(
        Object.entries(own.get_model_by_name("tug_all").data).map(([name, groups]) => [name, groups[select.selectedIndex]]));
      for (const name of Object.keys(columns)) {
        if (byRate && name !== "x" && name !== "lr") columns[name] = columns[name].map((value, i) => value / columns.lr[i]);
      }
      const [start, end] = byRate ? range_by_rate : range;
      own.get_model_by_name("tug_range").setv({ start, end, reset_start: start, reset_end: end });
      own.get_model_by_name("tug").data = columns;
      for (const [name, ends] of [["tug_failed", failed], ["tug_told", told]]) {
        own.get_model_by_name(name).data = { x0: ends.filter((_, i) => i % 2 === 0), x1: ends.filter((_, i) => i % 2 === 1) };
      }
      own.get_model_by_name("tug_marks").data = marksBeyond(columns, start, end);
      own.get_model_by_name("tug_axis").axis_label = byRate ? label.replace(" →", " ÷ learning rate →") : label;
    }
    for (const button of units) {
      button.addEventListener("click", () => {
        for (const other of units) other.setAttribute("aria-pressed", String(other === button));
        apply();
      });
    }
    select.addEventListener("change", apply);
    apply();
    Bokeh.embed.embed_item(JSON.parse(data.textContent), "tug-plot").then(() => {
      own = Bokeh.documents[Bokeh.documents.length - 1];
      follow(charts.get_model_by_name("steps"), own.get_model_by_name("steps"));
      apply();
    });
    return (index) => { select.selectedIndex = index; apply(); };
  }

  // Where values leave the picture: for each run of neighbouring windows how far the farthest goes.
  function marksBeyond(columns, low, high) {
    const marks = { x: [], y: [], text: [], side: [], align: [] };
    const last = columns.x.length - 1;
    for (const [sign, edge, limit, arrow, side] of [[1, columns.outer, high, "▲", "top"], [-1, columns.inner, -low, "▼", "bottom"]]) {
      const reach = Array.from(edge, (value) => (sign * value > limit ? sign * value : 0));
      let farthest = -1;
      reach.forEach((value, i) => {
        if (value > 0 && (farthest < 0 || value > reach[farthest])) farthest = i;
        if (farthest < 0 || (value > 0 && i < last)) return;
        marks.x.push(columns.x[farthest]);
        marks.y.push(sign * limit);
        marks.text.push(`${arrow} ${sign < 0 ? "−" : ""}${Number(reach[farthest].toPrecision(2)).toLocaleString("en")}%`);
        marks.side.push(side);
        const along = (columns.x[farthest] - columns.x[0]) / (columns.x[last] - columns.x[0]);
        marks.align.push(along > 0.9 ? "right" : along > 0.1 ? "center" : "left");
        farthest = -1;
      });
    }
    return marks;
  }

  // Two ranges move together.
  function follow(a, b) {
    for (const [from, to] of [[a, b], [b, a]]) {
      from.change.connect(() => {
        if (from.start !== to.start || from.end !== to.end) to.setv({ start: from.start, end: from.end });
      });
    }
  }

  // Built from text nodes, so that a group's name is never taken for markup or for a template.
  function connectTooltips(charts, quantity) {
    const unit = quantity === "angle" ? " rad" : "";
    const sources = [["measured", quantity], ["predicted", `predicted_${quantity}`]]
      .map(([label, name]) => [label, charts.get_model_by_name(name)]);
    charts.get_model_by_name(`hover_${quantity}`).tooltips = (source, { index, snap_x }) => {
      const step = Math.round(snap_x);
      const tip = document.createElement("div");
      tip.className = "tip";
      tip.style.cssText = "font: 13px/1.4 system-ui, sans-serif; font-variant-numeric: tabular-nums; max-width: 340px; overflow-wrap: anywhere";
      const line = (text, weight) => {
        const element = document.createElement("div");
        element.textContent = text;
        if (weight) element.style.fontWeight = weight;
        tip.append(element);
      };
      line(source.data.name[index], "600");
      line(`step ${step.toLocaleString("en")}`);
      for (const [label, { data }] of sources) {
        const value = valueAt(data.xs[index], data.ys[index], step);
        if (isFinite(value)) line(`${label} ${readable(value)}${unit}`);
      }
      return tip;
    };
  }

  // Linear between the two points drawn around `step`; NaN outside and in gaps.
  function valueAt(xs, ys, step) {
    let low = 0;
    let high = xs.length - 1;
    if (high < 0 || step < xs[low] || step > xs[high]) return NaN;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= step) low = middle; else high = middle;
    }
    if (xs[low] === step) return ys[low];
    if (xs[high] === step) return ys[high];
    return ys[low] + ((ys[high] - ys[low]) * (step - xs[low])) / (xs[high] - xs[low]);
  }

  function readable(value) {
    return value >= 1e-4 && value < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
  }
})();
