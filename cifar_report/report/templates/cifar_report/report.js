"use strict";
// Everything here is a convenience: the page is complete without it.

// A link to an experiment's details opens them.
(() => {
  const unfold = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();

// The reader's place in the contents.
(() => {
  const nav = document.querySelector(".contents");
  const fold = nav.querySelector("details");
  const narrow = matchMedia("screen and (max-width: 63.99rem)");
  const place = nav.querySelector("summary span");
  // On a small window the contents are a line that stays on top and unfolds.
  const adapt = () => {
    nav.classList.toggle("compact", narrow.matches);
    fold.open = !narrow.matches;
  };
  narrow.addEventListener("change", adapt);
  adapt();
  nav.addEventListener("click", (event) => {
    if (narrow.matches && event.target.closest("a")) fold.open = false;
  });
  const links = new Map([...nav.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const headings = [...document.querySelectorAll("h2[id], h3[id]")].filter((heading) => links.has(heading.id));
  let waiting = false;
  const mark = () => {
    waiting = false;
    let here = headings[0];
    for (const heading of headings) if (heading.getBoundingClientRect().top < 130) here = heading;
    for (const [id, link] of links) {
      if (here && id === here.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const link = here && links.get(here.id);
    place.textContent = link ? ` · ${link.textContent}` : "";
    if (link && nav.scrollHeight > nav.clientHeight) nav.scrollTop = link.offsetTop - nav.clientHeight / 2;
  };
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(mark);
    waiting = true;
  }, { passive: true });
  mark();
})();

// Tables that can be sorted by each column and filtered by words.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return column === 0 ? cell.textContent.trim() : null;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { none: column ? "descending" : "ascending", ascending: "descending", descending: "ascending" };
      const order = next[head.getAttribute("aria-sort") || "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (x === null || y === null) return (x === null) - (y === null);  // rows without a value come last
        return x < y ? -sign : x > y ? sign : 0;
      });
      body.append(...sorted);
    });
  });

  const form = document.createElement("p");
  form.className = "filter";
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("span");
  input.type = "search";
  input.placeholder = "LeNet, better, EXP01 …";
  count.setAttribute("role", "status");
  label.append("Filter ", input);
  form.append(label, " ", count);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = `${row.textContent} ${row.dataset.family ?? ""}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      if (!row.hidden) shown += 1;
    }
    count.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
  table.parentElement.before(form);
}

// Values of learning curves under the pointer, or by arrow keys.
for (const figure of document.querySelectorAll("figure.plot")) {
  const panels = JSON.parse(figure.dataset.plot);
  const image = figure.querySelector("img");
  const area = document.createElement("div");
  area.className = "plot-area";
  image.replaceWith(area);
  const slider = document.createElement("div");
  const values = document.createElement("div");
  const cursors = panels.map(() => document.createElement("div"));
  const epochs = Math.max(...panels.flatMap((panel) => Object.values(panel.series).map((line) => line.length)));
  slider.className = "plot-slider";
  values.className = "plot-values";
  values.hidden = true;
  slider.tabIndex = 0;
  slider.setAttribute("role", "slider");
  const caption = figure.querySelector("figcaption");
  const hint = document.createElement("span");
  hint.className = "plot-hint";
  hint.textContent = " Point at the plot for values.";
  caption.append(hint);
  const number = caption.querySelector("b").textContent;
  slider.setAttribute("aria-label", `${number} Values of the curves by epoch`);
  slider.setAttribute("aria-valuemin", "1");
  slider.setAttribute("aria-valuemax", String(epochs));
  for (const cursor of cursors) {
    cursor.className = "plot-cursor";
    cursor.hidden = true;
  }
  area.append(image, ...cursors, slider, values);

  let epoch = epochs;
  const hide = () => {
    for (const part of [values, ...cursors]) part.hidden = true;
  };
  const show = (wanted, left) => {
    epoch = Math.min(epochs, Math.max(1, wanted));
    const told = [];
    values.replaceChildren();
    const title = document.createElement("b");
    title.textContent = `Epoch ${epoch}`;
    values.append(title);
    panels.forEach((panel, index) => {
      const [x0, y0, x1, y1] = panel.box;
      const at = x0 + ((epoch - panel.x[0]) / (panel.x[1] - panel.x[0])) * (x1 - x0);
      Object.assign(cursors[index].style, {
        left: `${100 * at}%`, top: `${100 * y0}%`, height: `${100 * (y1 - y0)}%`,
      });
      cursors[index].hidden = false;
      const list = document.createElement("table");
      const caption = list.createCaption();
      caption.textContent = panel.label;
      for (const [name, line] of Object.entries(panel.series)) {
        if (line[epoch - 1] === undefined) continue;
        const row = list.insertRow();
        row.insertCell().textContent = name;
        row.insertCell().textContent = String(line[epoch - 1]);
        told.push(`${name} ${panel.label} ${line[epoch - 1]}`);
      }
      values.append(list);
    });
    values.hidden = false;
    // Within the part of the figure that is in view, away from the pointer.
    const room = Math.min(figure.clientWidth, area.clientWidth) - values.offsetWidth - 6;
    values.style.left = `${Math.max(0, figure.scrollLeft + (left ? 6 : room))}px`;
    slider.setAttribute("aria-valuenow", String(epoch));
    slider.setAttribute("aria-valuetext", `Epoch ${epoch}: ${told.join(", ")}`);
  };
  slider.setAttribute("aria-valuenow", String(epoch));
  const follow = (event) => {
    const frame = slider.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width;
    const panel = panels.find(({ box }) => x >= box[0] - 0.01 && x <= box[2] + 0.01);
    if (!panel) return hide();
    const share = (x - panel.box[0]) / (panel.box[2] - panel.box[0]);
    const inView = (event.clientX - figure.getBoundingClientRect().left) / figure.clientWidth;
    show(Math.round(panel.x[0] + share * (panel.x[1] - panel.x[0])), inView > 0.5);
  };
  slider.addEventListener("pointermove", follow);
  slider.addEventListener("pointerdown", follow);  // a tap
  slider.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  slider.addEventListener("focus", () => slider.matches(":focus-visible") && show(epoch, false));
  slider.addEventListener("blur", hide);
  slider.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -epochs, End: epochs };
    if (event.key === "Escape") hide();
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(epoch + steps[event.key], false);
  });
}
