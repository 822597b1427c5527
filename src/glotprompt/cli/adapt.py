"""`adapt` (stage 1): learn a language from unlabelled text or from translations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from glotprompt import protocol
from glotprompt.cli.backbone import open_backbone, read_adapter, train_once, weighted_prompts
from glotprompt.cli.characters import character_map
from glotprompt.cli.declare import Params
from glotprompt.cli.decontamination import Stage1Text, parallel_text, stage1_texts
from glotprompt.cli.files import check_reading
from glotprompt.cli.screen import check_output, definitions, note, suggest, write_json
from glotprompt.cli.settings import settings
from glotprompt.cli.tables import warn
from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.data import MAX_LINES
from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.data.languages import checked_code, name_of, same_language
from glotprompt.errors import ConfigError, counted
from glotprompt.formats import adapter_hub
from glotprompt.inference.classifier import Adapted, load_adapted
from glotprompt.inference.combination import shared_characters
from glotprompt.methods import METHODS, method_of_adapt
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI, MINI_SENTENCE
from glotprompt.records import (
    LOSSES,
    AlignmentScores,
    Decontamination,
    HeldOutScores,
    JointScores,
    MaskedTokenScores,
    NextTokenScores,
    TextReport,
)
from glotprompt.report.tables import duration, size
from glotprompt.spec import forget
from glotprompt.stages.initial import initial_prompt
from glotprompt.stages.stage1 import Stage1, check_source_adapter, with_objective

_CODE = re.compile(r"([A-Za-z]{2,8}(?:[-_][A-Za-z0-9]+)*)=(.+)", re.DOTALL)


def adapt(params: Params) -> None:
    """Train, save and report stage 1 of each language that is named."""
    target, parallel, output = params["target"], params["parallel"], params["output"]
    aligned = _targets(parallel, params["language"], "--parallel") if parallel else {}
    languages = _targets(target or [], params["language"], "--target") if target or not parallel else aligned
    if parallel and len({*languages, *aligned}) > 1:
        raise ConfigError(f"--parallel names {' and '.join({**languages, **aligned})}; align one language at a time")
    outputs = _outputs(output, list(languages))
    model = params["model"] or (MINI_SENTENCE if parallel and not target else MINI)
    config, runtime = settings(AdaptConfig, params, model, "soft-prompt")
    method, adapter_place = method_of_adapt(config), params["source_adapter"]
    if adapter_place is not None:
        check_source_adapter(method)
    # The backbone, which says what language modelling is on it, is not open yet.
    text_config = with_objective(config, bool(parallel), bool(target or params["source"]), config.objective)
    if text_config.objective == "mlm+alignment" and not target:
        raise ConfigError(
            "objective mlm+alignment needs unlabelled text in the target language besides pairs; give --target FILE"
        )
    texts = _texts(languages, aligned, text_config, params)
    backbone = open_backbone(model, params["precision"], params["device"])
    initial = weighted_prompts("--init-prompt", params["init_prompt"], backbone)
    source_adapter = None if adapter_place is None else read_adapter(adapter_hub.folder_of(adapter_place), backbone)
    initial_prompt(backbone, config, initial)  # what is wrong with it is said before a text is tokenised
    mapping = shared_characters([one for one, _ in initial]) if initial and not params["map_characters"] else None
    # What is trained on source text alone (mad-x's other adapter) is trained once for all languages of the call: the
    # second one finds it finished among the checkpoints.
    shared = output / "checkpoints" if len(texts) > 1 and len(METHODS[config.method].parts) > 1 else None
    runtime = runtime.replace(checkpoint_dir=shared)
    figures: list[dict[str, Any]] = []
    for code, text in texts.items():
        if figures:
            print()
        lines = [*text.target, *(pair[1] for pair in text.pairs or ())]
        characters = mapping or character_map(
            params["map_characters"], lines, backbone.tokenizer, runtime.allow_unknown
        )
        stage1 = Stage1.of(
            backbone, text.target, text.source, code, config, characters, initial,
            parallel=text.pairs, source_adapter=source_adapter,
        )  # fmt: skip
        adapted = _adapt_one(backbone, stage1, text.record, runtime, outputs[code])
        figures.append(_stage1_figures(adapted, outputs[code]))
    if shared is not None:
        forget(shared)
    write_json(params["json"], {"prompts": figures})
    first = next(iter(outputs.values()))
    task, classifier = ("TASK.toml", "classifier.safetensors") if parallel else ("news", "news.safetensors")
    suggest("tune", "--prompt", first, "--train", "LABELLED.tsv", "--task", task, "--output", classifier)


def _texts(
    languages: Mapping[str, Sequence[str]], aligned: Mapping[str, Sequence[str]], config: AdaptConfig, params: Params
) -> dict[str, Stage1Text]:
    """Language code -> what its stage 1 reads: the text of `languages`, the pairs of `aligned`, or both."""
    files = [file for paths in aligned.values() for file in paths]
    if config.objective == "alignment":
        _check_parallel(params)
        check_reading(params, files, compared=params["held_out"] or ())
        return {code: parallel_text(code, files, params) for code in aligned}
    texts = stage1_texts(languages, params["source"] or [], config, params, files)
    for code in aligned:
        pairs, text = parallel_text(code, files, params), texts[code]
        checks = [one.record.decontamination for one in (text, pairs)]
        both = {name: value for one in checks if one is not None for name, value in one.to_json().items()}
        record = text.record.replace(decontamination=Decontamination.model_validate(both))
        texts[code] = replace(text, pairs=pairs.pairs, record=record)
    return texts


def _check_parallel(params: Params) -> None:
    for name, default in (("text_share", None), ("text_column", None), ("max_lines", MAX_LINES)):
        if params[name] != default:
            raise ConfigError(f"--{name.replace('_', '-')} is for unlabelled text; leave it out with --parallel")


def _targets(words: Sequence[str], language: str | None, option: str) -> dict[str, list[str]]:
    """Language code -> files of text in it, or references."""
    if not words:
        raise ConfigError("give text in the target language with --target FILE, or translations with --parallel FILE")
    files: dict[str, list[str]] = {}
    for word in words:
        match = _CODE.fullmatch(word)
        if match is None or (language is not None and Path(word).exists()):
            reference = parse_reference(word)
            code, path = language if reference is None else reference.language, word
        else:
            code, path = match[1], match[2]
        if code is None:
            raise ConfigError(f"which language is {word} in? Give --language CODE, or {option} CODE={word}")
        if language is not None and not same_language(code, language):
            raise ConfigError(f"--language {language} and {option} {word} disagree; leave --language out")
        code = language or code
        if parse_reference(word) is None:
            checked_code(code)
        files.setdefault(code, []).append(path)
    return files


def _outputs(output: Path, codes: Sequence[str]) -> dict[str, Path]:
    """Language code -> file to write: the output itself, or one file per language in it."""
    inside = len(codes) > 1 or output.is_dir()
    if inside and output.is_file():
        raise ConfigError(f"--output {output} is a file; for {len(codes)} languages it must be a folder")
    paths = {code: output / f"{code}.safetensors" if inside else output for code in codes}
    for path in paths.values():
        check_output(path)
    return paths


def _adapt_one(
    backbone: Backbone,
    stage1: Stage1,
    record: TextReport,
    runtime: RuntimeConfig,
    output: Path,
) -> Adapted:
    """The result of stage 1 for one language: trained and saved now, or by an earlier run. `record`: how its text was
    prepared, for the report."""

    def train(runtime: RuntimeConfig) -> Adapted:
        lines = [counted(len(stage1.target), "target line"), counted(len(stage1.source), "source line")]
        counts = [] if stage1.config.objective == "alignment" else lines
        counts += [] if stage1.pairs is None else [f"{len(stage1.pairs):,} sentence pairs"]
        note(f"{stage1.language}: {', '.join(counts)}")
        return protocol.run_stage1(backbone, stage1, runtime)

    spec = stage1.spec(backbone)
    adapted = train_once(spec, output, lambda path: load_adapted(path, backbone), train, text=record, runtime=runtime)
    _show_adapted(adapted, backbone.num_parameters)
    return adapted


def _show_adapted(adapted: Adapted, num_parameters: int) -> None:
    report = adapted.training
    before, after = report.held_out_before, report.held_out_after
    scores = dict[str, str]()
    for one, other in zip(_each(before), _each(after), strict=True):
        scores |= _score_lines(one, other, report.objective)
    definitions(
        {
            "language": f"{name_of(adapted.language)}, {adapted.method}",
            **scores,
            "best step": f"{report.best_step} of {report.steps}, learning rate {report.learning_rate:g}",
            "trained parameters": f"{report.trained_parameters:,} ({report.trained_parameters / num_parameters:.2%})",
            "time": f"{duration(report.seconds)}, {report.tokens / max(report.seconds, 1e-9):,.0f} tokens/s",
            "peak memory": size(report.peak_memory_bytes),
        }
    )
    if not report.improved:
        losses = f"{after.loss:.3f} with it, {before.loss:.3f} without"
        warn([f"held-out text is predicted no better with this {adapted.method} ({losses}); compare before you use it"])


def _each(scores: HeldOutScores) -> list[HeldOutScores]:
    """The scores of each objective."""
    return [scores.masked_tokens, scores.alignment] if isinstance(scores, JointScores) else [scores]


def _score_lines(before: HeldOutScores, after: HeldOutScores, objective: str) -> dict[str, str]:
    if isinstance(before, AlignmentScores) and isinstance(after, AlignmentScores):
        count = f"of {counted(after.num_pairs, 'held-out pair')}, both directions"
        return {
            "translations found": f"{before.retrieval:.1f} % before, {after.retrieval:.1f} % after ({count})",
            "cosine to translation": f"{before.cosine:.3f} before, {after.cosine:.3f} after",
            "source sentences": f"cosine {after.source_cosine:.3f} to their vectors before",
        }
    assert isinstance(before, MaskedTokenScores)
    assert isinstance(after, MaskedTokenScores)
    name = LOSSES.get(objective, LOSSES["mlm"])
    lines = {
        name: f"{before.loss:.3f} before, {after.loss:.3f} after (natural log; of held-out text that did not choose the"
        " step)",
        "first guess right": f"{before.top1:.1f} % before, {after.top1:.1f} % after",
        "one of five right": f"{before.top5:.1f} % before, {after.top5:.1f} % after",
    }
    if isinstance(before, NextTokenScores) and isinstance(after, NextTokenScores):
        lines["bits per byte"] = f"{before.bits_per_byte:.3f} before, {after.bits_per_byte:.3f} after"
    return lines


def _stage1_figures(adapted: Adapted, output: Path) -> dict[str, Any]:
    report = adapted.training.to_json()
    before, after = report.pop("held_out_before"), report.pop("held_out_after")
    about = {
        "language": adapted.language, "method": adapted.method,
        "output": str(output), "file_bytes": output.stat().st_size,
    }  # fmt: skip
    if adapted.training.objective == "mlm+alignment":
        about |= _token_figures(before["masked_tokens"], after["masked_tokens"], "mlm_loss")
        before, after = before["alignment"], after["alignment"]
    elif not adapted.is_aligned:
        loss = "mlm_loss" if adapted.training.objective == "mlm" else "loss"
        return {**about, **_token_figures(before, after, loss), **report}
    figures = {f"{name}_before": value for name, value in before.items() if name != "num_pairs"}
    figures |= {f"{name}_after": value for name, value in after.items() if name != "num_pairs"}
    return {**about, **figures, "num_pairs": after["num_pairs"], **report}


def _token_figures(before: Mapping[str, Any], after: Mapping[str, Any], loss: str) -> dict[str, Any]:
    figures = {f"{loss}_before": before["loss"], f"{loss}_after": after["loss"]}
    for name in ("bits_per_byte", "top1", "top5"):
        figures |= {f"{name}_{when}": one[name] for when, one in (("before", before), ("after", after)) if name in one}
    return {**figures, "num_masked": after["num_masked"]}
