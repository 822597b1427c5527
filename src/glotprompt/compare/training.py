"""What a comparison trains: stage 1 once for all candidates that stand on it, stage 2 and self-training for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from glotprompt.compare.candidates import ALIGNED, Candidate, adapt_config, tune_config
from glotprompt.config import RuntimeConfig, identity_of
from glotprompt.data.readers.records import Example, content_hash
from glotprompt.data.seen import seen_of
from glotprompt.errors import UserError
from glotprompt.inference.classifier import Adapted, PromptClassifier, load_adapted
from glotprompt.model.backbone import Backbone
from glotprompt.protocol import run_stage1
from glotprompt.records import Decontamination, OverlapCheck, TextReport
from glotprompt.spec import digests_of, done_or_train
from glotprompt.stages.closed_form import ReadOnce
from glotprompt.stages.self_training import SelfTraining, run_self_training
from glotprompt.stages.stage1 import Stage1
from glotprompt.stages.stage2 import train_stage2
from glotprompt.stages.stage2_data import Stage2
from glotprompt.task import Task


@dataclass(frozen=True)
class Material:
    """The data of a comparison: nothing of `labels` is in `target` or `pairs`."""

    task: Task
    language: str
    train: Sequence[Example]
    dev: Sequence[Example] | None = None
    target: Sequence[Example] = ()
    """Unlabelled."""
    pairs: Sequence[tuple[str, str]] | None = None
    """(source, target)."""
    pairs_record: TextReport = field(default_factory=TextReport)
    """How they came to be, for what is saved."""
    labels: Sequence[Example] = ()
    """Labelled examples of the target language."""
    target_check: OverlapCheck | None = None
    """What was removed from `target`."""
    num_scored_twice: int = 0
    """Labelled source examples that are not among `train` and `dev`, as they are scored."""


def texts_of(examples: Sequence[Example]) -> list[str]:
    """All texts of examples, as lines."""
    return [text for one in examples for text in one.fields.values()]


class Trainer:
    """Trains candidates on one person's data, in a folder where finished stages 1 are kept."""

    def __init__(
        self,
        material: Material,
        models: Callable[[str], Backbone],
        names: tuple[str, str],
        work: Path,
        runtime: RuntimeConfig,
    ) -> None:
        """`models` opens a backbone by name; `names`: of that for sentence vectors, and of that for label words."""
        self.material, self.names, self.work, self.runtime = material, names, work, runtime
        self._models = models
        self._opened: dict[str, Backbone] = {}
        self._stage1: dict[tuple[str, int], Stage1] = {}
        self._adapted: dict[tuple[str, int], Adapted] = {}
        self._stage2: dict[tuple[Candidate, int, str], tuple[Stage2, str]] = {}
        self._readers: dict[str, ReadOnce] = {}
        """By what stands before the sentence vectors."""
        self._has_read = set[tuple[str, int, str]]()
        """Stage 1, its seed, and the text whose sentence vectors behind it are kept."""

    def backbone(self, candidate: Candidate) -> Backbone:
        """The one that the candidate stands on."""
        name = self.names[candidate.reads == "cloze"]
        if name not in self._opened:
            self._opened[name] = self._models(name)
        return self._opened[name]

    def identity(self, candidate: Candidate, seed: int, few: Sequence[Example]) -> str:
        """Of what is trained: candidate, settings, and all that is read."""
        about = {"candidate": candidate.name, "few": content_hash(few)}
        if candidate.reads != "majority":
            about["stage 2"] = self.stage2(candidate, seed, few)[1]
        if candidate.centred or candidate.self_trained:
            about["target"] = content_hash(self.material.target)
        return identity_of(about)

    def stage1(self, candidate: Candidate, seed: int) -> Stage1:
        """What the candidate's stage 1 reads."""
        material, backbone, key = self.material, self.backbone(candidate), (candidate.stage1, seed)
        if key not in self._stage1:
            config, pairs = adapt_config(candidate, seed, backbone.name), None
            texts = texts_of(material.target), texts_of(material.train)
            if candidate.stage1 in ALIGNED:
                texts, pairs = ((), ()), material.pairs
            self._stage1[key] = Stage1.of(backbone, *texts, material.language, config, parallel=pairs)
        return self._stage1[key]

    def has_adapted(self, candidate: Candidate, seed: int) -> bool:
        """Whether its stage 1 is finished."""
        key = candidate.stage1, seed
        return key in self._adapted or self._place(self.stage1(candidate, seed), candidate).is_file()

    def adapt(self, candidate: Candidate, seed: int) -> Adapted | None:
        """Its stage 1, done once."""
        key = candidate.stage1, seed
        if not candidate.stage1 or key in self._adapted:
            return self._adapted.get(key)
        backbone, stage1 = self.backbone(candidate), self.stage1(candidate, seed)

        def train(folder: Path) -> Adapted:
            adapted = run_stage1(backbone, stage1, self.runtime.replace(checkpoint_dir=folder))
            if stage1.pairs is None:
                return adapted
            return replace(adapted, report=adapted.training.with_text(self.material.pairs_record))

        place = self._place(stage1, candidate)
        adapted, _ = done_or_train(stage1.spec(backbone), place, lambda path: load_adapted(path, backbone), train)
        self._adapted[key] = adapted
        return adapted

    def _place(self, stage1: Stage1, candidate: Candidate) -> Path:
        return self.work / f"{stage1.spec(self.backbone(candidate)).identity}.safetensors"

    def stage2(self, candidate: Candidate, seed: int, few: Sequence[Example]) -> tuple[Stage2, str]:
        """What the candidate's stage 2 reads, with a few target labels; and the identity of that run."""
        key = candidate, seed, content_hash(few)
        if key not in self._stage2:
            material, backbone, adapted = self.material, self.backbone(candidate), self.adapt(candidate, seed)
            ready = Stage2.of(
                backbone,
                adapted,
                material.train,
                material.task,
                tune_config(candidate, seed, backbone.name),
                material.dev,
                target_examples=few,
                parallel=(material.pairs or ()) if candidate.ridge else (),
                language="" if adapted is not None else material.language,
            )
            self._stage2[key] = ready, ready.spec(backbone).identity
        return self._stage2[key]

    def classifier(
        self, candidate: Candidate, seed: int, few: Sequence[Example], folder: Path | None = None
    ) -> PromptClassifier:
        """The trained classifier. `folder`: for checkpoints; None: it is trained at one go, and a text that another
        candidate has read in the same way is not read again."""
        (stage2, identity), backbone = self.stage2(candidate, seed, few), self.backbone(candidate)
        adapted, material = stage2.adapted, self.material
        runtime = self.runtime.replace(checkpoint_dir=folder)
        if candidate.reads != "cloze":  # a fold takes seconds
            runtime = runtime.replace(progress=False, checkpoint_dir=None)
        if folder is None and candidate.reads == "embedding":
            behind = "" if adapted is None else identity_of(digests_of(adapted))
            backbone = self._readers.setdefault(behind, ReadOnce(backbone))
            self._has_read |= {(candidate.stage1, seed, text) for text in self._reads(candidate)}
        result = train_stage2(backbone, stage2, runtime, identity)
        if candidate.centred:
            result = result.with_target_text(material.target)
        if candidate.ridge and material.pairs_record.decontamination is not None:
            result = result.with_report(decontamination=material.pairs_record.decontamination)
        if candidate.self_trained:
            training = SelfTraining.of(
                result, material.target, material.train, adapted=adapted, dev=material.dev, target_examples=few
            )
            result = run_self_training(training, runtime)
            report = result.training.self_training
            if report is not None and report.stopped is not None:
                raise UserError(f"self-training stopped: {report.stopped.partition(';')[0]}")  # no prior can be given
        if (candidate.centred or candidate.self_trained) and material.target_check is not None:
            result = result.with_report(decontamination=Decontamination(target=material.target_check))
        return result

    def whole(self, candidate: Candidate, seed: int, few: Sequence[Example]) -> PromptClassifier:
        """The classifier that the candidate's plain commands make, trained once and kept in the folder. It has seen the
        target labels, on which it was chosen."""
        spec, backbone = self.stage2(candidate, seed, few)[0].spec(self.backbone(candidate)), self.backbone(candidate)
        if candidate.centred or candidate.self_trained:
            about = {**spec.contents, "target_text": content_hash(self.material.target)}
            spec = replace(spec, kind="self-train" if candidate.self_trained else spec.kind, contents=about)
        place = self.work / f"{spec.identity}.safetensors"
        result, _ = done_or_train(
            spec,
            place,
            lambda path: PromptClassifier.load(path, backbone),
            lambda folder: self.classifier(candidate, seed, few, folder),
        )
        return replace(result, seen=result.seen and seen_of(self.material.labels, result.seen))

    def unread(self, candidate: Candidate, seed: int) -> int:
        """Characters of the texts that a candidate on sentence vectors reads and that none has read in the same way."""
        past = self._has_read
        return sum(num for name, num in self._reads(candidate).items() if (candidate.stage1, seed, name) not in past)

    def all_read(self, candidate: Candidate) -> float:
        """Characters that `whole` reads: of self-training the source twice, and the target before and behind it."""
        reads, twice = self._reads(candidate), candidate.self_trained
        return sum(num * (1 + twice * (1 if name == "labelled" else 1.5)) for name, num in reads.items())

    def _reads(self, candidate: Candidate) -> dict[str, int]:
        """Characters of each kind of text whose sentence vectors it needs."""
        material = self.material
        labelled = [*material.train, *(material.dev or ()), *material.labels]
        amounts = {"labelled": sum(map(len, texts_of(labelled)))}
        if candidate.centred or candidate.self_trained:
            amounts["target"] = sum(map(len, texts_of(material.target)))
        if candidate.ridge:
            amounts["pairs"] = sum(len(side) for pair in material.pairs or () for side in pair)
        return amounts
