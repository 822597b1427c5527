// What a person can choose: each classifier, and for each task "find the language yourself".

import { words } from "./words.js";

const said = words.choices;

/** A choice: `target` is what goes into a request's item, `card` is null where the service finds the language. */
export function choicesOf({ cards, auto, limits }) {
  const named = cards.map((card) => ({
    key: card.name,
    title: titleOf(card),
    detail: card.name,
    searchText: searchable(card.language_name ?? "", card.language === NO_LANGUAGE ? languageOf(card) : card.language, card.task, card.name),
    target: { classifier: card.name },
    task: card.task,
    fields: card.fields,
    samples: card.sample_texts,
    samplesIn: card.sample_side === "source" ? said.sourceLanguage : languageOf(card),
    card,
  }));
  named.sort((a, b) => a.title.localeCompare(b.title, "en"));
  return auto ? [...automatic(cards, limits.candidates ?? Infinity), ...named] : named;
}

/** What the service can find by itself: tasks in several languages, but not in more than it would try. */
function automatic(cards, most) {
  const byTask = new Map();
  for (const card of cards.filter((one) => one.finds_language)) byTask.set(card.task, [...(byTask.get(card.task) ?? []), card]);
  const several = [...byTask].filter(([, own]) => own.length <= most && new Set(own.map(({ language }) => language)).size > 1);
  return several.map(([task, own]) => ({
    key: `auto ${task}`, // no classifier's name, which is a file's, holds a space and equals this
    title: said.detect(task),
    detail: said.tries(own.length),
    searchText: searchable(said.detectWords, task),
    target: { language: "auto", task },
    task,
    fields: own[0].fields,
    samples: own.filter((card) => card.sample_side === "target").flatMap((card) => card.sample_texts.slice(0, 1)).slice(0, 5),
    samplesIn: said.several,
    card: null,
  }));
}

/** What is chosen before anybody has chosen. */
export const usualChoice = (choices) => choices.find(({ card }) => card !== null) ?? null;

/** The language code of a classifier that was tuned without adaptation. */
const NO_LANGUAGE = "und";

export const languageOf = (card) => {
  if (card.language === NO_LANGUAGE) return said.noLanguage;
  return card.language_name ? `${card.language_name} (${card.language})` : card.language;
};

/** Whether two choices want the same texts. */
export const readsAs = (choice, other) => other !== null && choice.fields.join() === other.fields.join();

export const titleOf = (card) => `${languageOf(card)} · ${card.task}`;

/** Choices whose words begin with, or contain, every word of the query; the closest first. */
export function search(choices, query) {
  const wanted = searchable(query).split(" ").filter(Boolean);
  const ranked = choices.flatMap((choice) => {
    if (!wanted.every((word) => choice.searchText.includes(word))) return [];
    const begins = wanted.filter((word) => ` ${choice.searchText}`.includes(` ${word}`)).length;
    return [{ choice, begins }];
  });
  return ranked.sort((a, b) => b.begins - a.begins).map(({ choice }) => choice);
}

/** Small letters without marks, so that "Yoruba" finds "Yorùbá". */
export function searchable(...texts) {
  return texts.join(" ").normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}
