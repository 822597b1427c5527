// The whole page: asks the service what it has, and shows one of its pages by the address's #.

import { Bench } from "./bench.js";
import { Cards } from "./cards.js";
import { choicesOf } from "./choices.js";
import { Classify } from "./classify.js";
import { Correct } from "./correct.js";
import { byId, showError } from "./dom.js";
import { WholeFile } from "./file.js";
import { Jobs } from "./jobs.js";
import { catalogue, keepToken } from "./service.js";
import { Start } from "./start.js";
import { fillPage } from "./words.js";

fillPage();
const classify = new Classify();
const wholeFile = new WholeFile();
const cards = new Cards({ onUse, onReload: load });
const views = [...document.querySelectorAll(".view")];
let isOffered = false; // whether the service's classifiers are known
let training = null; // the pages that train, where the service has a workspace
let unserved = new Map(); // files that are not served, and why

async function load() {
  const place = byId("catalogue-error");
  try {
    const found = await catalogue();
    const choices = choicesOf(found);
    classify.update(choices, found.limits);
    wholeFile.update(choices, found.limits);
    cards.update(choices, found.errors);
    unserved = new Map(found.errors.map(({ file, error }) => [file, error]));
    if (found.trains) await train(choices, found.limits);
    place.hidden = true;
    isOffered = true;
  } catch (error) {
    place.hidden = error.status === 401; // the token is asked for instead
    showError(place.querySelector("p"), error.message);
    if (!("status" in error)) throw error; // an error of this page belongs on the console
  } finally {
    document.body.dataset.ready = String(isOffered);
    show();
  }
}

/** Open the pages that train, or tell them of other classifiers. */
async function train(choices, limits) {
  if (training === null) {
    const bench = new Bench();
    const onCorrect = (name) => {
      training.correct.choose(name);
      location.hash = "correct";
    };
    const correct = new Correct(bench, () => training.start.topic);
    const start = new Start(bench, { onTopic: () => training && correct.drawChoices(), onLabel: () => onCorrect("") });
    training = { bench, start, correct, jobs: new Jobs(bench, {
      onUse,
      onCorrect,
      onDone: load,
      errorOf: (name) => (classify.choices.some(({ key }) => key === name) ? null : unserved.get(`${name}.safetensors`) ?? ""),
    }) };
    for (const link of document.querySelectorAll('nav [href="#start"], nav [href="#correct"]')) link.hidden = false;
  }
  await Promise.all([training.bench.look(), training.start.load()]); // the first time may have failed, as without a token
  if (location.hash === "" && choices.length === 0) location.replace("#start");
  training.correct.update(choices, limits);
  training.jobs.redraw();
}

function onUse(key) {
  classify.use(classify.choices.find((choice) => choice.key === key));
  location.hash = "classify";
}

/** Show the page that the address names. */
function show({ focus = false } = {}) {
  const open = views.filter(({ id }) => training !== null || (id !== "start" && id !== "correct"));
  const wanted = open.find(({ id }) => `#${id}` === location.hash) ?? byId("classify");
  if (wanted.id === "start") training.start.readLabels();
  for (const view of views) view.hidden = view !== wanted || !isOffered;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${wanted.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = wanted.querySelector("h2");
  document.title = `${heading.textContent} · glotprompt`;
  if (focus && isOffered) heading.focus();
}

window.addEventListener("hashchange", () => {
  if (location.hash !== "#main") show({ focus: true }); // #main is the link that skips to the content
});

byId("catalogue-error").querySelector("button").addEventListener("click", load);

document.addEventListener("token-wanted", ({ detail }) => {
  const form = byId("token-form");
  showError(byId("token-error"), detail);
  form.hidden = false;
  byId("token").focus();
});

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  byId("token").value = "";
  byId("token-form").hidden = true;
  load();
});

load();
