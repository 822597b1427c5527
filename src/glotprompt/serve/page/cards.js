// The page "Classifiers": a card for each, with the metadata of its file.

import { languageOf, search, searchable } from "./choices.js";
import { byId, count, make, size } from "./dom.js";
import { words } from "./words.js";

const said = words.cards;

const AT_A_TIME = 60;

/** What a card tells, in this order; what a classifier's file does not say is left out. */
const FACTS = [
  ["measured", String],
  ["dev_accuracy", (value) => `${value.toFixed(1)} %`],
  ["num_examples", count],
  ["target_texts", count],
  ["source_texts", count],
  ["max_length", said.tokens],
  ["method", String],
  ["prompt_length", count],
  ["backbone", String],
  ["offsets", (value) => (value ? said.yes : said.no)],
  ["num_bytes", size],
  ["made", (value) => new Date(value).toLocaleDateString("en", { dateStyle: "medium" })],
];

export class Cards {
  /** `onUse(key)` opens a classifier for use; `onReload()` asks the service again and settles when it has answered. */
  constructor({ onUse, onReload }) {
    this.choices = [];
    this.onUse = onUse;
    this.shown = AT_A_TIME;
    byId("cards-search").addEventListener("input", () => {
      this.shown = AT_A_TIME;
      this.draw();
    });
    byId("cards-more").addEventListener("click", () => {
      const first = this.shown;
      this.shown += AT_A_TIME;
      this.draw();
      byId("cards").children[first]?.querySelector("button").focus();
    });
    byId("cards-reload").addEventListener("click", () => onReload());
  }

  update(choices, errors) {
    this.choices = choices.filter(({ card }) => card !== null).map((choice) => ({
      ...choice, searchText: `${choice.searchText} ${searchable(...choice.card.labels)}`,
    }));
    byId("unreadable").replaceChildren(...(errors.length ? [make("div", { class: "panel" },
      make("h3", {}, said.unreadable(errors.length)),
      make("ul", {}, ...errors.map(({ file, error }) => make("li", {}, error.startsWith(file) ? error : `${file}: ${error}`))))] : []));
    this.draw();
  }

  draw() {
    const found = search(this.choices, byId("cards-search").value);
    byId("cards-status").textContent = said.found(found.length, this.choices.length);
    byId("cards").replaceChildren(...found.slice(0, this.shown).map((choice) => this.cardOf(choice)));
    byId("cards-more").hidden = found.length <= this.shown;
  }

  cardOf({ key, title, card }) {
    const facts = FACTS.filter(([name]) => card[name] !== null && card[name] !== undefined);
    return make("li", {}, make("article", { class: "panel" },
      make("h3", {}, languageOf(card)),
      make("p", {}, make("strong", {}, card.task), " ", make("span", { class: "quiet" }, card.name)),
      make("ul", { class: "labels", "aria-label": said.labels }, ...card.labels.map((label) => make("li", { dir: "auto" }, label))),
      make("dl", {}, ...facts.map(([name, format]) =>
        make("div", {}, make("dt", {}, said.facts[name]), make("dd", {}, format(card[name]))))),
      make("p", {}, make("button", { type: "button", onclick: () => this.onUse(key), "aria-label": said.useOf(title) },
        said.use))));
  }
}
