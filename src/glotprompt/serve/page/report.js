// What the doctor found, in words: problems first, what is well in one line.

import { make } from "./dom.js";
import { words } from "./words.js";

const said = words.check;

export function reportOf({ level, findings }) {
  const wrong = ["bad", "warn"].flatMap((one) => findings.filter((finding) => finding.level === one));
  const fine = findings.filter((finding) => finding.level === "ok");
  return make("section", { "aria-labelledby": "check-title" },
    make("h3", { id: "check-title" }, said.title),
    make("p", { class: `verdict ${level}` }, said.verdicts[level]),
    make("ul", { class: "findings" }, ...wrong.map((finding) => make("li", { class: finding.level },
      make("h4", {}, `${said.levels[finding.level]}: ${finding.name}`),
      make("p", {}, make("strong", {}, finding.figure), ` ${finding.meaning}`),
      finding.remedy ? make("p", {}, make("b", {}, said.todo), finding.remedy) : null))),
    make("details", {},
      make("summary", {}, said.fine(fine.map(({ name }) => name))),
      make("dl", {}, ...fine.map((finding) => make("div", {},
        make("dt", {}, finding.name), make("dd", {}, `${finding.figure}. ${finding.meaning}`))))));
}
