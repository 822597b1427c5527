"""bf16 against fp32 for the frozen body: gradients of a prompt on the same batches, and accuracies over seeds.

    python experiments/precision.py --data-dir DIR [--seeds N] [--targets ...]

The backbone is mini, the source Hausa. Gradients: of the mean masked-word loss of stage-1 batches of real text
(32 x 64), at the prompt that `initialise="text"` begins with; mean and least cosine over the batches. Accuracies:
prompt-tuning on news headlines as compare_methods.py does it, each seed once in each precision; source dev, and the
test headlines of the targets over all labels.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from compare_methods import SOURCE, TASK, accuracy_of, source_examples, target_texts, tune_config, unlabelled_text
from torch import Tensor

import glotprompt as gp
from glotprompt.initial import begin_adapt
from glotprompt.methods import METHODS
from glotprompt.model.delta import Delta
from glotprompt.train.batches import MaskedBatch
from glotprompt.train.inputs import masking_corpus
from glotprompt.train.losses import masked_word_losses
from glotprompt.train.micro_batch import MicroBatch

BATCHES = 8
PRECISIONS = ("fp32", "bf16")


def print_cosines(encoders: dict[str, gp.Encoder], data_dir: Path, target: str) -> None:
    """Of one prompt's gradients, batch by batch."""
    config = gp.AdaptConfig(batch_size=32, max_length=64, initialise="text")
    source, text = (unlabelled_text(data_dir, language)[:400] for language in (SOURCE, target))
    gradients: dict[str, list[Tensor]] = {}
    for name, encoder in encoders.items():
        corpus, _ = masking_corpus(encoder, text, source, config)
        # In both precisions the same values.
        prompt = begin_adapt(encoders["fp32"], METHODS["soft-prompt"], corpus, config, None)
        gradients[name] = [gradient(encoder, prompt, corpus.batch(step)) for step in range(BATCHES)]
    pairs = zip(*gradients.values(), strict=True)
    cosines = [F.cosine_similarity(one, two, dim=0).item() for one, two in pairs]
    print(f"gradient cosine over {BATCHES} batches: mean {statistics.mean(cosines):.5f}, least {min(cosines):.5f}")


def gradient(encoder: gp.Encoder, prompt: Delta, batch: MaskedBatch) -> Tensor:
    """All of it, flat."""
    parameters = list(prompt.parameters())
    for parameter in parameters:
        parameter.grad = None
    for loss, _ in masked_word_losses(encoder, prompt, batch, MicroBatch(gp.RuntimeConfig())):
        loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])


def print_accuracies(encoders: dict[str, gp.Encoder], data_dir: Path, seeds: int, targets: Sequence[str]) -> None:
    """A line per precision: means and standard deviations over the seeds."""
    parts = [source_examples(data_dir, part) for part in ("train", "dev")]
    tests = {target: target_texts(data_dir, target)["test"] for target in targets}
    for name, encoder in encoders.items():
        found: dict[str, list[float]] = {}
        for seed in range(seeds):
            made = gp.tune(encoder, None, parts[0], TASK, tune_config("prompt-tuning", seed), dev=parts[1])
            found.setdefault("source dev", []).append(float(made.facts["dev_accuracy"]))
            for target, test in tests.items():
                right = accuracy_of(made.log_probabilities(test), [str(example.label) for example in test])
                found.setdefault(target, []).append(right)
        shown = (
            f"{column} {statistics.mean(values):.1f} +- {statistics.stdev(values) if seeds > 1 else 0:.1f}"
            for column, values in found.items()
        )
        print(f"{name}, {seeds} seeds: {', '.join(shown)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--targets", nargs="+", default=["ibo", "sna"])
    given = parser.parse_args()
    encoders = {name: gp.Encoder.load("mini", precision=name) for name in PRECISIONS}
    print_cosines(encoders, given.data_dir, given.targets[0])
    print_accuracies(encoders, given.data_dir, given.seeds, given.targets)


if __name__ == "__main__":
    main()
