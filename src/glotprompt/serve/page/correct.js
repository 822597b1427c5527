// The page "Measure and correct": texts one by one, a label with one key.

import { classifyAll } from "./batches.js";
import { byId, guarded, make, percent, showError } from "./dom.js";
import { isUnsure, marginOf } from "./results.js";
import { predict } from "./service.js";
import { toTsv } from "./table.js";
import { words } from "./words.js";

const said = words.correct;
const MOST_TEXTS = 300; // that are classified at a time

const oneLine = (text) => text.trim().replace(/\s+/g, " ");

export class Correct {
  /** `topic()`: of what and about what labels may be given before there is a classifier; see `Start`. */
  constructor(bench, topic) {
    Object.assign(this, { bench, topic, choices: [], rows: [], place: 0, side: "test", run: null, uploads: [], given: { test: {}, train: {} }, shownTopic: "", topicKey: "", wantsFresh: false });
    byId("correct-modes").replaceChildren(...Object.keys(said.modes).map((side) => {
      const input = make("input", { type: "radio", name: "side", value: side, "aria-describedby": `side-${side}`, onchange: () => this.turn() });
      input.checked = side === "test";
      return make("div", {}, make("label", { class: "check" }, input, make("span", {})), make("p", { class: "quiet", id: `side-${side}` }));
    }));
    byId("correct-classifier").addEventListener("change", ({ target }) => this.choose(target.value));
    byId("correct-texts").addEventListener("change", () => this.close());
    byId("correct-begin").addEventListener("click", () => this.guarded(() => this.begin()));
    byId("correct-measure").addEventListener("click", () => this.ordered(() => this.bench.measure(this.card.name)));
    byId("correct-again").addEventListener("click", () => this.ordered(() => this.card.name ? this.bench.again(this.card.name) : this.close()));
    byId("correct-export").addEventListener("click", () => this.export());
    byId("correct-card").addEventListener("keydown", (event) => this.onKey(event));
    bench.listen((state) => state && this.drawTexts(state));
  }

  get card() {
    const { value } = byId("correct-classifier");
    return value ? this.choices.find(({ card }) => card.name === value)?.card ?? null : this.fresh;
  }

  /** In the place of a classifier that is still to be trained. */
  get fresh() {
    const topic = this.topic();
    const typed = byId("correct-names").value.split(/[,،、，;\n]/).map(oneLine).filter(Boolean);
    return topic && { ...topic, name: "", labels: [...new Set([...typed, ...Object.values({ ...this.given.test, ...this.given.train })])] };
  }

  update(choices, limits) {
    this.limits = limits;
    const known = new Set(this.choices.map(({ card }) => card.name));
    this.choices = choices.filter(({ card, fields }) => card !== null && fields.join() === "text");
    if (this.rows.length === 0 && this.choices.some(({ card }) => !known.has(card.name))) this.wantsFresh = false;
    this.shownTopic = null;
    this.drawChoices();
  }

  drawChoices() {
    const topic = this.topic();
    const shown = JSON.stringify(topic);
    if (shown === this.shownTopic) return;
    this.shownTopic = shown;
    const key = JSON.stringify([topic?.language, topic?.task]);
    const isSame = key === this.topicKey;
    this.topicKey = key;
    const field = byId("correct-classifier");
    const before = field.value || (this.wantsFresh ? "" : null); // without a wish the first classifier takes its place
    field.replaceChildren(
      ...this.choices.map(({ card, title }) => make("option", { value: card.name }, `${title} · ${card.name}`)),
      ...(topic ? [make("option", { value: "" }, said.fresh(topic))] : []));
    if ([...field.options].some(({ value }) => value === before)) field.value = before;
    if (!isSame || !byId("correct-names").value) byId("correct-names").value = topic?.labels.join(", ") ?? "";
    this.use(field.value || isSame ? before : null);
  }

  choose(name) {
    byId("correct-classifier").value = name;
    this.wantsFresh = name === "";
    if (this.wantsFresh) document.querySelector('input[name="side"][value="train"]').checked = true; // nothing is measured yet
    this.use();
  }

  /** Take up the classifier that is chosen. */
  async use(before = null) {
    const { card } = this;
    const asked = this.asked = {};
    if (card?.name !== before) this.close();
    this.offerTexts();
    const given = card && await this.guarded(() => this.bench.labels(card.language, card.task));
    if (asked !== this.asked) return; // another one was chosen meanwhile
    this.given = given ?? { test: {}, train: {} };
    if (card?.name === "") byId("correct-names").value = this.fresh.labels.join(", ");
    this.drawState();
  }

  drawTexts({ uploads, jobs }) {
    this.own = new Set(jobs.filter(({ job }) => job.kind === "train").map(({ job }) => job.classifier));
    this.uploads = uploads;
    if (this.offerTexts()) this.drawState();
  }

  /** Offer the texts that may be labelled; whether they are others than before. */
  offerTexts() {
    const trained = this.card?.name && chosenSide() === "test"; // on labelled texts, which measure nothing then
    const usable = this.uploads.filter(({ use }) => use !== "train" && !(trained && use === "labels"));
    const shown = usable.map(({ number, name }) => `${number} ${name}`).join("\n");
    if (shown === this.shownTexts) return false;
    this.shownTexts = shown;
    const field = byId("correct-texts");
    const before = field.value;
    field.replaceChildren(...usable.map(({ number, name }) => make("option", { value: number }, name)));
    if ([...field.options].some(({ value }) => value === before)) field.value = before;
    return true;
  }

  drawState() {
    this.offerTexts();
    const { card } = this;
    const counts = { test: Object.keys(this.given.test).length, train: Object.keys(this.given.train).length };
    const isOwn = card !== null && Boolean(this.own?.has(card.name));
    const missing = card === null ? said.noClassifier : byId("correct-texts").options.length === 0 ? said.noTexts : null;
    showError(byId("correct-missing"), missing);
    byId("correct-begin").disabled = missing !== null;
    const isFresh = card?.name === "";
    byId("correct-names-field").hidden = !isFresh;
    for (const [side, { title, help }] of Object.entries(isFresh ? said.freshModes : said.modes)) {
      byId(`side-${side}`).textContent = help;
      document.querySelector(`input[name="side"][value="${side}"] + span`).textContent = title;
    }
    byId("correct-accuracy").textContent = card === null ? "" : isFresh ? said.freshCounts(counts) : `${said.accuracy(card.measured)} ${said.counts(counts)}`;
    byId("correct-measure").hidden = !isOwn || counts.test === 0;
    byId("correct-again").hidden = !(isOwn || isFresh) || counts.train === 0;
    byId("correct-again").textContent = isFresh ? said.freshTrain : said.again(counts.train);
    byId("correct-export").hidden = counts.test + counts.train === 0;
    byId("correct-advice").textContent = card === null ? "" : isFresh ? said.freshNext : !isOwn ? said.outside
      : counts.test === 0 ? (counts.train ? said.gainNeeds : said.measureNeeds) : "";
  }

  /** Measure, or correct. */
  turn() {
    this.close();
    this.drawState();
  }

  close() {
    this.run = null;
    this.rows = [];
    byId("correct-card").hidden = true;
    byId("correct-status").textContent = "";
  }

  async begin() {
    const { card } = this;
    const run = this.run = {};
    this.side = chosenSide();
    this.wantsFresh = card.name === "";
    if (card.labels.length < 2) throw Object.assign(new Error(said.fewLabels), { status: 422 });
    byId("correct-status").textContent = said.predicting;
    const known = { ...this.given.test, ...this.given.train };
    const found = await this.bench.texts(byId("correct-texts").value);
    if (run !== this.run) return; // another classifier or purpose was chosen meanwhile
    const texts = found.filter((text) => !(oneLine(text) in known));
    const rows = shuffled(texts).slice(0, MOST_TEXTS)
      .map((text) => ({ text, item: { classifier: card.name, text }, result: null, error: null }));
    if (card.name) {
      await classifyAll(rows, { predict, limits: this.limits, signal: new AbortController().signal, report: () => {} });
      if (run !== this.run) return;
      this.rows = rows.filter(({ result }) => result !== null);
      if (this.side === "train") this.rows.sort((a, b) => marginOf(a.result) - marginOf(b.result));
    } else this.rows = rows;
    this.place = 0;
    byId("correct-status").textContent = "";
    this.draw();
  }

  draw() {
    const row = this.rows[this.place];
    byId("correct-card").hidden = row === undefined;
    if (row === undefined) {
      byId("correct-status").textContent = [byId("correct-status").textContent, said.done].filter(Boolean).join(" ");
      return;
    }
    const { result, text } = row;
    const corrects = this.side === "train" && result !== null;
    byId("correct-place").textContent = said.place(this.place + 1, this.rows.length);
    byId("correct-text").textContent = text;
    byId("correct-says").hidden = !corrects;
    byId("correct-says").textContent = corrects
      ? [said.says(result.label, result.scores[0].score), isUnsure(result) ? said.unsure : ""].filter(Boolean).join(" ") : "";
    byId("correct-labels").replaceChildren(...this.card.labels.map((label, place) => make("button", {
      type: "button", onclick: () => this.guarded(() => this.give(label)), class: corrects && label === result.label ? "said" : null,
      "aria-keyshortcuts": place < 9 ? String(place + 1) : null,
    }, place < 9 ? make("kbd", { "aria-hidden": "true" }, String(place + 1)) : null, make("bdi", {}, label))));
    byId("correct-labels").append(make("button", { type: "button", class: "plain", "aria-keyshortcuts": "s", onclick: () => this.next() }, said.skip));
    byId("correct-keys").textContent = corrects ? said.keys : said.keysMeasure;
    const card = byId("correct-card");
    const { top, bottom } = card.getBoundingClientRect();
    card.focus({ preventScroll: true });
    if (top < 0 || bottom > window.innerHeight) card.scrollIntoView({ block: "nearest" }); // on a phone it lies far below
  }

  onKey(event) {
    const row = this.rows[this.place];
    if (event.ctrlKey || event.metaKey || event.altKey || row === undefined) return;
    const label = this.card.labels[Number(event.key) - 1];
    if (label !== undefined) this.guarded(() => this.give(label));
    else if (event.key === "Enter" && this.side === "train" && row.result && event.target.id === "correct-card") this.guarded(() => this.give(row.result.label));
    else if (event.key.toLowerCase() === "s") this.next();
    else return;
    event.preventDefault();
  }

  next() {
    this.place += 1;
    this.draw();
  }

  async give(label) {
    if (this.giving) return; // a key that is held down
    this.giving = true;
    const { run } = this;
    const { text, result } = this.rows[this.place];
    const { language, task } = this.card;
    try {
      await this.bench.giveLabel({ language, task, side: this.side, text, label });
    } finally {
      this.giving = false;
    }
    if (run !== this.run) return;
    this.given[this.side][oneLine(text)] = label;
    const kept = this.side === "train" || result === null ? said.kept(label) : label === result.label ? said.agreed(label) : said.differed(label, result.label);
    byId("correct-status").textContent = kept;
    this.drawState();
    this.next();
  }

  async ordered(work) {
    if (await this.guarded(work) !== null) location.hash = "start";
  }

  async guarded(work) {
    const found = await guarded(byId("correct-error"), work);
    if (found === null) byId("correct-status").textContent = "";
    return found;
  }

  export() {
    const rows = Object.entries(this.given).flatMap(([side, labels]) =>
      Object.entries(labels).map(([text, label]) => [text, label, side]));
    const link = make("a", { download: `${this.card.language}-${this.card.task}-labels.tsv` });
    link.href = URL.createObjectURL(new Blob([toTsv([["text", "label", "use"], ...rows])], { type: "text/tab-separated-values;charset=utf-8" }));
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

const chosenSide = () => document.querySelector('input[name="side"]:checked').value;

function shuffled(items) {
  const order = [...items];
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = Math.floor(Math.random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}
