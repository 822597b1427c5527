"""An invented demo result: round numbers that no run ever gave."""

from __future__ import annotations

from typing import Any

from glotprompt.demo.result import DemoResult


def row(method: str, seed: int, accuracy: float, **others: Any) -> dict[str, Any]:
    """One invented row."""
    return {
        "method": method,
        "seed": seed,
        "source_dev_accuracy": 90.0,
        "target_test_accuracy": accuracy,
        "target_test_accuracy_interval": [accuracy - 5, accuracy + 5],
        "target_test_accuracy_centred": None,
        "target_test_accuracy_own_labels": None,
        "macro_f1": None,
        "collapsed_label": None,
        "collapsed_share": None,
        "trained_parameters": 1000,
        "file_bytes": 4000,
        "seconds": 1.0,
        "peak_memory_bytes": 1_000_000,
        **others,
    }


def demo_result() -> dict[str, Any]:
    """A result with every part filled, as JSON."""
    guess = {"reference": "Book 1:2", "left": "a b", "answer": "c", "right": "d", "before": [["x", 0.5]]}
    return {
        "title": "Invented title",
        "command": "glotprompt demo --invented",
        "conclusion": ["An invented conclusion."],
        "task": {
            "name": "genre",
            "source": "eng",
            "target": "nya",
            "source_name": "English",
            "target_name": "Chichewa",
            "labels": ["law", "letter"],
            "template": "{mask} : {text}",
            "verbalizer": {"law": ["law"], "letter": ["letter", "mail"]},
            "unit": "passages",
        },
        "data": [{"split": "test", "language": "Chichewa", "items": 1234, "chapters": None, "note": "opened once"}],
        "language": {
            "language": "nya",
            "language_name": "Chichewa",
            "tokens": 60_000,
            "mlm_loss_before": 8.0,
            "mlm_loss_after": 4.0,
            "top1_before": 10.0,
            "top1_after": 20.0,
            "top5_before": 30.0,
            "top5_after": 40.0,
            "num_masked": 5000,
            "curve": [{"step": 0, "held_out_loss": 8.0}, {"step": 100, "held_out_loss": 4.0}],
            "train_curve": [{"step": 50, "loss": 6.0}, {"step": 100, "loss": 5.0}],
            "steps": 100,
            "seconds": 60.0,
            "tokens_per_second": 1000.0,
            "trained_parameters": 1000,
            "file_bytes": 4000,
            "peak_memory_bytes": 1_000_000_000,
            "learning_rate": 0.04,
            "prompt_length": 32,
        },
        "alignment": [
            {
                "method": "soft-prompt-aligned",
                "pairs": 500,
                "held_out_pairs": 77,
                "retrieval_before": 20.0,
                "retrieval_after": 80.0,
                "cosine_before": 0.2,
                "cosine_after": 0.8,
                "source_cosine_before": 1.0,
                "source_cosine_after": 0.9,
                "loss_before": 9.0,
                "loss_after": 3.0,
                "learning_rate": 0.04,
                "curve": [{"step": 0, "retrieval": 15.0}, {"step": 50, "retrieval": 80.0}],
                "steps": 50,
                "tokens": 9000,
                "seconds": 30.0,
                "trained_parameters": 1000,
                "file_bytes": 4000,
                "peak_memory_bytes": 1_000_000_000,
            }
        ],
        "guesses": [{**guess, "after": [["y", 0.3], ["▁c", 0.25]]}],
        "rows": [
            row("majority", 0, 30.0),
            row("soft-prompt", 0, 50.0),
            row("soft-prompt", 1, 52.0),
            row("embedding", 0, 61.0, target_test_accuracy_centred=63.0),
            row("prompt-tuning", 0, 40.0, collapsed_label="law", collapsed_share=0.97),
            row("prompt-tuning", 1, 44.0),
        ],
        "examples": [
            {"reference": "Book 3", "text": "e f", "gold": "law", "predictions": {"soft-prompt": ["letter", 0.6]}}
        ],
        "settings": {"adapt.steps": 100, "seeds": None},
        "meta": {
            "versions": {"glotprompt": "0.0.0"},
            "hardware": "an invented machine",
            "precision": "fp32",
            "date": "1999-12-31",
            "seconds": 120.0,
            "peak_memory_bytes": 2_000_000_000,
            "backbone": "mini",
            "fingerprint": "0123",
        },
        "saved": {"prompt": "p.safetensors", "classifier": "c.safetensors", "try": ["glotprompt predict [TEXT]"]},
    }


def bare_results() -> list[DemoResult]:
    """Results with as little in them as a demo may have."""
    whole = demo_result()
    without = {name: value for name, value in whole.items() if name not in ("language", "guesses", "examples")}
    reading = {**whole["language"], "curve": [], "train_curve": [{"step": 50, "loss": None}]}
    bare_row = {"method": "soft-prompt", "target_test_accuracy": 0.0}
    hollow = {**whole, "language": reading, "rows": [bare_row], "alignment": [], "guesses": [], "examples": []}
    return [DemoResult.of(one, "invented") for one in ({**without, "rows": [bare_row]}, hollow)]
