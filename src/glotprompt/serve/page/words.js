// The language of the interface: the first of the browser's that there is a file for, else English.

import { WORDS as en } from "./words/en.js";

const LANGUAGES = { en };

const wanted = navigator.languages.map((tag) => tag.toLowerCase().split("-")[0]).find((code) => code in LANGUAGES) ?? "en";

export const words = LANGUAGES[wanted];
