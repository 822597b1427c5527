"""The model card of a saved file, written from what the file says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glotprompt.data.languages import NOT_NAMED, known_name
from glotprompt.data.samples import Samples
from glotprompt.errors import counted
from glotprompt.inference.measurements import measurements_of
from glotprompt.records import AdaptReport, AlignmentScores, Stage1Report, TuneReport, stage1_report
from glotprompt.storage.metadata import describe

_KINDS = {"language prompt": "LanguagePrompt", "language module": "LanguageModule", "classifier": "PromptClassifier"}


def model_card(path: Path, repo: str) -> str:
    """Markdown with the metadata of the hub on top: what the file is, data, losses, accuracies and where they were
    measured, use, limits, and how to load it from `repo`."""
    metadata = describe(path, tuple(_KINDS))
    kind, code = str(metadata["kind"]), str(metadata["language"])
    language = known_name(code) or code
    report = TuneReport.of(metadata["training"], str(path)) if kind == "classifier" and metadata["training"] else None
    stage1 = report.language_prompt if report else None if kind == "classifier" else _stage1(metadata, path)
    sections = {
        "Data": _data(stage1, report),
        "Losses": _losses(stage1, report),
        "Accuracy": _accuracy(metadata, kind, language),
        "Intended use": [_use(metadata, kind, language)],
        "Limits": [
            f"It works with the backbone `{metadata['backbone']['name']}` alone (fingerprint"
            f" `{metadata['backbone']['fingerprint']}`) and inherits what that model gets wrong.",
            "Text of another kind than the training data, such as another genre or spelling, may be read worse.",
            "Nothing was checked for bias or harm. Do not decide about people with it.",
        ],
        "How to load": _loading(metadata, kind, repo),
    }
    samples = Samples.in_file(metadata)
    if samples is not None:
        texts = (text if isinstance(text, str) else " / ".join(text) for text in samples.texts)
        sections["Example texts"] = list(texts)
    body = "".join(f"\n## {name}\n\n{_bullets(lines)}\n" for name, lines in sections.items() if lines)
    return f"{_front(metadata, code)}# {language}: {kind}\n\nMade with glotprompt ({metadata['method']}).\n{body}"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"{line}\n" if line.startswith("```") else f"* {line}" for line in lines)


def _front(found: Mapping[str, Any], code: str) -> str:
    """YAML that the hub reads. A bundled backbone or a folder is no model of the hub, so only hub names are given."""
    name = str(found["backbone"]["name"])
    base = [f"base_model: {name}"] if "/" in name and not Path(name).is_absolute() else []
    languages = [] if code == NOT_NAMED else ["language:", *(f"- {one}" for one in code.split("+"))]
    lines = ["library_name: glotprompt", *languages, *base, "tags:", "- glotprompt", f"- {found['method']}"]
    return "\n".join(["---", *lines, "---", "", ""])


def _stage1(found: Mapping[str, Any], path: Path) -> Stage1Report | None:
    return stage1_report(found["training"], str(path))


def _data(stage1: Stage1Report | None, report: TuneReport | None) -> list[str]:
    lines: list[str] = []
    if isinstance(stage1, AdaptReport):
        read = (
            (stage1.pairs, "translation", ""),
            (stage1.target_lines, "line of text in the language", "lines of text in the language"),
            (stage1.source_lines, "line of source text", "lines of source text"),
        )
        texts = ", ".join(counted(number, one, several) for number, one, several in read if number)
        lines.append(f"Stage 1 (language): {texts}; {stage1.steps} steps.")
        checked = stage1.decontamination is not None
        lines.append(
            "Texts to be scored were removed from it." if checked else "No overlap with test sets was checked."
        )
    elif stage1 is not None:
        lines.append("Stage 1 (language): combined or converted from other files.")
    if report is not None:
        labels = ", ".join(f"{label} {count}" for label, count in report.labels.items())
        lines.append(f"Stage 2 (task): {counted(report.examples, 'labelled example')} ({labels}).")
        if report.target_examples:
            lines.append(f"Of these, {report.target_examples} are in the target language.")
    return lines or ["Not known."]


def _losses(stage1: Stage1Report | None, report: TuneReport | None) -> list[str]:
    lines: list[str] = []
    if isinstance(stage1, AdaptReport):
        before, after = stage1.held_out_before, stage1.held_out_after
        lines.append(f"Held-out {stage1.loss_name}: {before.loss:.3f} before, {after.loss:.3f} after stage 1.")
        if isinstance(before, AlignmentScores) and isinstance(after, AlignmentScores):
            lines.append(
                f"Held-out translations found: {before.retrieval:.1f} % before, {after.retrieval:.1f} % after, of"
                f" {after.num_pairs}."
            )
    if report is not None:
        lines.append(
            f"Accuracy on {counted(report.dev_examples, 'dev example')}, which chose the epoch:"
            f" {report.dev_accuracy:.1f} %."
        )
    return lines


def _accuracy(found: Mapping[str, Any], kind: str, language: str) -> list[str]:
    if kind != "classifier":
        return ["A language prompt or module has no accuracy of its own; tune a classifier and measure that."]
    lines = [
        f"{one.accuracy:.1f} % [{one.interval[0]:.1f}, {one.interval[1]:.1f}] of"
        f" {counted(one.num_examples, 'example')} in {known_name(one.language) or one.language} (95 % interval)."
        for one in measurements_of(found)
    ]
    return lines or [f"Not measured in {language}. Measure it on labelled examples before you rely on it."]


def _use(found: Mapping[str, Any], kind: str, language: str) -> str:
    if kind == "classifier":
        return f"Classify text in {language} as one of: {', '.join(found['labels'])} (task {found['task']['name']})."
    return f"Start from it to train classifiers for {language} on labelled examples in another language."


def _loading(found: Mapping[str, Any], kind: str, repo: str) -> list[str]:
    name, use = _KINDS[kind], "loaded.report"
    if kind == "classifier":
        use = 'loaded.predict(["..."])'
    code = [
        "```python",
        "import glotprompt as gp",
        "",
        f'backbone = gp.Backbone.load("{found["backbone"]["name"]}")',
        f'loaded = gp.{name}.load("{repo}", backbone)',
        f"print({use})",
        "```",
    ]
    if kind != "language prompt":
        return ["\n".join(code)]
    shifted = found["positions"] == "shifted"
    note = "the same results" if shifted else "other results, because PEFT shifts positions"
    convert = f"glotprompt convert to-peft FILE FOLDER{'' if shifted else ' --allow-plain'}"
    return ["\n".join(code), f"With PEFT: `{convert}` makes a folder for `PeftModel.from_pretrained` ({note})."]
