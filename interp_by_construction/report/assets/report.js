// Tables that sort and filter, the plot's switch, and values on hover and focus. The pages are complete without it.
"use strict";

const tip = document.getElementById("tip");

function showTip(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(box.left, window.innerWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
}

function hideTip() {
  tip.hidden = true;
  document.querySelectorAll(".line i.at").forEach((each) => each.classList.remove("at"));
}

// Points of the plot.
for (const point of document.querySelectorAll(".point")) {
  const show = () => showTip(point.dataset.tip, point.querySelector(".mark").getBoundingClientRect());
  point.addEventListener("mouseenter", show);
  point.addEventListener("focus", show);
  point.addEventListener("mouseleave", hideTip);
  point.addEventListener("blur", hideTip);
}

// Score or ground truth.
for (const input of document.querySelectorAll("input[name=metric]")) {
  input.addEventListener("change", () => {
    for (const plot of document.querySelectorAll("[data-plot]")) plot.hidden = plot.dataset.plot !== input.value;
  });
}

// Tokens: by pointer, or with the arrow keys on a focused excerpt.
function showToken(excerpt, index) {
  const cells = [...excerpt.querySelectorAll("code")].map((line) => line.children[index]);
  if (!cells[0]) return;
  hideTip();
  cells.forEach((cell) => cell.classList.add("at"));
  const value = (name) => (excerpt.dataset[name] === undefined ? "" : `${name} ${excerpt.dataset[name].split(" ")[index]}`);
  showTip([`“${cells[0].textContent}”`, value("real"), value("simulated")].filter(Boolean).join("\n"), cells[0].getBoundingClientRect());
}

for (const excerpt of document.querySelectorAll(".excerpt")) {
  excerpt.addEventListener("mouseover", (event) => {
    if (event.target.tagName === "I") showToken(excerpt, [...event.target.parentNode.children].indexOf(event.target));
  });
  excerpt.addEventListener("mouseleave", hideTip);
  excerpt.addEventListener("blur", hideTip);
  excerpt.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const tokens = [...excerpt.querySelector("code").children];
    const now = tokens.findIndex((each) => each.classList.contains("at"));
    const from = now >= 0 ? now + step : tokens.findIndex((each) => each.classList.contains("k"));
    showToken(excerpt, Math.max(0, Math.min(tokens.length - 1, from)));
    event.preventDefault();
  });
}

// Wide tables inside stages: who has only a keyboard must be able to scroll them.
function reachScrollers() {
  for (const box of document.querySelectorAll(".tree .scroll")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}
document.querySelectorAll("details").forEach((each) => each.addEventListener("toggle", reachScrollers));
reachScrollers();

// Sorting: numbers as numbers, missing ones last.
function keyOf(cell) {
  const text = cell.textContent.trim();
  const value = parseFloat(text.replace(/,/g, "").replace(/^–$/, ""));
  return cell.classList.contains("num") ? (Number.isNaN(value) ? null : value) : text.toLowerCase();
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending" || (head.getAttribute("aria-sort") === null && head.classList.contains("num"));
      const sign = down ? -1 : 1;
      const keyed = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || a === "") return b === null || b === "" ? 0 : 1;
        if (b === null || b === "") return -1;
        return a < b ? -sign : a > b ? sign : 0;
      });
      body.append(...keyed.map(([, row]) => row));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}

// Filtering.
for (const form of document.querySelectorAll("form[data-filter]")) {
  const rows = [...document.getElementById(form.dataset.filter).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const apply = () => {
    const wanted = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = form.elements.status.value;
    const least = parseFloat(form.elements.least.value);
    let shown = 0;
    rows.forEach((row, i) => {
      const final = parseFloat(row.dataset.final);
      const keep =
        wanted.every((word) => texts[i].includes(word)) &&
        (!status || row.dataset.status === status) &&
        (Number.isNaN(least) || final >= least);
      if (row.hidden === keep) row.hidden = !keep;
      shown += keep;
    });
    form.querySelector("output").textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} nodes`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  // A browser that goes back keeps what was typed.
  window.addEventListener("pageshow", apply);
}
