// The text areas for what a classifier reads; what was typed stays when another classifier is chosen.

import { make } from "./dom.js";
import { words } from "./words.js";

export const labelOf = (field) => words.fields[field] ?? field;

export class Fields {
  /** `onSend` is called at Ctrl + Enter. */
  constructor(root, onSend) {
    this.root = root;
    this.typed = new Map();
    this.areas = [];
    root.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        onSend();
      }
    });
  }

  show(names) {
    if (names.join() === this.areas.map((area) => area.name).join()) return;
    this.areas = names.map((name) => {
      const area = make("textarea", {
        id: `field-${name}`, name, dir: "auto", rows: names.length > 1 ? 3 : 6, spellcheck: "false",
        oninput: () => this.typed.set(name, area.value),
      });
      area.value = this.typed.get(name) ?? "";
      return area;
    });
    this.root.replaceChildren(...this.areas.flatMap((area) => [
      make("label", { for: area.id }, labelOf(area.name)),
      area,
    ]));
  }

  /** Put an example in: a text, or the texts of all fields. */
  fill(sample) {
    const texts = typeof sample === "string" ? [sample] : sample;
    this.areas.forEach((area, place) => {
      area.value = texts[place] ?? "";
      this.typed.set(area.name, area.value);
    });
  }

  /** The texts by field; the first empty field gets the focus and null comes back. */
  read() {
    const empty = this.areas.find((area) => area.value.trim() === "");
    for (const area of this.areas) area.setAttribute("aria-invalid", String(area === empty));
    if (empty) {
      empty.focus();
      return null;
    }
    return Object.fromEntries(this.areas.map((area) => [area.name, area.value]));
  }
}
