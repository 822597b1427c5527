// The page "Classify": one text, by one classifier or by several.

import { classifyAll } from "./batches.js";
import { readsAs, usualChoice } from "./choices.js";
import { Combobox } from "./combobox.js";
import { byId, make, showError } from "./dom.js";
import { Fields } from "./fields.js";
import { resultCard } from "./results.js";
import { predict } from "./service.js";
import { words } from "./words.js";

const said = words.classify;

const MOST_COMPARED = 40; // more than anybody looks through

export class Classify {
  constructor() {
    this.choices = [];
    this.compared = [];
    this.asking = null;
    this.main = new Combobox(byId("classify-choice"), { onPick: (choice) => this.use(choice) });
    this.other = new Combobox(byId("compare-choice"), { keeps: false, onPick: (choice) => this.compare([choice]) });
    this.fields = new Fields(byId("classify-fields"), () => this.send());
    byId("classify-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("compare-all").addEventListener("click", () => this.compare(
      this.offered().filter((choice) => choice.card && choice.task === this.main.chosen.task)));
    byId("compare-none").addEventListener("click", () => {
      this.compared = [];
      this.drawCompared();
      this.other.input.focus();
    });
  }

  /** Take up the service's classifiers; what was chosen stays where it is still there. */
  update(choices, limits) {
    this.choices = choices;
    this.limits = limits;
    this.main.setChoices(choices);
    this.use(this.main.chosen ?? usualChoice(choices));
  }

  use(choice) {
    this.main.choose(choice);
    const same = (key) => this.choices.find((one) => one.key === key);
    this.compared = this.compared.map(({ key }) => same(key)).filter((one) => one && readsAs(one, choice));
    this.drawCompared();
    byId("classify-form").hidden = choice === null;
    if (choice === null) {
      this.say(said.none);
      return;
    }
    byId("classify-about").textContent = aboutOf(choice);
    this.fields.show(choice.fields);
    this.drawExamples(choice);
  }

  offered() {
    const chosen = this.main.chosen;
    const taken = new Set([chosen?.key, ...this.compared.map(({ key }) => key)]);
    return this.choices.filter((choice) => !taken.has(choice.key) && readsAs(choice, chosen));
  }

  compare(added) {
    const wanted = [...this.compared, ...added];
    this.compared = wanted.slice(0, MOST_COMPARED - 1);
    this.drawCompared(wanted.length - this.compared.length);
    this.other.input.focus();
  }

  /** Show the compared classifiers; `left` is the number that did not fit. */
  drawCompared(left = 0) {
    showError(byId("compare-left"),
      left ? said.left(left, MOST_COMPARED) : null);
    const chips = byId("compare").querySelector(".chips");
    chips.replaceChildren(...this.compared.map((choice) => make("li", {}, choice.title, " ", make("button", {
      type: "button", "aria-label": said.remove(choice.title),
      onclick: () => {
        this.compared = this.compared.filter((one) => one !== choice);
        this.drawCompared();
        this.other.input.focus();
      },
    }, "×"))));
    this.other.setChoices(this.offered());
    byId("compare-none").hidden = this.compared.length === 0;
    byId("classify-button").textContent = this.compared.length ? said.compare(this.compared.length + 1) : words.page["#classify-button"];
  }

  drawExamples(choice) {
    byId("examples").hidden = choice.samples.length === 0;
    byId("examples-title").textContent = said.examples(choice.samplesIn);
    byId("examples").querySelector("ul").replaceChildren(...choice.samples.map((sample) => {
      const shown = typeof sample === "string" ? sample : sample.join(" / ");
      return make("li", {}, make("button", {
        type: "button", dir: "auto", title: shown,
        onclick: () => {
          this.fields.fill(sample);
          byId("classify-button").focus();
        },
      }, shown));
    }));
  }

  async send() {
    const texts = this.fields.read();
    showError(byId("classify-error"), texts === null ? said.empty : null);
    if (texts === null) return;
    const asked = [this.main.chosen, ...this.compared];
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    byId("classify-form").setAttribute("aria-busy", "true");
    this.say(said.classifying);
    const rows = asked.map((choice) => ({ choice, item: { ...choice.target, ...texts }, result: null, error: null }));
    const report = ({ waiting }) => {
      if (waiting) this.say(said.busy(Math.ceil(waiting)));
    };
    try {
      await classifyAll(rows, { predict, limits: this.limits, signal: asking.signal, report, tries: 1 });
      this.drawResults(rows, texts);
    } catch (error) {
      if (asking.signal.aborted) return; // a later text has taken its place
      this.drawResults([], texts);
      showError(byId("classify-error"), error.message);
      if (!("status" in error)) throw error; // an error of this page belongs on the console
    } finally {
      if (this.asking === asking) byId("classify-form").removeAttribute("aria-busy");
    }
  }

  /** What a screen reader says; `unseen` where the page shows the same. */
  say(text, unseen = false) {
    byId("results-status").className = unseen ? "unseen" : "quiet";
    byId("results-status").textContent = text;
  }

  drawResults(rows, texts) {
    const refused = rows.filter(({ error }) => error !== null);
    const isSame = refused.length === rows.length && new Set(refused.map(({ error }) => error)).size === 1;
    const reasons = isSame ? [refused[0].error] : refused.map(({ choice, error }) => `${choice.title}: ${error}`);
    showError(byId("classify-error"), reasons.join("\n"));
    const results = rows.map(({ result }) => result).filter((result) => result !== null);
    const nameOf = (name) => this.choices.find(({ key }) => key === name)?.title ?? name;
    const onUse = (name) => {
      this.use(this.choices.find(({ key }) => key === name) ?? this.main.chosen);
      this.send();
    };
    byId("results").className = results.length > 1 ? "several" : "";
    byId("results").replaceChildren(...results.map((result) => resultCard(result, { texts, nameOf, onUse })));
    this.say(results.length ? summaryOf(results, nameOf) : said.noAnswer, results.length === 1); // the card shows it
    const title = byId("results-title"); // on a phone it may lie far below the text
    if (results.length && title.getBoundingClientRect().top > window.innerHeight - 150) title.scrollIntoView();
  }
}

function aboutOf({ card, detail }) {
  if (card === null) return said.aboutAuto(detail);
  return said.about(card.labels, card.measured);
}

/** What a screen reader says when results arrive. */
function summaryOf(results, nameOf) {
  if (results.length === 1) {
    const [{ classifier, label, scores: [best] }] = results;
    return said.one(nameOf(classifier), label, best.score);
  }
  const votes = new Map();
  for (const { label } of results) votes.set(label, (votes.get(label) ?? 0) + 1);
  return said.several(results.length, [...votes].sort(([, a], [, b]) => b - a));
}
