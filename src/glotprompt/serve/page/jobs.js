// The list of trainings: how far each is, what came of it, its log.

import { isActive } from "./bench.js";
import { byId, guarded, make, percent, showError, spanOf } from "./dom.js";
import { words } from "./words.js";

const said = words.jobs;

export class Jobs {
  /** `onUse(name)` and `onCorrect(name)` open a classifier; `errorOf(name)` says why it is not served, null where it is. */
  constructor(bench, { onUse, onCorrect, onDone, errorOf }) {
    Object.assign(this, { bench, onUse, onCorrect, onDone, errorOf });
    this.items = new Map();
    this.active = new Set();
    bench.listen((state, error) => {
      showError(byId("jobs-away"), error && error.status === 0 ? said.away : error?.message);
      if (state) this.update(state.jobs);
    });
  }

  update(jobs) {
    byId("jobs-none").hidden = jobs.length > 0;
    const done = jobs.filter((one) => !isActive(one) && this.active.has(one.job.number));
    this.active = new Set(jobs.filter(isActive).map(({ job }) => job.number));
    jobs.forEach((one, place) => {
      const { number } = one.job;
      if (!this.items.has(number)) this.items.set(number, new Item(one, this));
      const item = this.items.get(number);
      item.draw(one);
      if (byId("jobs").children[place] !== item.root) byId("jobs").insertBefore(item.root, byId("jobs").children[place] ?? null);
    });
    if (done.length) this.onDone(done);
  }

  /** Draw what depends on which classifiers are served. */
  redraw() {
    for (const item of this.items.values()) item.drawResult();
  }
}

class Item {
  constructor({ job }, owner) {
    this.owner = owner;
    this.job = job;
    this.state = "";
    this.found = null;
    const id = `job-${job.number}`;
    this.line = make("p", { role: "status" });
    this.doing = make("p", { class: "quiet" }); // changes every second, which no screen reader should say
    this.bar = make("progress", { max: 1, "aria-label": said.progress(job.title) });
    this.error = make("p", { class: "error", hidden: true });
    this.result = make("div", {});
    this.cancel = this.button(said.cancel, () => owner.bench.cancel(job.number));
    this.resume = this.button(said.resume, () => owner.bench.resume(job.number));
    this.text = make("pre", { tabindex: "0", "aria-label": said.log });
    this.log = make("details", { ontoggle: () => this.log.open && this.readLog() },
      make("summary", {}, said.log), this.text);
    this.root = make("li", {}, make("article", { class: "panel", "aria-labelledby": id },
      make("h3", { id }, job.title, " ", job.kind === "train" ? make("span", { class: "quiet" }, job.classifier) : null), this.line, this.bar, this.doing, this.error, this.result,
      make("p", { class: "row" }, this.cancel, this.resume), this.log));
  }

  button(title, work) {
    return make("button", { type: "button", "aria-label": `${title}: ${this.job.title}`, onclick: () => guarded(this.error, work) }, title);
  }

  async readLog() {
    this.text.textContent = await this.owner.bench.log(this.job.number);
    this.text.scrollTop = this.text.scrollHeight;
  }

  draw({ job, status, progress }) {
    const { state } = status;
    const running = state === "running";
    const step = job.steps[Math.min(status.step, job.steps.length - 1)];
    const parts = [said.states[state]];
    const most = job.choice?.way === "compare" && status.step === 0 ? 60 * job.choice.minutes : null; // its budget
    if (running) parts.push(step.title, said.step(status.step + 1, job.steps.length));
    else if (status.seconds) parts.push(said.took(status.seconds));
    const line = parts.filter(Boolean).join(" · ");
    if (this.line.textContent !== line) this.line.textContent = line;
    this.bar.hidden = this.doing.hidden = !running || progress === null;
    this.doing.textContent = progress ? doing(progress, job.steps.length === 1, most) : "";
    const share = !progress ? null : most ? Math.min(1, progress.seconds / most) : progress.steps ? progress.step / progress.steps : null;
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = (status.step + share) / job.steps.length;
    this.cancel.hidden = !isActive({ status });
    this.resume.hidden = state !== "cancelled" && state !== "failed";
    showError(this.error, status.message);
    if (running && this.log.open) this.readLog();
    if (state === this.state) return;
    this.state = state;
    if (state === "finished") this.finish();
  }

  async finish() {
    this.found = (await this.owner.bench.job(this.job.number)).results;
    this.drawResult();
  }

  drawResult() {
    if (this.found === null) return;
    const { compare, evaluation } = this.found;
    const { classifier: name, kind } = this.job;
    const parts = [];
    if (evaluation) parts.push(make("p", {}, make("strong", {}, said.measured(evaluation))));
    if (evaluation?.against) parts.push(make("p", {}, said.gain(evaluation.against)));
    if (compare) parts.push(...compare.advice.map((sentence) => make("p", {}, sentence)), tableOf(compare));
    if (kind === "train") parts.push(...this.links(name, compare));
    this.result.replaceChildren(...parts);
  }

  links(name, compare) {
    if (compare && compare.saved === null) return [];
    const error = this.owner.errorOf(name);
    if (error) return [make("p", { class: "error" }, `${said.notServed} ${error}`)];
    const title = ` ${this.job.title} ${name}`;
    return [make("p", { class: "row" },
      make("button", { type: "button", class: "main", "aria-label": said.use + title, onclick: () => this.owner.onUse(name) }, said.use),
      make("button", { type: "button", "aria-label": said.correct + title, onclick: () => this.owner.onCorrect(name) }, said.correct))];
  }
}

/** What a command is at, in words: what is trained, or for how long it has been silent; what is left of its budget. */
function doing(progress, isWhole, most) {
  const trains = progress.step < progress.steps;
  return [
    trains ? said.at(most ? { ...progress, seconds_left: null } : progress, isWhole) : said.silent(progress.seconds, progress.steps === 0),
    most ? said.within(Math.max(0, most - progress.seconds)) : "",
  ].filter(Boolean).join(" · ");
}

/** The candidates of a comparison, the most accurate first. */
function tableOf({ rows, winner }) {
  const order = [...rows].sort((a, b) => (b.accuracy ?? -1) - (a.accuracy ?? -1));
  const cells = order.map((row) => {
    const [low, high] = row.interval ?? [];
    const figure = row.not_run ? `${said.notRun}: ${row.not_run}` : row.accuracy == null ? said.notMeasured : percent(row.accuracy / 100);
    return [row.title, figure, low === undefined ? "-" : `${low.toFixed(0)} to ${high.toFixed(0)}`, row.name === winner];
  });
  return make("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": said.table[0] }, make("table", {},
    make("thead", {}, make("tr", {}, ...said.table.map((title) => make("th", { scope: "col" }, title)))),
    make("tbody", {}, ...cells.map(([title, figure, interval, best]) => make("tr", {},
      make("th", { scope: "row" }, best ? make("strong", {}, title) : title), make("td", {}, figure), make("td", {}, interval))))));
}
