// A result as people see it: the label, a bar for each probability, and what the tokenizer could not read.

import { make, percent } from "./dom.js";
import { labelOf } from "./fields.js";
import { words } from "./words.js";

const said = words.results;

/** Below this difference between the two most probable labels an answer counts as unsure. */
const LEAST_MARGIN = 0.2;

export const marginOf = ({ scores: [first, second] }) => first.score - (second?.score ?? 0);
export const isUnsure = (result) => marginOf(result) < LEAST_MARGIN;

/** Bars for shares between 0 and 1, in the order given; `words` says each share. */
export function bars(shares, words = percent) {
  return make("ol", { class: "bars" }, ...shares.map(({ label, share }) => {
    const bar = make("span", { class: "fill" });
    bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    return make("li", {},
      make("span", { class: "label", dir: "auto" }, label), " ",
      make("span", { class: "share" }, words(share)),
      make("span", { class: "bar", "aria-hidden": "true" }, bar));
  }));
}

/** `texts` by field, as they were sent; `nameOf(classifier)` gives its title; `onUse` a button's work, for a language
 *  that was found. */
export function resultCard(result, { texts, nameOf, onUse }) {
  const [best] = result.scores;
  return make("article", { class: isUnsure(result) ? "result unsure" : "result" },
    make("h4", {}, nameOf(result.classifier)),
    make("p", { class: "answer" },
      make("strong", { dir: "auto" }, result.label), " ", make("span", {}, percent(best.score))),
    isUnsure(result) ? make("p", { class: "doubt" }, said.unsure(100 * LEAST_MARGIN)) : null,
    bars(result.scores.map(({ label, score }) => ({ label, share: score }))),
    result.truncated ? make("p", { class: "note" }, said.cut) : null,
    result.unknown.length ? unread(result.unknown, texts) : null,
    result.candidates?.length ? candidates(result, nameOf, onUse) : null,
  );
}

function unread(unknown, texts) {
  const listed = unknown.map((character) => `${character} (${codeOf(character)})`).join(", ");
  return make("div", { class: "note" },
    make("p", {}, said.unread(unknown.length), make("bdi", {}, listed)),
    ...Object.entries(texts).flatMap(([field, text], _, all) => [
      all.length > 1 ? make("p", { class: "quiet" }, labelOf(field)) : null,
      make("p", { class: "read", dir: "auto" }, ...marked(text, unknown)),
    ]));
}

const codeOf = (character) => [...character].map((one) =>
  `U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`).join(" ");

/** The text in pieces, with those that hold an unknown character inside <mark>. A mark holds whole written characters,
 *  with their accents, so that scripts keep their shapes. */
export function marked(text, unknown) {
  const known = new Set(unknown);
  const isUnknown = (written) => [written, written.normalize("NFC"), written.normalize("NFKC")].some(
    (form) => known.has(form) || [...form].some((character) => known.has(character)));
  const pieces = [];
  for (const written of writtenCharacters(text)) {
    const bad = isUnknown(written);
    const last = pieces.at(-1);
    if (last?.bad === bad) last.text += written;
    else pieces.push({ bad, text: written });
  }
  return pieces.map((piece) => (piece.bad ? make("mark", {}, piece.text) : piece.text));
}

function writtenCharacters(text) {
  if (!("Segmenter" in Intl)) return [...text];
  return Array.from(new Intl.Segmenter("und", { granularity: "grapheme" }).segment(text), ({ segment }) => segment);
}

function candidates(result, nameOf, onUse) {
  return make("div", { class: "note" },
    make("p", {}, said.candidates),
    make("ol", { class: "candidates" }, ...result.candidates.map((one) => make("li", {},
      make("span", { class: "grow" }, nameOf(one.classifier)),
      make("span", { class: "share" }, said.loss(one.loss)),
      make("button", { type: "button", onclick: () => onUse(one.classifier), "aria-label": said.useOf(nameOf(one.classifier)) },
        said.use)))));
}
