"use strict";

// Charts are drawn from the JSON in #payload when they come near the viewport. The state of a group
// (hidden methods, marked runs, selected method) lives here and survives a change of colours.
(() => {
  const { specs, data, dark } = JSON.parse(document.getElementById("payload").textContent);
  const rows = {};
  const views = new Map(); // views by chart element
  const groups = new Map(); // states by group element
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

  function rowsOf(name) {
    if (!rows[name]) {
      const { columns, rows: values } = data[name];
      rows[name] = values.map((row) => Object.fromEntries(columns.map((key, i) => [key, row[i]])));
    }
    return rows[name];
  }

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches;
  }

  function shade(colour) {
    return isDark() ? (dark[colour] ?? colour) : colour;
  }

  function dataNames(part, names = new Set()) {
    if (part && typeof part === "object") {
      if (part.data && part.data.name) names.add(part.data.name);
      Object.values(part).forEach((inner) => dataNames(inner, names));
    }
    return names;
  }

  function specOf(name) {
    const text = JSON.stringify(specs[name]).replace(/"#[0-9a-f]{6}"/g, (colour) =>
      JSON.stringify(shade(JSON.parse(colour))),
    );
    const spec = JSON.parse(text);
    const names = [...dataNames(spec)];
    spec.datasets = Object.fromEntries(names.map((key) => [key, rowsOf(key).map((row) => ({ ...row }))]));
    return spec;
  }

  function look() {
    const ink = getComputedStyle(document.body).color;
    const text = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12 };
    return {
      aria: false, // the element around a chart has a label, and a table holds its points
      background: "transparent",
      font: "system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif",
      axis: { ...text, titleFontWeight: "normal", gridColor: ink, domainColor: ink, tickColor: ink, gridOpacity: 0.12, domainOpacity: 0.3, tickOpacity: 0.3 },
      legend: { ...text, titleFontWeight: "normal" },
      view: { stroke: null },
    };
  }

  function stateOf(element) {
    const group = element.closest(".group");
    if (!group) return null;
    if (!groups.has(group)) {
      const select = group.querySelector(".choose");
      groups.set(group, { hidden: [], marked: [], selected: select ? select.value : null, brushed: null });
    }
    return groups.get(group);
  }

  function setSignals(view, state) {
    const { signals } = view.getState({ signals: () => true, data: () => false });
    for (const name of ["hidden", "marked", "selected"]) {
      if (name in signals && state[name] !== null) view.signal(name, state[name]);
    }
    return view.runAsync();
  }

  function updateGroup(group) {
    const state = stateOf(group);
    for (const button of group.querySelectorAll(".toggle")) {
      button.setAttribute("aria-pressed", String(!state.hidden.includes(button.dataset.method)));
    }
    const status = group.querySelector(".status");
    if (status) status.textContent = state.marked.length ? `${state.marked.length} runs marked` : "";
    for (const element of group.querySelectorAll(".chart")) {
      const view = views.get(element);
      if (view) setSignals(view, state);
    }
  }

  function clearBrush(view) {
    return view.signal("brush_x", [0, 0]).signal("brush_y", [0, 0]).runAsync();
  }

  function listenToBrush(element, view) {
    const group = element.closest(".group");
    const name = `${group.dataset.group}-runs`;
    view.addSignalListener("brush", (_, ranges) => {
      const state = stateOf(element);
      const fields = Object.entries(ranges ?? {});
      if (!fields.length) {
        if (state.brushed !== element) return; // a brush in the other chart replaced it
        state.brushed = null;
        state.marked = [];
      } else {
        const before = state.brushed;
        state.brushed = element;
        if (before && before !== element) clearBrush(views.get(before));
        const inside = (row) =>
          !state.hidden.includes(row.method) &&
          fields.every(([field, [low, high]]) =>
            row[field] >= Math.min(low, high) && row[field] <= Math.max(low, high));
        const runs = rowsOf(name).filter(inside).map((row) => row.run);
        state.marked = runs.length ? runs : [-1]; // an empty brush marks no run rather than all
      }
      updateGroup(group);
      const status = group.querySelector(".status");
      if (state.brushed) status.textContent = `${state.marked.filter((run) => run >= 0).length} runs marked`;
    });
  }

  async function draw(element) {
    const name = element.dataset.chart;
    const old = views.get(element);
    if (old) old.finalize();
    const { view } = await vegaEmbed(element, specOf(name), {
      mode: "vega-lite",
      renderer: "svg",
      actions: false,
      config: look(),
      tooltip: { theme: isDark() ? "dark" : "light" },
    });
    views.set(element, view);
    element.dataset.drawn = isDark() ? "dark" : "light";
    const state = stateOf(element);
    if (!state) return;
    await setSignals(view, state);
    if (JSON.stringify(specs[name]).includes('"name":"brush"')) listenToBrush(element, view);
  }

  function paintMarkers() {
    for (const marker of document.querySelectorAll(".marker")) {
      marker.style.color = shade(marker.dataset.colour);
    }
  }

  function setTheme() {
    const button = document.getElementById("theme");
    button.setAttribute("aria-pressed", String(isDark()));
    paintMarkers();
    for (const state of groups.values()) {
      state.brushed = null;
      state.marked = [];
    }
    document.querySelectorAll(".status").forEach((status) => (status.textContent = ""));
    for (const element of views.keys()) draw(element);
  }

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    setTheme();
  });
  prefersDark.addEventListener("change", setTheme);
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll(".claims details").forEach((claim) => (claim.open = true));
  });

  for (const group of document.querySelectorAll(".group")) {
    const state = stateOf(group);
    for (const button of group.querySelectorAll(".toggle")) {
      button.addEventListener("click", () => {
        const { method } = button.dataset;
        state.hidden = state.hidden.includes(method)
          ? state.hidden.filter((name) => name !== method)
          : [...state.hidden, method];
        updateGroup(group);
      });
    }
    group.querySelector(".reset")?.addEventListener("click", () => {
      Object.assign(state, { hidden: [], marked: [], brushed: null });
      for (const element of group.querySelectorAll(".chart")) {
        const view = views.get(element);
        if (view && JSON.stringify(specs[element.dataset.chart]).includes('"name":"brush"')) clearBrush(view);
      }
      updateGroup(group);
    });
    group.querySelector(".choose")?.addEventListener("change", (event) => {
      state.selected = event.target.value;
      updateGroup(group);
    });
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        draw(target);
      }
    },
    { rootMargin: "400px" },
  );
  document.querySelectorAll(".chart").forEach((element) => near.observe(element));
  document.getElementById("theme").setAttribute("aria-pressed", String(isDark()));
  paintMarkers();
})();
