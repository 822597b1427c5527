"""Settings: validated, frozen, and every one that changes a number is part of the identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from glotprompt.config import (
    AdaptConfig,
    Config,
    RuntimeConfig,
    Stage,
    TuneConfig,
    identity_of,
    preset,
    presets,
)
from glotprompt.errors import ConfigError
from glotprompt.grid.experiment import Experiment, System
from glotprompt.methods import METHODS

OTHER_ADAPT: dict[str, Any] = {
    "prompt_length": 31, "steps": 99_999, "batch_size": 31, "max_length": 255, "learning_rate": 4e-3,
    "auto_rates": (1e-3,), "auto_steps": 61, "warmup_ratio": 0.07, "weight_decay": 0.01, "clip_norm": 2.0,
    "mask_rate": 0.2, "packing": "none", "source_share": 0.4, "balance": "repeat", "held_out_share": 0.06,
    "eval_every": 101, "eval_sequences": 127, "patience": 3, "init_std": 1.0, "positions": "shifted", "seed": 1,
    "method": "mad-x", "dropout": True, "adapter_reduction": 4, "invertible_reduction": None,
    "drop_last_adapter": True, "train_lm_head": True, "lora_rank": 4, "lora_alpha": 8.0, "schedule": "wsd",
    "initialise": "text", "objective": "alignment", "lora_layers": "all", "alignment_weight": 0.5, "mlm_hold": 1.0,
    "reparameterisation": 512, "min_improvement": 0.1,
}  # fmt: skip
OTHER_TUNE: dict[str, Any] = {
    "epochs": 9, "batch_size": 31, "max_length": 255, "learning_rate": 2e-3, "warmup_ratio": 0.07,
    "weight_decay": 0.01, "clip_norm": 2.0, "top_k_layers": 18, "bottom_k_layers": 18, "loss_over": "vocabulary",
    "dev_share": 0.2, "shots_per_class": 5, "prompt_length": 31, "init_std": 1.0, "seed": 1, "method": "mad-x",
    "dropout": True, "task_adapter": "houlsby", "task_adapter_reduction": 8, "head": "linear", "layer": 5,
    "target_weight": 3.0, "initialise": "noise", "reparameterisation": 512, "most_per_label": 100,
}  # fmt: skip
"""One value other than the default for every field."""


def message_of(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- identity


@pytest.mark.parametrize(("config", "others"), [(AdaptConfig, OTHER_ADAPT), (TuneConfig, OTHER_TUNE)])
def test_every_field_is_listed_here(config: type[Config], others: dict[str, Any]) -> None:
    assert set(config.model_fields) == set(others)


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [(AdaptConfig, *item) for item in OTHER_ADAPT.items()] + [(TuneConfig, *item) for item in OTHER_TUNE.items()],
)
def test_every_field_moves_the_identity(config: type[Config], field: str, value: Any) -> None:
    default = config()
    changed = default.replace(**{field: value})
    assert getattr(changed, field) == value != getattr(default, field)
    assert changed.identity() != default.identity()
    assert changed.replace(**{field: getattr(default, field)}).identity() == default.identity()


def test_identity_does_not_depend_on_how_a_value_was_written() -> None:
    assert AdaptConfig(clip_norm=1).identity() == AdaptConfig(clip_norm=1.0).identity()
    assert AdaptConfig(auto_rates=[0.1, 0.2]).identity() == AdaptConfig(auto_rates=(0.1, 0.2)).identity()
    assert AdaptConfig(steps=300, seed=2).identity() == AdaptConfig(seed=2, steps=300).identity()


def test_identity_of_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert identity_of({"a": 1, "b": [2]}) == identity_of({"b": [2], "a": 1})
    assert identity_of([1, 2]) != identity_of([2, 1])
    assert identity_of({"a": "1"}) != identity_of({"a": 1})
    assert len(identity_of("x")) == 16


def test_what_changes_no_number_is_in_no_stage() -> None:
    assert not set(RuntimeConfig.model_fields) & (set(AdaptConfig.model_fields) | set(TuneConfig.model_fields))


# --- validation


@pytest.mark.parametrize(
    ("config", "wrong", "meant"),
    [
        (AdaptConfig, "learning_rat", "learning_rate"),
        (AdaptConfig, "Prompt_Length", "prompt_length"),
        (TuneConfig, "top_k_layer", "top_k_layers"),
        (RuntimeConfig, "checkpoint_folder", "checkpoint_dir"),
    ],
)
def test_an_unknown_key_names_the_nearest(config: type[Config], wrong: str, meant: str) -> None:
    text = message_of(lambda: config(**{wrong: 1}))
    assert repr(wrong) in text
    assert f"Did you mean {meant!r}?" in text


def test_an_unknown_key_like_no_other_gets_all_of_them() -> None:
    said = message_of(lambda: AdaptConfig(**{"zzz": 1}))
    assert said.startswith("AdaptConfig has no setting 'zzz'. Expected one of objective, method, prompt_length, ")


def test_a_word_like_one_of_the_choices_gets_a_hint() -> None:
    assert message_of(lambda: AdaptConfig(schedule="linaer")).endswith("not 'linaer'. Did you mean 'linear'?")


@pytest.mark.parametrize(
    ("config", "field", "bad"),
    [
        *[
            (AdaptConfig, f, 0)
            for f in ("prompt_length", "steps", "batch_size", "auto_steps", "eval_every", "patience")
        ],
        *[(AdaptConfig, "max_length", v) for v in (7, 2.5, "long")],
        *[(AdaptConfig, "learning_rate", v) for v in (0, -1e-3, float("inf"), float("nan"), "fast")],
        *[(AdaptConfig, "auto_rates", v) for v in ((), (1e-2, 0.0), (-1.0,), 3)],
        *[(AdaptConfig, f, v) for f in ("mask_rate", "held_out_share") for v in (0, 1, -0.1, float("nan"))],
        *[(AdaptConfig, f, v) for f in ("warmup_ratio", "source_share") for v in (-0.1, 1.1)],
        *[(AdaptConfig, f, v) for f in ("weight_decay", "seed") for v in (-1,)],
        *[(AdaptConfig, f, v) for f in ("clip_norm", "init_std") for v in (0, float("inf"))],
        *[(AdaptConfig, f, "other") for f in ("packing", "balance", "positions", "schedule", "initialise")],
        *[(TuneConfig, f, 0) for f in ("epochs", "batch_size", "shots_per_class", "prompt_length", "learning_rate")],
        *[(TuneConfig, f, -1) for f in ("top_k_layers", "bottom_k_layers", "seed", "weight_decay")],
        *[(TuneConfig, "dev_share", v) for v in (0, 1)],
        *[(AdaptConfig, f, 0) for f in ("adapter_reduction", "invertible_reduction", "lora_rank", "lora_alpha")],
        *[(config, "method", v) for config in (AdaptConfig, TuneConfig) for v in ("madx", "", 3)],
        (AdaptConfig, "method", None),
        (TuneConfig, "task_adapter_reduction", 0),
        (TuneConfig, "head", "classifier"),
        (TuneConfig, "learning_rate", "auto"),
        (TuneConfig, "loss_over", "words"),
        (RuntimeConfig, "micro_batch_size", 0),
        (RuntimeConfig, "checkpoint_every", -1),
    ],
)
def test_a_value_out_of_range_is_one_line_that_names_the_field(config: type[Config], field: str, bad: Any) -> None:
    text = message_of(lambda: config(**{field: bad}))
    assert text.startswith(f"{config.__name__}.{field}")
    assert "constrained" not in text, "pydantic's own words"


@pytest.mark.parametrize(
    "good",
    [
        {"source_share": 0}, {"source_share": 1}, {"warmup_ratio": 0}, {"warmup_ratio": 1}, {"weight_decay": 0},
        {"patience": None}, {"learning_rate": "auto"}, {"learning_rate": 1}, {"max_length": 8}, {"prompt_length": 1},
    ],
)  # fmt: skip
def test_the_ends_of_the_ranges_are_good(good: dict[str, Any]) -> None:
    field, value = next(iter(good.items()))
    assert getattr(AdaptConfig(**good), field) == value


def test_a_word_where_a_rate_belongs_is_told_of_auto() -> None:
    assert "or 'auto', not 'fast'" in message_of(lambda: AdaptConfig(learning_rate="fast"))
    assert "auto" not in message_of(lambda: AdaptConfig(steps=0, learning_rate="fast"))
    assert "full" not in message_of(lambda: AdaptConfig(learning_rate=0, packing="other"))


def test_top_and_bottom_exclude_each_other() -> None:
    text = message_of(lambda: TuneConfig(top_k_layers=3, bottom_k_layers=3))
    assert "top_k_layers or bottom_k_layers, not both" in text
    assert TuneConfig(top_k_layers=3).bottom_k_layers is None


def test_replace_validates_again() -> None:
    config = AdaptConfig(steps=10)
    assert config.replace(seed=3) == AdaptConfig(steps=10, seed=3)
    assert config.seed == 0
    message_of(lambda: config.replace(steps=0))
    message_of(lambda: config.replace(step=5))
    message_of(lambda: TuneConfig(top_k_layers=3).replace(bottom_k_layers=3))


@pytest.mark.parametrize("config", [AdaptConfig(), TuneConfig(), RuntimeConfig()])
def test_frozen(config: Config) -> None:
    field = next(iter(type(config).model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, field, 1)


@pytest.mark.parametrize("config", [AdaptConfig, TuneConfig, RuntimeConfig])
def test_every_field_is_described(config: type[Config]) -> None:
    for name, field in config.model_fields.items():
        assert field.description, f"{name} has no docstring"


# --- defaults and presets


def test_the_defaults_are_the_papers() -> None:
    adapt, tune = AdaptConfig(), TuneConfig()
    assert (adapt.prompt_length, adapt.steps, adapt.batch_size, adapt.learning_rate) == (32, 100_000, 32, 5e-3)
    assert (adapt.mask_rate, adapt.source_share) == (0.15, 0.5)
    assert (tune.epochs, tune.batch_size, tune.learning_rate, tune.prompt_length) == (10, 32, 1e-3, 32)
    assert (adapt.positions, adapt.patience, tune.shots_per_class) == ("plain", None, None)
    assert (tune.top_k_layers, tune.bottom_k_layers) == (None, None), "three quarters, 18 of 24: see tests/test_run.py"
    assert presets()["paper"] == {"adapt": {}, "tune": {"loss_over": "vocabulary"}}  # equation 1


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize(("config", "stage"), [(AdaptConfig, "adapt"), (TuneConfig, "tune")])
def test_presets_are_valid_and_differ_from_the_defaults(name: str, config: type[Config], stage: Stage) -> None:
    differs: dict[str, bool] = {}
    for method in METHODS:
        changes = preset(name, stage, method)
        made, default = config(**changes, method=method), config(method=method)
        for field in changes:
            differs[field] = differs.get(field, False) or getattr(made, field) != getattr(default, field)
    assert set(differs) == set(presets()[name][stage]), "a value that no method gets"
    for field, does in differs.items():
        assert does, f"{name}.{stage}.{field} is the default of every method"


@pytest.mark.parametrize("name", presets())
def test_the_tables_of_presets_name_methods(name: str) -> None:
    for stage in presets()[name].values():
        for value in stage.values():
            assert not isinstance(value, dict) or set(value) <= {*METHODS, "others"}


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize(("method", "control"), [("fine-tuning-mlm", "fine-tuning"), ("soft-prompt", "source-prompt")])
def test_presets_tune_a_control_as_what_it_is_compared_with(name: str, method: str, control: str) -> None:
    assert preset(name, "tune", method) == preset(name, "tune", control)


def test_a_preset_s_value_goes_to_its_methods_alone() -> None:
    assert preset("quick", "adapt", "soft-prompt")["learning_rate"] == 8e-2
    assert preset("quick", "adapt") == preset("quick", "adapt", "soft-prompt")
    assert preset("quick", "adapt", "source-prompt")["initialise"] == "text"
    assert preset("quick", "adapt", "mad-x")["learning_rate"] == 1e-2
    assert "initialise" not in preset("quick", "adapt", "mad-x")
    assert preset("quick", "tune", "source-prompt")["top_k_layers"] == 12
    assert "top_k_layers" not in preset("quick", "tune", "soft-prompt+task-adapter")
    whole = preset("americasnli", "adapt", "fine-tuning-mlm")
    assert whole["source_share"] == 0.0, "a 0 is a value, not nothing"
    assert whole["dropout"] is True
    assert not {"source_share", "dropout", "learning_rate"} & set(preset("americasnli", "adapt", "soft-prompt"))


def test_a_preset_cannot_be_changed_from_outside() -> None:
    preset("quick", "adapt")["steps"] = 1
    assert preset("quick", "adapt")["steps"] != 1


# --- methods


def test_every_method_has_a_default_rate_for_each_of_its_stages() -> None:
    for method in METHODS.values():
        assert ("tune" in method.rates) == (not method.closed_form)
        assert ("adapt" in method.rates) == (method.start.begin_adapt is not None)


@pytest.mark.parametrize("method", METHODS)
def test_the_default_rate_is_the_method_s(method: str) -> None:
    rates, prompts = METHODS[method].rates, METHODS["soft-prompt"].rates
    assert TuneConfig(method=method).learning_rate == rates.get("tune", prompts["tune"])
    assert AdaptConfig(method=method).learning_rate == rates.get("adapt", prompts["adapt"])
    if "adapt" not in rates:
        assert AdaptConfig(method=method).auto_rates == AdaptConfig().auto_rates


def test_without_a_method_the_default_rate_is_that_of_prompts() -> None:
    assert TuneConfig().method is None
    assert TuneConfig().learning_rate == METHODS["soft-prompt"].rates["tune"]


@pytest.mark.parametrize(("config", "stage"), [(AdaptConfig, "adapt"), (TuneConfig, "tune")])
def test_another_method_brings_its_default_rate_but_moves_no_given_one(config: type[Config], stage: Stage) -> None:
    made: Any = config(seed=3).replace(method="mad-x")
    assert (made.learning_rate, made.seed) == (METHODS["mad-x"].rates[stage], 3)
    assert made.replace(method="lora").learning_rate == METHODS["lora"].rates[stage]
    default = METHODS["soft-prompt"].rates[stage]
    given: Any = config(learning_rate=default).replace(method="mad-x")
    assert given.learning_rate == default, "given, though it is the default"
    assert given.replace(method="lora", seed=1).learning_rate == default
    assert made.identity() != given.identity()


def test_an_unknown_method_is_told_of_those_there_are() -> None:
    for config in (AdaptConfig, TuneConfig):
        text = message_of(lambda config=config: config(method="madx", learning_rate=0.1))
        assert text.startswith(f"{config.__name__}.method: ")
        assert "not 'madx'" in text
        assert all(repr(name) in text for name in METHODS)


def test_an_unknown_preset_names_the_nearest() -> None:
    text = message_of(lambda: preset("quik", "adapt"))
    assert "Did you mean 'quick'?" in text
    assert "paper" in text


def test_flags_are_true_or_false() -> None:
    """In every config, and in the dataclasses inside."""
    needed: dict[type[Config], dict[str, Any]] = {
        System: {"method": "lora"},
        Experiment: {"title": "t", "methods": ["lora"]},
    }
    found: list[str] = []
    for config in (one for one in Config.__subclasses__() if one.__module__.startswith("glotprompt.")):
        flags = {name: name for name, field in config.model_fields.items() if field.annotation is bool}
        for name, field in config.model_fields.items():
            inside = fields(field.annotation) if is_dataclass(field.annotation) else ()
            flags |= {f"{name}.{one.name}": name for one in inside if "bool" in str(one.type)}
        for path, name in flags.items():
            for word in ("yes", "false", 1):
                value = {path.partition(".")[2]: word} if "." in path else word
                given = {**needed.get(config, {}), name: value}
                text = message_of(lambda config=config, given=given: config(**given))
                assert text.startswith(f"{config.__name__}.{name}: Expected true or false, not "), path
        found += flags
    assert {"dropout", "progress", "centred", "disjoint", "read.normalise"} <= set(found)


def test_the_runtime_takes_a_folder() -> None:
    assert RuntimeConfig(checkpoint_dir="a/b").checkpoint_dir == Path("a/b")
