"""What a demo leaves in its folder: the result, the two files that a person takes away, and where it ran."""

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


def write_result(
    output: Path, figures: DemoFigures, conclusion: list[str], saved: DemoFiles, meta: DemoMeta
) -> DemoResult:
    """Put a result together and write it into the demo's folder."""
    told = {**dict(figures), "conclusion": conclusion, "saved": saved, "meta": meta}
    result = DemoResult.model_construct({*figures.model_fields_set, "conclusion", "saved", "meta"}, **told)
    atomic.write(output / "result.json", json.dumps(result.to_json(), indent=1, ensure_ascii=False))
    return result


def alignment(method: str, told: AdaptReport, file_bytes: int) -> DemoAlignment:
    """How an alignment went."""
    before, after = told.held_out_before, told.held_out_after
    assert isinstance(before, AlignmentScores)
    assert isinstance(after, AlignmentScores)
    assert told.pairs is not None
    assert told.held_out_pairs is not None
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
        pairs=told.pairs,
        held_out_pairs=told.held_out_pairs,
        curve=[Retrieval(step=step, retrieval=found["retrieval"]) for step, found in told.evaluations],
        steps=told.steps,
        tokens=told.tokens,
        seconds=told.seconds,
        trained_parameters=told.trained_parameters,
        file_bytes=file_bytes,
        peak_memory_bytes=told.peak_memory_bytes,
        learning_rate=told.learning_rate,
    )


def save(
    output: Path, code: str, task: str, classifier: PromptClassifier, taken: Adapted | None, sample: str
) -> DemoFiles:
    """Write classifier and prompt; their paths, and commands to try."""
    path = classifier.save(output / f"{code}-{task}.safetensors")
    commands = [shlex.join(["glotprompt", "predict", "--classifier", str(path), sample])]
    if taken is None:
        return DemoFiles(classifier=str(path), commands=commands)
    prompt = taken.save(output / f"{code}.safetensors")
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


def saved_size(work: Path, thing: Adapted | PromptClassifier) -> int:
    """Bytes of the file that a person would keep."""
    path = thing.save(work / "size.safetensors")
    size = path.stat().st_size
    path.unlink()
    return size


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
