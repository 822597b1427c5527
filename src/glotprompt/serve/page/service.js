// Requests to the service, and its errors in plain words.

import { words } from "./words.js";

const said = words.service;
const TOKEN = "glotprompt-token";

/** What the page supposes when the service does not tell its limits; it learns better from refusals. */
const USUAL_LIMITS = { items: 32, characters: 20_000, body_bytes: 500_000 };

export class ServiceError extends Error {
  /** `status` is 0 when nothing answered; `item` is the place in the request that is to blame, or null;
   *  `retryAfter` is in seconds. */
  constructor(message, { status = 0, code = null, item = null, retryAfter = null } = {}) {
    super(message);
    this.name = "ServiceError";
    Object.assign(this, { status, code, item, retryAfter });
  }
}

let held = null; // the token, for a browser that keeps nothing: until the page is left

export function keepToken(token) {
  held = token;
  try {
    sessionStorage.setItem(TOKEN, token);
  } catch {
    // It is held.
  }
}

function keptToken() {
  try {
    return sessionStorage.getItem(TOKEN) ?? held;
  } catch {
    return held;
  }
}

/** The classifiers' cards, the files that could not be read, the limits of a request and whether languages are guessed. */
export async function catalogue() {
  const found = await ask("v1/classifiers", {});
  return {
    cards: found.classifiers,
    errors: found.errors ?? [],
    limits: { ...USUAL_LIMITS, ...found.limits },
    auto: found.auto === true,
    trains: found.trains === true,
  };
}

/** What the service says of its routes, in the OpenAPI format. */
export const description = () => ask("openapi.json", {});

/** The results of `items`, in their order. */
export async function predict(items, signal) {
  const body = JSON.stringify({ items });
  const answer = await ask("v1/predict", { method: "POST", body, signal });
  return answer.results;
}

/** The answer to a request. `body` is JSON, or bytes of the `type` that is given. */
export async function ask(path, { method = "GET", body, signal, type = "application/json" } = {}) {
  const token = keptToken();
  if (token !== null && !/^[\x20-\x7e]*$/.test(token)) { // no browser sends it, and no service has such a one
    throw refused(said.noToken);
  }
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = type;
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { method, body, headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(said.away);
  }
  if (response.ok) return response.headers.get("Content-Type")?.startsWith("text/plain") ? response.text() : response.json();
  if (response.status === 401) {
    throw refused(token === null ? said.needsToken : said.wrongToken);
  }
  throw await failureOf(response);
}

/** A 401, which makes the page ask for the token. */
function refused(message) {
  document.dispatchEvent(new CustomEvent("token-wanted", { detail: message }));
  return new ServiceError(message, { status: 401 });
}

async function failureOf(response) {
  const { status } = response;
  const found = await response.json().then((body) => body.error ?? {}, () => ({}));
  const retryAfter = status === 429 || status === 503 ? secondsOf(response.headers.get("Retry-After")) : null;
  let { message } = found;
  if (retryAfter !== null) message ??= said.busy(Math.ceil(retryAfter));
  else if (status >= 500) message = said.failed(status);
  else if (!message && status === 413) message = said.tooMuch;
  message ??= said.refused(status);
  return new ServiceError(message, { status, code: found.code ?? null, item: found.item ?? null, retryAfter });
}

/** Seconds of a Retry-After header, which may also hold a date; 1 when it says nothing. */
export function secondsOf(header) {
  if (header === null || header.trim() === "") return 1;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const until = Date.parse(header);
  return Number.isNaN(until) ? 1 : Math.max(0, (until - Date.now()) / 1000);
}
