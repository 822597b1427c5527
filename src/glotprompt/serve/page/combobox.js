// A text field that searches a list (the ARIA pattern "editable combobox with list autocomplete").

import { make } from "./dom.js";
import { search } from "./choices.js";
import { words } from "./words.js";

const MOST_SHOWN = 50;

export class Combobox {
  /** `root` holds a label and an input. `onPick(choice)` is called when a person picks one; with `keeps` false the
   *  field is emptied then, for adding one after the other. */
  constructor(root, { onPick, keeps = true }) {
    this.input = root.querySelector("input");
    this.onPick = onPick;
    this.keeps = keeps;
    this.choices = [];
    this.chosen = null;
    this.shown = [];
    this.active = -1;
    const id = `${this.input.id}-list`;
    this.list = make("ul", { id, role: "listbox", "aria-label": root.querySelector("label").textContent });
    this.more = make("p", { class: "quiet more" });
    this.popup = make("div", { class: "popup", hidden: true }, this.list, this.more);
    this.status = make("p", { class: "unseen", role: "status" });
    root.append(this.popup, this.status);
    for (const [name, value] of Object.entries({
      type: "text", role: "combobox", "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list",
      autocomplete: "off", autocapitalize: "none", spellcheck: "false",
    })) this.input.setAttribute(name, value);
    this.input.addEventListener("input", () => this.open(this.input.value));
    this.input.addEventListener("focus", () => this.input.select());
    this.input.addEventListener("click", () => this.isOpen || this.open(""));
    this.input.addEventListener("blur", () => this.close());
    this.input.addEventListener("keydown", (event) => this.onKey(event));
    this.popup.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the field
  }

  get isOpen() {
    return !this.popup.hidden;
  }

  /** Offer other choices; what was chosen stays when it is among them. */
  setChoices(choices) {
    this.choices = choices;
    this.chosen = choices.find((choice) => choice.key === this.chosen?.key) ?? null;
    this.input.value = this.chosen?.title ?? "";
  }

  choose(choice) {
    this.chosen = choice;
    this.input.value = choice?.title ?? "";
  }

  open(query) {
    const found = search(this.choices, query);
    this.shown = found.slice(0, MOST_SHOWN);
    this.list.replaceChildren(...this.shown.map((choice, place) => make(
      "li",
      {
        id: `${this.list.id}-${place}`, role: "option", "aria-selected": String(choice.key === this.chosen?.key),
        onclick: () => this.pick(choice),
      },
      make("span", {}, choice.title), " ", make("span", { class: "quiet" }, choice.detail),
    )));
    const left = found.length - this.shown.length;
    this.more.textContent = left ? words.combobox.more(left) : found.length ? "" : words.combobox.nothing;
    this.more.hidden = this.more.textContent === "";
    this.status.textContent = words.combobox.found(found.length);
    this.popup.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.activate(query && this.shown.length ? 0 : this.shown.findIndex((choice) => choice.key === this.chosen?.key));
  }

  close() {
    if (this.isOpen) {
      this.popup.hidden = true;
      this.input.setAttribute("aria-expanded", "false");
      this.activate(-1);
      this.status.textContent = "";
    }
    this.input.value = this.chosen?.title ?? "";
  }

  activate(place) {
    this.list.children[this.active]?.classList.remove("active");
    this.active = place;
    const option = this.list.children[place];
    option?.classList.add("active");
    option?.scrollIntoView({ block: "nearest" });
    if (option) this.input.setAttribute("aria-activedescendant", option.id);
    else this.input.removeAttribute("aria-activedescendant");
  }

  pick(choice) {
    if (this.keeps) this.chosen = choice;
    this.close();
    this.onPick(choice);
  }

  onKey(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!this.isOpen) this.open("");
      else if (this.shown.length) {
        const step = event.key === "ArrowDown" ? 1 : -1;
        const from = this.active === -1 && step === -1 ? 0 : this.active;
        this.activate((from + step + this.shown.length) % this.shown.length);
      }
    } else if (event.key === "Enter" && this.isOpen) {
      event.preventDefault();
      if (this.active >= 0) this.pick(this.shown[this.active]);
    } else if (event.key === "Enter") {
      event.preventDefault(); // picking is not sending
      this.open("");
    } else if (event.key === "Escape" && this.isOpen) {
      event.preventDefault();
      this.close();
    }
  }
}
