/** An element with attributes, listeners ("onclick") and children. Strings become text, never HTML; null is left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Show an error message; without one, hide the element. */
export function showError(place, message) {
  place.textContent = message ?? "";
  place.hidden = !message;
}

/** What `work()` comes to; null where it fails, with the error at a place. One without a status is the page's own fault,
 *  and belongs on the console, too. */
export async function guarded(place, work) {
  showError(place, null);
  try {
    return await work();
  } catch (error) {
    showError(place, error.message);
    if (!("status" in error)) throw error;
    return null;
  }
}

const NUMBERS = new Intl.NumberFormat("en");
export const count = (number) => NUMBERS.format(number);

/** "1 row", "1,200 rows". */
export const counted = (number, unit) => `${count(number)} ${unit}${number === 1 ? "" : "s"}`;

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export const size = (bytes) => (bytes < 2 ** 20 ? `${count(Math.ceil(bytes / 2 ** 10))} kB` : `${(bytes / 2 ** 20).toFixed(1)} MB`);

/** "40 s", "3 min", "2 h 10 min", which no line end divides. */
export function spanOf(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.ceil(seconds))}\u00a0s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes}\u00a0min` : `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}
