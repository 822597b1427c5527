// A file's bytes to rows of cells, and rows to a TSV. Knows nothing of the page but its words.

import { words } from "./words.js";

const said = words.table;

/** An error in a file, in words for the person who chose it. */
export class FileError extends Error {
  status = 422; // as if the service had refused it
}

const ENCODINGS = [
  { mark: [0xef, 0xbb, 0xbf], name: "utf-8" },
  { mark: [0xff, 0xfe], name: "utf-16le" },
  { mark: [0xfe, 0xff], name: "utf-16be" },
];

/** Rows of cells of a .txt (one cell a line), .tsv or .csv; blank lines are passed over. Throws FileError. */
export function parse(name, bytes) {
  const ending = name.toLowerCase().match(/\.(txt|tsv|csv)$/)?.[1];
  if (!ending) throw new FileError(said.ending(name));
  const text = decode(name, bytes);
  const rows = ending === "txt" ? lines(text).map((line) => [line]) : cells(name, text, ending);
  const filled = rows.filter((row) => row.some((cell) => cell.trim() !== ""));
  if (filled.length === 0) throw new FileError(said.empty(name));
  return filled;
}

function decode(name, bytes) {
  const found = ENCODINGS.find(({ mark }) => mark.every((byte, place) => bytes[place] === byte));
  try {
    const text = new TextDecoder(found?.name ?? "utf-8", { fatal: true }).decode(bytes);
    if (!text.includes("\0")) return text;
  } catch {
    // said below
  }
  throw new FileError(said.encoding(name));
}

const lines = (text) => text.split(/\r\n|\n|\r/);

function cells(name, text, ending) {
  if (ending === "csv") {
    const first = text.slice(0, text.search(/[\r\n]|$/));
    const delimiter = !first.includes(",") && first.includes(";") ? ";" : ",";
    const { rows, fault } = quoted(text, delimiter);
    if (fault) throw new FileError(said.quote(name, fault));
    return rows;
  }
  // In many TSV files a quote is a character like any other; two of them may have whole rows between them.
  const { rows, fault } = quoted(text, "\t");
  const swallows = rows.some((row) => row.some((cell) => cell.includes("\t") && /[\r\n]/.test(cell)));
  return fault || swallows ? lines(text).map((line) => line.split("\t")) : rows;
}

/** Cells that may stand in quotes, with quotes inside doubled; `fault` is the line of a quote that breaks the rules. */
function quoted(text, delimiter) {
  const rows = [];
  const cell = new RegExp(`"((?:[^"]|"")*)"(?=[${delimiter}\r\n]|$)|[^${delimiter}\r\n]*`, "y");
  let row = [];
  let place = 0;
  for (;;) {
    cell.lastIndex = place;
    const [whole, inner] = cell.exec(text);
    if (inner === undefined && whole.startsWith('"')) return { rows, fault: lines(text.slice(0, place)).length };
    row.push(inner === undefined ? whole : inner.replaceAll('""', '"'));
    place += whole.length;
    if (text[place] === delimiter) {
      place += 1;
      continue;
    }
    rows.push(row);
    row = [];
    place += text.startsWith("\r\n", place) ? 2 : 1;
    if (place >= text.length) return { rows, fault: null };
  }
}

/** Rows as a TSV that every program reads: no quotes, and a space for tabs and line ends inside a cell. */
export function toTsv(rows) {
  return rows.map((row) => row.map((cell) => String(cell ?? "").replace(/[\t\r\n]+/g, " ")).join("\t") + "\n").join("");
}

/** The column of that name, else the one with the longest texts; for a second field, the one after the first. */
export function likelyColumn(header, body, field, place) {
  const named = header.findIndex((name) => name.toLowerCase() === field);
  if (named >= 0) return named;
  const sample = body.slice(0, 100);
  const lengths = header.map((_, column) => sample.reduce((sum, row) => sum + (row[column]?.length ?? 0), 0));
  const order = [...lengths.keys()].sort((a, b) => lengths[b] - lengths[a]);
  return order[Math.min(place, order.length - 1)];
}
