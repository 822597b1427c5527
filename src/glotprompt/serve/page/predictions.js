// The table that a person takes home: the rows of the file, each with its prediction.

/** Header and rows: the columns of the file; `predicted`, its probability, that of every label; which classifier
 *  answered; characters that the model cannot read; whether the end was left out; why a row has no prediction. */
export function predictionsOf(header, rows) {
  const labels = [...new Set(rows.flatMap(({ result }) => result?.scores.map(({ label }) => label) ?? []))].sort();
  const titles = ["predicted", "probability", ...labels.map((label) => `probability:${label}`),
    "classifier", "unknown_characters", "truncated", "error"];
  return [[...header, ...titles], ...rows.map(({ cells, result, error }) => [
    ...header.map((_, place) => cells[place]), ...(result ? told(result, labels) : titles.slice(1).map(() => "")),
    ...(result ? [""] : [error ?? "not classified"]),
  ])];
}

function told(result, labels) {
  const scores = new Map(result.scores.map(({ label, score }) => [label, score]));
  const rounded = (label) => scores.get(label)?.toFixed(4);
  return [result.label, rounded(result.label), ...labels.map(rounded),
    result.classifier, result.unknown.join(" "), result.truncated ? "yes" : "no"];
}
