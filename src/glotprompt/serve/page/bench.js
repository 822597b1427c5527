// The workspace behind the page: what was sent, the trainings, and the labels that people gave.

import { ask } from "./service.js";

const BUSY_MS = 1000;
const IDLE_MS = 5000;

const post = (path, body = {}) => ask(path, { method: "POST", body: JSON.stringify(body) });

export const isActive = ({ status }) => status.state === "waiting" || status.state === "running";

/** Asks the service how things stand, often while a training runs, and tells who wants to know. */
export class Bench {
  constructor() {
    this.state = null;
    this.timer = 0;
    this.listeners = [];
  }

  /** `onChange(state, error)` is called after each look; `error` is a ServiceError where there was no answer. */
  listen(onChange) {
    this.listeners.push(onChange);
  }

  async look() {
    clearTimeout(this.timer);
    let error = null;
    try {
      this.state = await ask("v1/workspace");
    } catch (found) {
      if (!("status" in found)) throw found;
      error = found;
    }
    const isBusy = error !== null || this.state.jobs.some(isActive);
    if (error?.status !== 401) this.timer = setTimeout(() => this.look(), isBusy ? BUSY_MS : IDLE_MS);
    for (const onChange of this.listeners) onChange(this.state, error);
  }

  async order(path, body) {
    const made = await post(path, body);
    await this.look();
    return made;
  }

  async upload(use, name, text) {
    const query = new URLSearchParams({ use, name });
    const body = new TextEncoder().encode(text);
    const made = await ask(`v1/uploads?${query}`, { method: "POST", body, type: "application/octet-stream" });
    await this.look();
    return made;
  }

  remove = (number) => this.order(`v1/uploads/${number}/remove`);
  check = (body) => this.order("v1/jobs/check", body);
  train = (body) => this.order("v1/jobs/train", body);
  again = (classifier) => this.order("v1/jobs/again", { classifier });
  measure = (classifier) => this.order("v1/jobs/evaluate", { classifier });
  cancel = (number) => this.order(`v1/jobs/${number}/cancel`);
  resume = (number) => this.order(`v1/jobs/${number}/resume`);
  job = (number) => ask(`v1/jobs/${number}`);
  log = (number) => ask(`v1/jobs/${number}/log`);
  texts = (number) => ask(`v1/uploads/${number}/texts`);
  languages = () => ask("v1/languages");
  labels = (language, task) => ask(`v1/labels?${new URLSearchParams({ language, task })}`);
  giveLabel = (body) => post("v1/labels", body);
}
