// The page "Whole file": choose a file and its columns, classify every row, download the predictions.

import { answered, classifyAll } from "./batches.js";
import { readsAs, usualChoice } from "./choices.js";
import { Combobox } from "./combobox.js";
import { byId, count, make, percent, showError, size } from "./dom.js";
import { labelOf } from "./fields.js";
import { predictionsOf } from "./predictions.js";
import { bars } from "./results.js";
import { predict } from "./service.js";
import { FileError, likelyColumn, parse, toTsv } from "./table.js";
import { words } from "./words.js";

const said = words.file;

const MOST_BYTES = 20 * 2 ** 20; // a browser holds such a table easily; longer ones suit `glotprompt predict`
const PREVIEWED = 3;

export class WholeFile {
  constructor() {
    this.name = "";
    this.cells = [];
    this.run = null;
    this.wanted = null; // the file that was chosen last
    this.choice = new Combobox(byId("file-choice"), { onPick: (choice) => this.use(choice) });
    byId("file-why").textContent = said.why(size(MOST_BYTES));
    // A browser is silent when the same file is chosen again, which may have been mended meanwhile.
    byId("file-input").addEventListener("click", (event) => { event.target.value = ""; });
    byId("file-input").addEventListener("change", (event) => event.target.files[0] && this.take(event.target.files[0]));
    byId("has-header").addEventListener("change", () => this.drawTable());
    byId("file-stop").addEventListener("click", () => this.run?.stop.abort());
    byId("file-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    this.acceptDrops(byId("drop"));
  }

  /** Take up the service's classifiers. What was classified stays, unless its classifier went or reads other fields. */
  update(choices, limits) {
    this.limits = limits;
    const before = this.choice.chosen;
    this.choice.setChoices(choices);
    const now = this.choice.chosen;
    if (now === null || !readsAs(now, before)) this.use(now ?? usualChoice(choices));
  }

  use(choice) {
    this.choice.choose(choice);
    if (this.cells.length) this.drawTable();
  }

  acceptDrops(area) {
    const over = (on) => (event) => {
      event.preventDefault();
      area.classList.toggle("over", on);
    };
    area.addEventListener("dragover", over(true));
    area.addEventListener("dragleave", over(false));
    area.addEventListener("drop", (event) => {
      over(false)(event);
      const [file] = event.dataTransfer.files;
      if (file) this.take(file);
    });
    // A file that is dropped beside the area would otherwise replace the page.
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  }

  async take(file) {
    this.run?.stop.abort();
    this.wanted = file;
    this.cells = [];
    byId("table").hidden = byId("run").hidden = true;
    try {
      if (file.size > MOST_BYTES) {
        throw new FileError(said.tooLarge(file.name, size(file.size), size(MOST_BYTES)));
      }
      const bytes = new Uint8Array(await file.arrayBuffer());
      if (this.wanted !== file) return; // a large file may be read after a small one that was chosen later
      this.cells = parse(file.name, bytes);
    } catch (error) {
      if (this.wanted !== file) return;
      showError(byId("file-error"), error instanceof FileError ? error.message : said.unreadable(file.name, error.message));
      return;
    }
    showError(byId("file-error"), null);
    this.name = file.name;
    byId("has-header").checked = !file.name.toLowerCase().endsWith(".txt");
    this.drawTable();
  }

  get header() {
    const [first] = this.cells;
    return byId("has-header").checked ? first.map((cell) => cell.trim()) : first.map((_, place) => said.column(place + 1));
  }

  get body() {
    return byId("has-header").checked ? this.cells.slice(1) : this.cells;
  }

  drawTable() {
    const { header, body } = this;
    this.forget();
    byId("table").hidden = false;
    byId("table-size").textContent = said.size(this.name, body.length, header.length);
    const fields = this.choice.chosen?.fields ?? [];
    byId("columns").replaceChildren(...fields.map((field, place) => {
      const select = make("select", { id: `column-${field}`, name: field, onchange: () => this.forget() },
        ...header.map((name, column) => make("option", { value: column }, name || said.column(column + 1))));
      select.value = String(likelyColumn(header, body, field, place));
      return make("div", {}, make("label", { for: select.id }, said.isIn(labelOf(field))), select);
    }));
    byId("preview").replaceChildren(
      make("caption", {}, said.firstRows),
      make("thead", {}, make("tr", {}, ...header.map((name) => make("th", { scope: "col", dir: "auto" }, name)))),
      make("tbody", {}, ...body.slice(0, PREVIEWED).map((row) =>
        make("tr", {}, ...row.map((cell) => make("td", { dir: "auto" }, shortened(cell)))))));
  }

  /** What was classified belongs to another classifier or column: begin anew. */
  forget() {
    this.run?.stop.abort();
    this.run = null;
    byId("run").hidden = true;
    byId("file-button").textContent = words.page["#file-button"];
  }

  async start() {
    if (this.run?.busy) return;
    if (this.choice.chosen === null || this.cells.length === 0) {
      showError(byId("file-error"), said.chooseFirst);
      return;
    }
    this.run ??= this.prepared();
    const run = this.run;
    run.stop = new AbortController();
    run.busy = true;
    byId("run").hidden = byId("file-stop").hidden = false;
    byId("file-button").disabled = true;
    byId("download").hidden = true;
    byId("run-summary").replaceChildren();
    showError(byId("run-error"), null);
    byId("run-status").textContent = said.classifying;
    const begun = { at: performance.now(), done: doneOf(run) };
    try {
      const report = ({ waiting }) => this.run === run && this.drawProgress(run, begun, waiting);
      report({ waiting: 0 });
      await classifyAll(run.rows, { predict, limits: this.limits, signal: run.stop.signal, report });
      if (this.run === run) byId("run-status").textContent = endOf(run);
    } catch (error) {
      if (this.run !== run) return;
      byId("run-status").textContent = said.stopped(doneOf(run), run.rows.length);
      if (!run.stop.signal.aborted) showError(byId("run-error"), said.kept(error.message));
      if (!run.stop.signal.aborted && !("status" in error)) throw error; // an error of this page belongs on the console
    } finally {
      run.busy = false;
      if (this.run === run) this.drawEnd(run);
      else if (!this.run?.busy) this.drawIdle();
    }
  }

  prepared() {
    const columns = [...byId("columns").querySelectorAll("select")].map(({ name, value }) => [name, Number(value)]);
    const { target } = this.choice.chosen;
    const { header, body } = this;
    const rows = body.map((cells) => {
      const texts = Object.fromEntries(columns.map(([field, column]) => [field, cells[column] ?? ""]));
      let error = null;
      if (cells.length > header.length) error = said.otherWidth(cells.length, header.length);
      else if (Object.values(texts).some((text) => text.trim() === "")) error = said.noText;
      return { cells, item: { ...target, ...texts }, result: null, error };
    });
    return { rows, header, name: this.name, stop: new AbortController(), busy: false };
  }

  drawProgress(run, begun, waiting) {
    const done = doneOf(run);
    const rate = (done - begun.done) / ((performance.now() - begun.at) / 1000);
    const left = rate > 0 ? said.left(rate, (run.rows.length - done) / rate) : "";
    byId("run-progress").max = run.rows.length || 1;
    byId("run-progress").value = done;
    byId("run-count").textContent = said.done(done, run.rows.length) + left;
    byId("run-status").textContent = waiting >= 1 ? said.busy(waiting) : said.classifying;
  }

  drawIdle() {
    byId("file-button").disabled = false;
    byId("file-stop").hidden = true;
  }

  drawEnd(run) {
    this.drawIdle();
    const done = doneOf(run);
    byId("file-button").textContent = done < run.rows.length ? said.resume : words.page["#file-button"];
    byId("run-count").textContent = said.done(done, run.rows.length);
    if (done === run.rows.length) this.run = null; // a further press classifies anew
    if (done === 0) return;
    const link = byId("download");
    URL.revokeObjectURL(link.href);
    const table = toTsv(predictionsOf(run.header, run.rows));
    link.href = URL.createObjectURL(new Blob([table], { type: "text/tab-separated-values;charset=utf-8" }));
    link.download = `${run.name.replace(/\.[^.]*$/, "")}.predictions.tsv`;
    link.hidden = false;
    drawSummary(run.rows.filter(({ result }) => result !== null));
  }
}

function drawSummary(rows) {
  if (rows.length === 0) return;
  const votes = new Map();
  for (const { result } of rows) votes.set(result.label, (votes.get(result.label) ?? 0) + 1);
  const shares = [...votes].map(([label, number]) => ({ label, share: number / rows.length }));
  byId("run-summary").replaceChildren(
    make("h3", {}, said.predicted),
    bars(shares.sort((a, b) => b.share - a.share), (share) => `${percent(share)} (${count(Math.round(share * rows.length))})`));
}

const doneOf = (run) => run.rows.filter(answered).length;

function endOf(run) {
  const refused = run.rows.filter(({ error }) => error !== null).length;
  return said.end(run.rows.length - refused, refused);
}

const shortened = (cell) => (cell.length > 120 ? `${cell.slice(0, 120)}…` : cell);
