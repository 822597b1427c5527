// The page "Start": what a person has, what the doctor says of it, and one button that trains.

import { Combobox } from "./combobox.js";
import { searchable } from "./choices.js";
import { byId, guarded, make, showError } from "./dom.js";
import { reportOf } from "./report.js";
import { Uploads } from "./uploads.js";
import { words } from "./words.js";

const KEPT = "glotprompt-start"; // what was typed, for a page that is loaded again
const said = words.start;

export class Start {
  /** `onTopic()` is called when the language, the task or what is known of its labels changes; `onLabel()` opens the
   *  page that labels. */
  constructor(bench, { onTopic, onLabel }) {
    this.bench = bench;
    this.onTopic = onTopic;
    this.given = { test: {}, train: {} };
    this.shownCheck = null;
    this.language = new Combobox(byId("start-choice"), { onPick: () => this.keep() });
    this.task = byId("start-task");
    this.task.addEventListener("input", () => this.keep());
    this.uploads = new Uploads(byId("uploads"), bench, () => this.draw());
    this.labelled = make("span", { class: "quiet", id: "labelled" });
    this.uploads.areas.find(({ use }) => use === "labels").root.append(
      make("p", { class: "row actions" }, make("button", { type: "button", onclick: onLabel }, said.label), this.labelled));
    byId("check-button").addEventListener("click", () => this.check());
    for (const id of ["minutes", "steps"]) byId(id).addEventListener("input", () => this.drawWays());
    byId("start-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.train();
    });
    bench.listen((state) => state && this.update(state));
  }

  /** The languages come when they are needed, and once. */
  async load() {
    if (this.language.choices.length) return;
    const found = await this.bench.languages();
    this.language.setChoices(found.map(([code, name]) => ({
      key: code, title: `${name} (${code})`, detail: "", searchText: searchable(name, code),
    })));
    const { language, task } = this.kept();
    this.language.choose(this.language.choices.find(({ key }) => key === language) ?? null);
    this.task.value = task ?? "topics";
    await this.readLabels();
  }

  /** What the labels are of and about, and what they are called in the files; null where no language is chosen. */
  get topic() {
    const { key: language, title } = this.language.chosen ?? {};
    const task = this.task.value.trim();
    if (!language || !task) return null;
    return { language, title, task, labels: [...this.of("train"), ...this.of("labels")].flatMap(({ labels }) => Object.keys(labels)) };
  }

  /** Labels that were given one by one. */
  async readLabels() {
    const { topic } = this;
    const asked = this.asked = {};
    const given = await guarded(byId("train-error"), () => topic && this.bench.labels(topic.language, topic.task));
    if (asked !== this.asked) return; // another topic was chosen meanwhile
    this.given = given ?? { test: {}, train: {} };
    this.labelled.textContent = said.labelled({ test: Object.keys(this.given.test).length, train: Object.keys(this.given.train).length });
    this.draw();
  }

  kept() {
    try {
      return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
    } catch {
      return {}; // a browser that keeps nothing
    }
  }

  keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ language: this.language.chosen?.key, task: this.task.value }));
    } catch {
      // It is asked for again.
    }
    this.readLabels();
  }

  update(state) {
    this.state = state;
    this.uploads.update(state);
    this.draw();
    this.drawCheck();
  }

  of(use) {
    return this.uploads.chosen.filter((one) => one.use === use);
  }

  get ways() {
    const has = (use) => this.of(use).length > 0;
    return ["compare", "embedding", has("parallel") ? "aligned" : null,
      has("target") && this.state?.masked ? "masked" : null]
      .filter((way) => way !== null && (way !== "compare" || has("train")));
  }

  get way() {
    return byId("ways").querySelector("input:checked")?.value ?? this.ways[0];
  }

  draw() {
    this.onTopic();
    const { ways } = this;
    if (ways.join() !== this.drawnWays) {
      const chosen = ways.includes(this.way) ? this.way : ways[0];
      this.drawnWays = ways.join();
      byId("ways").replaceChildren(...ways.map((way) => {
        const input = make("input", { type: "radio", name: "way", value: way, "aria-describedby": `way-${way}`, onchange: () => this.drawWays() });
        input.checked = way === chosen;
        return make("div", {}, make("label", { class: "check" }, input, said.wayNames[way]),
          make("p", { class: "quiet", id: `way-${way}` }, said.wayHelp[way]));
      }));
    }
    this.drawWays();
  }

  drawWays() {
    const { way } = this;
    byId("minutes-field").hidden = way !== "compare";
    byId("steps-field").hidden = way !== "aligned" && way !== "masked";
    byId("estimate").textContent = this.estimate();
  }

  /** How long the chosen way takes, by the budget or by what the doctor measured. */
  estimate() {
    const { way } = this;
    if (way === "compare") return said.estimate.compare(Number(byId("minutes").value));
    if (!this.figures?.tune?.seconds || !this.figures.adapt) return said.estimate.unknown;
    const rows = [...this.of("train"), ...this.of("labels")].reduce((sum, { rows: one }) => sum + one, Object.keys(this.given.train).length);
    const steps = Number(byId("steps").value);
    const { adapt, tune } = this.figures;
    const learning = way === "embedding" ? 0 : steps && adapt.steps ? adapt.seconds * steps / adapt.steps : adapt.seconds;
    return said.estimate.known(learning + tune.seconds * rows / 1000);
  }

  /** The newest finished check, and figures for the estimate. */
  async drawCheck() {
    const found = this.state.jobs.find(({ job, status }) => job.kind === "doctor" && status.state === "finished");
    if (!found || found.job.number === this.shownCheck) return;
    this.shownCheck = found.job.number;
    const { results } = await this.bench.job(found.job.number);
    if (!results.doctor) return;
    this.figures = results.doctor;
    byId("check-report").replaceChildren(reportOf(results.doctor));
    this.drawWays();
  }

  async check() {
    const [upload] = [...this.of("target"), ...this.of("parallel")];
    const language = this.language.chosen?.key;
    showError(byId("check-error"), language && upload ? null : said.checkNeeds);
    if (!language || !upload) return;
    const labelled = [...this.of("train"), ...this.of("labels")].map(({ number }) => number);
    await guarded(byId("check-error"), () => this.bench.check({ upload: upload.number, language, labels_of: labelled }));
  }

  async train() {
    const language = this.language.chosen?.key;
    const task = this.task.value.trim();
    const missing = !language ? "language" : !task ? "task"
      : this.of("train").length + this.of("labels").length + Object.keys(this.given.train).length === 0 ? "labels" : null;
    showError(byId("train-error"), missing && said.needs[missing]);
    if (missing) return;
    const steps = byId("steps-field").hidden ? 0 : Number(byId("steps").value);
    const body = { way: this.way, language, task, uploads: this.uploads.chosen.map(({ number }) => number),
      minutes: Number(byId("minutes").value) || 30, steps: steps || null };
    const made = await guarded(byId("train-error"), () => this.bench.train(body));
    if (made) {
      byId("train-status").textContent = said.ordered;
      byId("jobs-title").scrollIntoView();
    }
  }
}
