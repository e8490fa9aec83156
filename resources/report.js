"use strict";
// Tables that sort by a click on a header, filter by words, and copy as Markdown or CSV. Without it they are plain.

const numberIn = (text) => {
  const found = text.replace(/,/g, "").match(/^[+-]?\d+(\.\d+)?/);
  return found ? Number(found[0]) : NaN;
};

const cellsOf = (row) => [...row.cells].map((cell) => cell.textContent);

const visible = (table) => [...table.tHead.rows, ...[...table.tBodies[0].rows].filter((row) => !row.hidden)];

function sort(table, column) {
  const header = table.tHead.rows[0].cells;
  const descending = header[column].getAttribute("aria-sort") === "ascending";
  const inOrder = [...table.tBodies[0].rows].sort((one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column].textContent);
    const [x, y] = [numberIn(a), numberIn(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // what is no number comes last
    const order = Number.isNaN(x) ? a.localeCompare(b) : x - y;
    return descending ? -order : order;
  });
  table.tBodies[0].append(...inOrder);
  for (const cell of header) cell.removeAttribute("aria-sort");
  header[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function filter(table, words) {
  const wanted = words.toLowerCase().split(/\s+/);
  for (const row of table.tBodies[0].rows) {
    const text = cellsOf(row).join(" ").toLowerCase();
    row.hidden = !wanted.every((word) => text.includes(word));
  }
}

function markdown(table) {
  const lines = visible(table).map((row) => `| ${cellsOf(row).map((text) => text.replace(/\|/g, "\\|")).join(" | ")} |`);
  const rule = [...table.tHead.rows[0].cells].map((cell) => (cell.className === "text" ? "---" : "--:"));
  return [lines[0], `| ${rule.join(" | ")} |`, ...lines.slice(1), ""].join("\n");
}

function csv(table) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  return visible(table).map((row) => `${cellsOf(row).map(quoted).join(",")}\n`).join("");
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // where the browser keeps the clipboard from a local file
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function button(label, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", action);
  return made;
}

for (const table of document.querySelectorAll("table")) {
  const title = table.getAttribute("aria-label");
  const tools = document.createElement("p");
  tools.className = "tools";
  if (table.tBodies[0].rows.length > 8) {
    const words = document.createElement("input");
    words.type = "search";
    words.placeholder = "filter rows";
    words.setAttribute("aria-label", `filter rows of ${title}`);
    words.addEventListener("input", () => filter(table, words.value));
    tools.append(words);
  }
  for (const [name, made] of [["Markdown", markdown], ["CSV", csv]]) {
    const label = `copy as ${name}`;
    const self = button(label, async () => {
      await copy(made(table));
      self.textContent = "copied";
      setTimeout(() => { self.textContent = label; }, 1500);
    });
    self.setAttribute("aria-label", `${label}: ${title}`);
    tools.append(self);
  }
  table.parentElement.before(tools);
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const name = cell.textContent;
    cell.replaceChildren(button(name, () => sort(table, column)));
  });
}
