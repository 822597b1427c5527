// What a person has: files and pasted text of four kinds, each with its list.

import { guarded, make, size } from "./dom.js";
import { FileError, likelyColumn, parse, toTsv } from "./table.js";
import { words } from "./words.js";

/** The columns that each kind of upload has; none: a text on each line. */
const COLUMNS = { train: ["text", "label"], target: ["text"], labels: ["text", "label"], parallel: ["source", "target"] };
const MOST_PREVIEWED = 80;

export class Uploads {
  /** `onChange()` is called when other files are to be used. */
  constructor(root, bench, onChange) {
    this.bench = bench;
    this.onChange = onChange;
    this.unused = new Set();
    this.areas = Object.keys(COLUMNS).map((use) => new Area(use, bench, this));
    root.replaceChildren(...this.areas.map((area) => area.root));
  }

  update({ uploads, upload_bytes: most }) {
    this.all = uploads;
    for (const area of this.areas) area.draw(uploads.filter((one) => one.use === area.use), most);
  }

  /** Those that are to be used. */
  get chosen() {
    return (this.all ?? []).filter(({ number }) => !this.unused.has(number));
  }
}

class Area {
  constructor(use, bench, owner) {
    this.use = use;
    this.bench = bench;
    this.owner = owner;
    this.most = Infinity;
    this.drawn = "";
    const { title, help } = words.start.uses[use];
    const id = `upload-${use}`;
    this.list = make("ul", { class: "uploads", "aria-label": title });
    this.input = make("input", {
      id, type: "file", accept: ".txt,.tsv,.csv", "aria-describedby": `${id}-help`,
      onclick: (event) => { event.target.value = ""; },
      onchange: (event) => event.target.files[0] && this.take(event.target.files[0]),
    });
    this.pasted = make("textarea", { id: `${id}-paste`, rows: 4, dir: "auto", spellcheck: "false" });
    this.choice = make("div", { class: "choice" });
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    this.status = make("p", { class: "quiet", role: "status" });
    this.root = make("section", { class: "panel", "aria-labelledby": `${id}-title` },
      make("h3", { id: `${id}-title` }, title),
      make("p", { class: "quiet", id: `${id}-help` }, help),
      this.list,
      make("label", { for: id }, words.start.file),
      this.input,
      make("details", {},
        make("summary", {}, words.start.paste),
        make("label", { for: this.pasted.id }, words.start.pasteLabel(COLUMNS[use].length)),
        this.pasted,
        make("p", {}, make("button", { type: "button", onclick: () => this.takePasted() }, words.start.add))),
      this.choice, this.error, this.status);
  }

  draw(uploads, most) {
    this.most = most;
    const shown = JSON.stringify(uploads);
    if (shown === this.drawn) return; // a list that is drawn anew would take the focus away
    this.drawn = shown;
    this.list.replaceChildren(...uploads.map((upload) => {
      const use = make("input", { type: "checkbox", onchange: () => {
        if (use.checked) this.owner.unused.delete(upload.number);
        else this.owner.unused.add(upload.number);
        this.owner.onChange();
      } });
      use.checked = !this.owner.unused.has(upload.number);
      return make("li", {},
        make("label", { class: "check" }, use, make("span", {}, make("bdi", {}, upload.name), " ",
          make("span", { class: "quiet" }, words.start.rows(upload)))),
        make("button", { type: "button", class: "plain", "aria-label": words.start.remove(upload.name),
          onclick: () => guarded(this.error, () => this.bench.remove(upload.number)) }, words.start.removeShort));
    }));
  }

  take(file) {
    return guarded(this.error, async () => {
      if (file.size > this.most) throw new FileError(`${file.name}: ${size(file.size)}, at most ${size(this.most)}`);
      const named = !file.name.toLowerCase().endsWith(".txt");
      await this.offer(file.name, parse(file.name, new Uint8Array(await file.arrayBuffer())), { named });
    });
  }

  takePasted() {
    return guarded(this.error, async () => {
      const name = `pasted.${COLUMNS[this.use].length > 1 ? "tsv" : "txt"}`;
      const onSent = () => { this.pasted.value = ""; };
      await this.offer(name, parse(name, new TextEncoder().encode(this.pasted.value)), { onSent });
    });
  }

  /** Send a text on each line at once; of a table ask first which columns. `named`: the first line should name them;
   *  `onSent()` is called when the service has it. */
  async offer(name, cells, { named = false, onSent = () => {} }) {
    const wanted = COLUMNS[this.use];
    const width = cells.reduce((most, row) => Math.max(most, row.length), 0);
    this.choice.replaceChildren();
    if (wanted.length > width) throw new FileError(words.start.tooFewColumns);
    if (width === 1) {
      await this.send(name, named && isHeader(cells[0], wanted) ? cells.slice(1) : cells);
      onSent();
      return;
    }
    const id = `upload-${this.use}`;
    const header = make("input", { type: "checkbox", onchange: () => draw() });
    header.checked = named || isHeader(cells[0], wanted);
    const columns = make("div", { class: "row" });
    const draw = () => {
      const titles = cells[0].map((cell, place) => (header.checked && cell.trim()) || `${place + 1}: ${cell.slice(0, MOST_PREVIEWED)}`);
      const body = header.checked ? cells.slice(1) : cells;
      columns.replaceChildren(...wanted.map((column) => {
        const select = make("select", { id: `${id}-${column}`, name: column },
          ...titles.map((title, place) => make("option", { value: place }, title)));
        select.value = String(columnFor(column, titles, body, wanted));
        return make("div", {}, make("label", { for: select.id }, words.start.column[column]), select);
      }));
    };
    draw();
    const add = make("button", { type: "button", class: "main", onclick: () => guarded(this.error, async () => {
      const places = [...columns.querySelectorAll("select")].map(({ value }) => Number(value));
      const body = header.checked ? cells.slice(1) : cells;
      await this.send(name, body.map((row) => places.map((place) => row[place] ?? "")));
      this.choice.replaceChildren();
      onSent();
    }) }, words.start.add);
    this.choice.replaceChildren(
      make("p", {}, make("bdi", {}, name)), make("label", { class: "check" }, header, words.start.header), columns, make("p", {}, add));
    add.focus();
  }

  async send(name, rows) {
    const wanted = COLUMNS[this.use];
    const filled = rows.filter((row) => row.every((cell) => cell.trim() !== ""));
    const table = this.use === "target" ? filled : [wanted, ...filled];
    const made = await this.bench.upload(this.use, name, toTsv(table));
    this.status.textContent = words.start.added(made);
    this.owner.onChange();
  }
}

const isHeader = (row, wanted) => row.some((cell) => wanted.includes(cell.trim().toLowerCase()));

/** The likeliest place of a column: by its name, else the labels are in the column with the fewest different cells. */
function columnFor(column, titles, body, wanted) {
  const named = titles.findIndex((title) => title.toLowerCase() === column);
  if (named >= 0) return named;
  if (!wanted.includes("label")) return Math.min(wanted.indexOf(column), titles.length - 1);
  const different = titles.map((_, place) => new Set(body.map((row) => row[place])).size);
  const label = different.lastIndexOf(Math.min(...different)); // of equals the last one
  if (column === "label") return label;
  const likely = likelyColumn(titles, body, column, 0);
  return likely === label ? Number(label === 0) : likely;
}
