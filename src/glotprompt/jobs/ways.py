"""Command lines of jobs, from the uploads and choices of a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from glotprompt.config import preset
from glotprompt.data.languages import checked_code, name_of
from glotprompt.errors import ConfigError, DataError
from glotprompt.jobs.job import Choice, Job, Step
from glotprompt.jobs.runner import Runner
from glotprompt.jobs.workspace import FEWEST_LABELS, READ_OPTIONS, Upload, Use, Workspace, merged, slug, write_labels
from glotprompt.storage import atomic
from glotprompt.task import Task

WAYS = ("compare", "embedding", "aligned", "masked")
"""Names of the methods of `_Plan`."""
CHECKPOINT_SECONDS = "5"
"""Training time that is lost at most when a person stops a job."""
FEWEST_TO_CHOOSE = 2
"""Different texts that each target label needs before `compare` can choose on them."""


@dataclass(frozen=True)
class BackboneOptions:
    """The service's backbone, as commands name it."""

    model: str
    layers: int
    masked: bool
    """Whether it predicts masked tokens."""
    options: tuple[str, ...] = ()
    """Precision and device, where they are not the usual ones."""

    @property
    def layers_to_tune(self) -> list[str]:
        """The option for the preset's number of trained layers in stage 2, at most those of the backbone."""
        usual = preset("quick", "tune", "soft-prompt")["top_k_layers"]
        return ["--top-k", str(min(self.layers, usual))] if self.masked else []


class Orders:
    """Puts jobs together for one workspace."""

    def __init__(self, workspace: Workspace, runner: Runner, backbone: BackboneOptions) -> None:
        self._workspace, self._runner, self._backbone = workspace, runner, backbone

    def doctor(self, number: int, language: str, labels_of: Sequence[int]) -> Job:
        """Look at an upload of text; `labels_of`: labelled uploads, whose labels the forecast is made for."""
        text = self._workspace.upload(number)
        job = self._runner.next_number()
        place = self._place(job)
        words = ["doctor", "--text", text.file, "--language", checked_code(language), "--model", self._backbone.model]
        uploads = [self._workspace.upload(one) for one in labels_of]
        words += ["--task", self._task("labels", uploads, place), *self._backbone.layers_to_tune] if uploads else []
        words += [*(READ_OPTIONS if text.use != "target" else ()), "--json", f"{place}/doctor.json"]
        aligned = ["--method", "lora", "--preset", "alignment", "--set", "objective=alignment"]
        words += ["--preset", "quick"] if self._backbone.masked else aligned
        step = Step(title=f"Looking at {text.name}", words=[*words, *self._backbone.options], accepts=[0, 3])
        results = {"doctor": f"{place}/doctor.json"}
        return self._runner.add(job, "doctor", f"Check of {text.name}", [step], results=results)

    def train(self, choice: Choice, baseline: str | None = None) -> Job:
        """Train and serve a classifier; `baseline`: the name of an earlier one of the workspace, to compare with.
        Raises `ConfigError` and `DataError` for what cannot be trained."""
        if choice.way not in WAYS:
            raise ConfigError(f"{choice.way!r} is no way to train; there are {', '.join(WAYS)}")
        checked_code(choice.language)
        if choice.way == "masked" and not self._backbone.masked:
            raise ConfigError("this service's backbone does not predict masked tokens; choose another way")
        uploads = [self._workspace.upload(number) for number in choice.uploads]
        by_use: dict[Use, list[Upload]] = {use: [one for one in uploads if one.use == use] for use in get_args(Use)}
        job = self._runner.next_number()
        place = self._place(job)
        few, measured = self._labels(choice, by_use["labels"])
        if not by_use["train"] and len({*few.values()}) < FEWEST_LABELS:
            raise DataError("a classifier needs labelled texts of at least two labels; send some, or label a few here")
        _check_needs(choice.way, by_use)
        given = [*few.values(), *measured.values()]  # evaluate knows no label that the task lacks
        task = self._task(choice.task, [*by_use["train"], *by_use["labels"]], place, given)
        labels, scored = self._write(f"{place}/labels.tsv", few), self._write(f"{place}/measured.tsv", measured)
        train = [one.file for one in by_use["train"]]
        plan = _Plan(self._backbone, choice, by_use, train or [labels], labels if train else "", task, place, scored)
        steps: list[Step] = getattr(plan, choice.way)()
        results = {"compare": f"{place}/out/compare.json"} if choice.way == "compare" else {}
        if scored:
            score = self._score(f"{place}/out/classifier.safetensors", scored, place, self._baseline(baseline))
            steps.append(score.replace(measures=True))
            results["evaluation"] = f"{place}/evaluation.json"
        return self._runner.add(
            job, "train", f"{name_of(choice.language)} · {choice.task}", steps, choice=choice, results=results,
            output=f"{place}/out/classifier.safetensors", classifier=f"{slug(choice.language, choice.task)}-{job}",
        )  # fmt: skip

    def evaluate(self, name: str, language: str, task: str) -> Job:
        """Score a classifier of the workspace on the labels that measure, and keep the accuracy in its file."""
        job = self._runner.next_number()
        place = self._place(job)
        measured = self._workspace.labels(language, task, "test")
        if not measured:
            raise DataError("no label measures this classifier yet; check some of its predictions first")
        step = self._score(self._baseline(name), self._write(f"{place}/measured.tsv", measured), place)
        results = {"evaluation": f"{place}/evaluation.json"}
        return self._runner.add(job, "evaluate", f"Accuracy of {name}", [step], results=results, classifier=name)

    def _score(self, file: str, data: str, place: str, against: str = "") -> Step:
        """The step that measures a classifier, beside another one."""
        words = ["evaluate", "--classifier", file, "--data", data, *READ_OPTIONS, "--record"]
        words += ["--json", f"{place}/evaluation.json"]  # of --model the file knows its own, or none
        words += ["--against", against] if against else []
        return Step(title="Measuring on your labels", words=[*words, *self._backbone.options])

    def _baseline(self, name: str | None) -> str:
        """The file of a classifier of the workspace; "" for none."""
        if name is None:
            return ""
        files = {path.stem: path for path in self._workspace.classifiers.glob("*.safetensors")}
        if name not in files:
            raise ConfigError(f"{name!r} is no classifier of this workspace")
        return self._workspace.below(files[name])

    def _write(self, file: str, labels: dict[str, str]) -> str:
        """Write labels into a file and return its path; "" where there are none."""
        if labels:
            write_labels(self._workspace.folder / file, labels)
        return file if labels else ""

    def _place(self, job: int) -> str:
        """A job's folder, as commands get it."""
        return self._workspace.below(self._runner.place(job))

    def _labels(self, choice: Choice, uploads: Sequence[Upload]) -> tuple[dict[str, str], dict[str, str]]:
        """Target labels to train on, and those that measure."""
        measured = self._workspace.labels(choice.language, choice.task, "test")
        corrections = self._workspace.labels(choice.language, choice.task, "train")
        few = merged([*map(self._workspace.labels_in, uploads), corrections], measured)
        return few if choice.way != "compare" else _enough(few), measured

    def _task(self, name: str, uploads: Sequence[Upload], place: str, given: Sequence[str] = ()) -> str:
        """The file of a task whose labels, those of uploads and others, are their own label words."""
        labels = [label for one in uploads for label in one.labels] + list(given)
        task = Task(name, "{mask} : {text}", {label: label for label in sorted(set(labels))})
        atomic.write(self._workspace.folder / place / "task.toml", task.to_toml())
        return f"{place}/task.toml"


@dataclass(frozen=True)
class _Plan:
    """The command lines of each way."""

    backbone: BackboneOptions
    choice: Choice
    uploads: dict[Use, list[Upload]]
    train: list[str]
    labels: str
    """File of target labels; "": none."""
    task: str
    place: str
    measured: str
    """File of what is scored at the end; "": nothing."""

    def compare(self) -> list[Step]:
        words = ["compare", *_each("--train", self.train), "--language", self.choice.language, "--task", self.task]
        words += [*_each("--target", self._files("target")), *_each("--parallel", self._files("parallel"))]
        words += ["--target-labels", self.labels] if self.labels else []
        words += [*self._held_out(), "--minutes", f"{self.choice.minutes:g}", "--model", self.backbone.model]
        return [self._step("Comparing what fits into the time", words, f"{self.place}/out")]

    def embedding(self) -> list[Step]:
        words = ["tune", "--model", self.backbone.model, "--language", self.choice.language, "--method", "embedding"]
        words += [*self._tuned(), *_each("--target-text", self._files("target"))]
        return [self._step("Training on your labels", words, self._classifier)]

    def aligned(self) -> list[Step]:
        adapted = self._adapted
        words = ["adapt", *_each("--parallel", self._files("parallel")), "--language", self.choice.language]
        words += ["--model", self.backbone.model, "--method", "lora", *self._held_out(), *self._steps()]
        tune = ["tune", "--prompt", adapted, "--model", self.backbone.model, "--method", "embedding", *self._tuned()]
        return [
            self._step("Learning the language from translations", words, adapted),
            self._step("Training on your labels", tune, self._classifier),
        ]

    def masked(self) -> list[Step]:
        adapted = self._adapted
        words = ["adapt", *_each("--target", self._files("target")), *_each("--source", self.train)]
        words += ["--language", self.choice.language, "--model", self.backbone.model, "--preset", "quick"]
        words += [*self._held_out(), *self._steps()]
        tune = ["tune", "--prompt", adapted, "--model", self.backbone.model, "--preset", "quick"]
        tune += self.backbone.layers_to_tune
        return [
            self._step("Learning the language from your texts", words, adapted),
            self._step("Training on your labels", [*tune, *self._tuned()], self._classifier),
        ]

    @property
    def _classifier(self) -> str:
        return f"{self.place}/out/classifier.safetensors"

    @property
    def _adapted(self) -> str:
        """The file of stage 1; a later training on the same text finds it done."""
        return f"adapted/{slug(self.choice.language, self.choice.task, self.choice.way)}.safetensors"

    def _files(self, use: Use) -> list[str]:
        return [one.file for one in self.uploads[use]]

    def _tuned(self) -> list[str]:
        labels = ["--target-labels", self.labels] if self.labels else []
        return [*_each("--train", self.train), *labels, "--task", self.task]

    def _held_out(self) -> list[str]:
        return ["--held-out", self.measured] if self.measured else []

    def _steps(self) -> list[str]:
        steps = [] if self.choice.steps is None else ["--steps", str(self.choice.steps)]
        return [*steps, "--checkpoint-every", CHECKPOINT_SECONDS]

    def _step(self, title: str, words: Sequence[str], output: str) -> Step:
        return Step(title=title, words=[*words, *READ_OPTIONS, "--output", output, *self.backbone.options])


def _check_needs(way: str, uploads: dict[Use, list[Upload]]) -> None:
    needs: dict[str, tuple[Use, str]] = {
        "aligned": ("parallel", "translations"),
        "masked": ("target", "unlabelled text"),
    }
    if way in needs and not uploads[needs[way][0]]:
        raise DataError(f"this way needs {needs[way][1]} in your language; send some, or choose another way")


def _enough(labels: dict[str, str]) -> dict[str, str]:
    """The labelled texts that `compare` can choose on: those of labels with `FEWEST_TO_CHOOSE` texts or more, if there
    are two such labels."""
    counts = Counter(labels.values())
    common = {text: label for text, label in labels.items() if counts[label] >= FEWEST_TO_CHOOSE}
    return common if len(set(common.values())) > 1 else {}


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
