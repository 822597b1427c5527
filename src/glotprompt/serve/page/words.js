// The language of the interface: the first of the browser's that there is a file for, else English.

import { WORDS as en } from "./words/en.js";

const LANGUAGES = { en };

const wanted = navigator.languages.map((tag) => tag.toLowerCase().split("-")[0]).find((code) => code in LANGUAGES) ?? "en";

export const words = LANGUAGES[wanted];

/** Put the texts in that the page has from the start. */
export function fillPage() {
  document.documentElement.lang = wanted;
  for (const [place, text] of Object.entries(words.page)) {
    const [selector, attribute] = place.split("@");
    for (const element of document.querySelectorAll(selector)) {
      if (attribute) element.setAttribute(attribute, text);
      else element.textContent = text;
    }
  }
}
