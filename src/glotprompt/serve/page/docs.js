// The page "For programs": what openapi.json says, for people to read.

import { byId, count, make, showError } from "./dom.js";
import { description } from "./service.js";

const REFUSED = "A refusal";

/** An OpenAPI description, with its references looked up. */
class Description {
  constructor(found) {
    this.found = found;
  }

  get operations() {
    return Object.entries(this.found.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ ...operation, path, method: method.toUpperCase() })));
  }

  resolved(schema) {
    if (schema?.$ref === undefined) return schema ?? {};
    return schema.$ref.split("/").slice(1).reduce((place, name) => place[name], this.found);
  }

  /** What may stand there beside null; one schema, since nothing here has several that are objects. */
  withoutNull(schema) {
    const kinds = (schema.anyOf ?? [schema]).filter(({ type }) => type !== "null");
    return kinds.length === 1 ? { ...schema, ...this.resolved(kinds[0]) } : schema;
  }

  /** A row for each field, those inside lists and objects too: `results[].label`. */
  rows(schema, before = "") {
    const { properties = {}, required = [] } = this.resolved(schema);
    return Object.entries(properties).flatMap(([name, own]) => {
      const found = this.withoutNull(own);
      const isList = found.type === "array";
      const inner = isList ? this.resolved(found.items) : this.resolved(found);
      const row = {
        name: before + name, kind: this.kindOf(own), must: required.includes(name),
        about: [own.description ?? inner.description ?? "", boundsOf(found)].filter(Boolean).join(" "),
      };
      return [row, ...this.rows(inner, `${before}${name}${isList ? "[]" : ""}.`)];
    });
  }

  kindOf(schema) {
    const found = this.resolved(schema);
    if (found.anyOf) return found.anyOf.map((one) => this.kindOf(one)).join(" or ");
    if (found.enum) return found.enum.map((one) => JSON.stringify(one)).join(" or ");
    if (found.type !== "array") return found.type ?? "anything";
    const inner = this.kindOf(found.items ?? {});
    return `list of ${/^\w+$/.test(inner) ? `${inner}s` : inner}`;
  }

  /** A value as it may be sent: the schema's own example, else of the fields that must be there. */
  exampleOf(schema) {
    const found = this.resolved(schema);
    if (found.example !== undefined) return found.example;
    if (found.type === "array") return [this.exampleOf(found.items)];
    if (found.type !== "object") return found.type === "string" ? "..." : 1;
    return Object.fromEntries((found.required ?? []).map((name) => [name, this.exampleOf(found.properties[name])]));
  }
}

function boundsOf({ default: usual, minimum, maximum, minItems, minLength, maxLength, anyOf = [] }) {
  const text = anyOf.find(({ type }) => type === "string") ?? {};
  const longest = maxLength ?? text.maxLength;
  return [
    minimum === undefined ? "" : `At least ${count(minimum)}.`,
    maximum === undefined ? "" : `At most ${count(maximum)}.`,
    (minItems ?? 0) > 0 || (minLength ?? text.minLength ?? 0) > 0 ? "Not empty." : "",
    longest === undefined ? "" : `At most ${longest} characters.`,
    usual === undefined || usual === null ? "" : `Default: ${typeof usual === "number" ? count(usual) : JSON.stringify(usual)}.`,
  ].filter(Boolean).join(" ");
}

const jsonOf = ({ content } = {}) => content?.["application/json"]?.schema;

/** The command that asks for it; `'` is written as the shell wants it. */
function curl(all, { path, method, requestBody, security }) {
  const words = [`curl ${new URL(`.${path}`, document.baseURI)}`];
  if (security) words.push("-H 'Authorization: Bearer TOKEN'");
  const schema = jsonOf(requestBody);
  if (schema) {
    const body = JSON.stringify(all.exampleOf(schema)).replaceAll("'", "'\\''");
    words.push("-H 'Content-Type: application/json'", `-d '${body}'`);
  } else if (method !== "GET") words.push(`-X ${method}`);
  return words.join(" \\\n  ");
}

/** A path whose parts stay whole on a narrow screen. */
const breakable = (path) => path.split(/(?<=[._])/).flatMap((part) => [make("wbr"), part]);

function table(caption, rows) {
  const head = ["Field", "About"].map((word) => make("th", { scope: "col" }, word));
  const body = rows.map(({ name, kind, must, about }) => make("tr", {},
    make("th", { scope: "row" }, make("code", {}, ...breakable(name)), " ",
      make("span", { class: "quiet" }, kind, must ? "" : ", may be left out")),
    make("td", {}, about)));
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

const idOf = ({ method, path }) => `${method}${path}`.replace(/\W+/g, "-").toLowerCase();

function operationPanel(all, operation) {
  const title = `${operation.method} ${operation.path}`;
  const sent = jsonOf(operation.requestBody);
  const isGood = ([status]) => status.startsWith("2");
  const responses = Object.entries(operation.responses); // in the order of their numbers
  const [status, good] = responses.find(isGood);
  const refusals = responses.filter((one) => !isGood(one));
  const answer = all.rows(jsonOf(good)).map((row) => ({ ...row, must: true }));
  return make("section", { class: "panel operation", "aria-labelledby": idOf(operation) },
    make("h3", { id: idOf(operation), tabindex: "-1" }, make("code", {}, title)),
    make("p", {}, operation.description ?? operation.summary ?? ""),
    operation.security ? make("p", { class: "quiet" }, "If the service was started with a token, send it.") : null,
    make("h4", {}, "For example"),
    make("pre", { tabindex: "0", role: "region", "aria-label": `Example of ${title}` }, make("code", {}, curl(all, operation))),
    sent ? table(`Sent with ${title}`, all.rows(sent)) : null,
    answer.length ? table(`Answer of ${title}, with status ${status}`, answer) : make("p", {}, "The answer is plain text."),
    refusals.length ? make("h4", {}, "Refusals") : null,
    refusals.length ? make("dl", {}, ...refusals.map(([number, { description: words }]) =>
      make("div", {}, make("dt", {}, number), make("dd", {}, words)))) : null);
}

/** The shape of every refusal, once. */
function refusalPanel(all) {
  const bad = all.operations.flatMap(({ responses }) => Object.entries(responses)).find(([status]) => status >= "4");
  return make("section", { class: "panel operation" }, make("h3", { id: "refusal", tabindex: "-1" }, REFUSED),
    make("p", {}, "All error responses have this form."), table(REFUSED, all.rows(jsonOf(bad[1]))));
}

async function load() {
  try {
    const all = new Description(await description());
    const { info } = all.found;
    byId("docs-summary").textContent = `${info.summary} Version ${info.version}.`;
    byId("routes").replaceChildren(make("ul", {}, ...[
      ...all.operations.map((one) => [idOf(one), `${one.method} ${one.path}`]), ["refusal", REFUSED],
    ].map(([id, words]) => make("li", {}, make("a", { href: `#${id}` }, words)))));
    byId("operations").replaceChildren(...all.operations.map((one) => operationPanel(all, one)), refusalPanel(all));
  } catch (error) {
    const remedy = error.status === 401 ? " Open “Classify” above, give it there and come back." : "";
    showError(byId("docs-error"), error.message + remedy);
    if (!("status" in error)) throw error; // an error of this page belongs on the console
  } finally {
    document.body.dataset.ready = "true";
  }
}

load();
