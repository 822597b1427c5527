// The whole page: asks the service what it has, and shows one of three pages by the address's #.

import { Cards } from "./cards.js";
import { choicesOf } from "./choices.js";
import { Classify } from "./classify.js";
import { byId, showError } from "./dom.js";
import { WholeFile } from "./file.js";
import { catalogue, keepToken } from "./service.js";

const classify = new Classify();
const wholeFile = new WholeFile();
const cards = new Cards({ onUse, onReload: load });
const views = [...document.querySelectorAll(".view")];
let isOffered = false; // whether the service's classifiers are known

async function load() {
  const place = byId("catalogue-error");
  try {
    const found = await catalogue();
    const choices = choicesOf(found);
    classify.update(choices, found.limits);
    wholeFile.update(choices, found.limits);
    cards.update(choices, found.errors);
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

function onUse(key) {
  classify.use(classify.choices.find((choice) => choice.key === key));
  location.hash = "classify";
}

/** Show the page that the address names. */
function show({ focus = false } = {}) {
  const wanted = views.find(({ id }) => `#${id}` === location.hash) ?? views[0];
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
