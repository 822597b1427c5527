"""Files of a demo: the result, the saved prompt and classifier, and metadata of the run."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from glotprompt.demo.result import DemoAlignment, DemoFigures, DemoFiles, DemoMeta, DemoResult, Retrieval
from glotprompt.inference.classifier import Adapted, PromptClassifier
from glotprompt.model.backbone import Backbone
from glotprompt.records import AdaptReport, AlignmentScores
from glotprompt.storage import artifact, atomic
from glotprompt.training.memory import PeakMemory

RESULT = "result.json"


def write_result(
    output: Path, figures: DemoFigures, conclusion: list[str], saved: DemoFiles, meta: DemoMeta
) -> DemoResult:
    """Put a result together and write it into the demo's folder."""
    values = {**dict(figures), "conclusion": conclusion, "saved": saved, "meta": meta}
    result = DemoResult.model_construct({*figures.model_fields_set, "conclusion", "saved", "meta"}, **values)
    atomic.write(output / RESULT, json.dumps(result.to_json(), indent=1, ensure_ascii=False))
    return result


def alignment(method: str, report: AdaptReport, file_bytes: int) -> DemoAlignment:
    """Figures of an alignment."""
    before, after = report.held_out_before, report.held_out_after
    assert isinstance(before, AlignmentScores)
    assert isinstance(after, AlignmentScores)
    assert report.pairs is not None
    assert report.held_out_pairs is not None
    return DemoAlignment(
        method=method,
        retrieval_before=before.retrieval,
        retrieval_after=after.retrieval,
        cosine_before=before.cosine,
        cosine_after=after.cosine,
        source_cosine_before=before.source_cosine,
        source_cosine_after=after.source_cosine,
        loss_before=before.loss,
        loss_after=after.loss,
        pairs=report.pairs,
        held_out_pairs=report.held_out_pairs,
        curve=[Retrieval(step=step, retrieval=scores["retrieval"]) for step, scores in report.evaluations],
        steps=report.steps,
        tokens=report.tokens,
        seconds=report.seconds,
        trained_parameters=report.trained_parameters,
        file_bytes=file_bytes,
        peak_memory_bytes=report.peak_memory_bytes,
        learning_rate=report.learning_rate,
    )


def save(
    output: Path, code: str, task: str, classifier: PromptClassifier, adapted: Adapted | None, sample: str
) -> DemoFiles:
    """Write classifier and prompt; their paths, and commands to try."""
    path = classifier.save(output / f"{code}-{task}.safetensors")
    commands = [shlex.join(["glotprompt", "predict", "--classifier", str(path), sample])]
    if adapted is None:
        return DemoFiles(classifier=str(path), commands=commands)
    prompt = adapted.save(output / f"{code}.safetensors")
    yours = " --train YOUR.tsv --task YOUR.toml --output yours.safetensors"
    commands.append(shlex.join(["glotprompt", "tune", "--prompt", str(prompt)]) + yours)
    return DemoFiles(prompt=str(prompt), classifier=str(path), commands=commands)


@dataclass(frozen=True)
class Used:
    """A backbone that a demo used."""

    name: str
    fingerprint: str
    precision: str

    @classmethod
    def of(cls, backbone: Backbone) -> Used:
        return cls(backbone.name, backbone.fingerprint, backbone.precision)


def meta(start: float, memory: PeakMemory, backbones: Iterable[Used]) -> DemoMeta:
    """Where and with what a demo ran. `start`: of `time.perf_counter`."""
    used = list(backbones)
    return DemoMeta(
        versions=artifact.versions(),
        hardware=_hardware(),
        precision=used[0].precision,
        date=date.today().isoformat(),
        seconds=time.perf_counter() - start,
        peak_memory_bytes=memory.bytes(),
        backbone=", ".join(one.name for one in used),
        fingerprint=", ".join(one.fingerprint for one in used),
    )


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
