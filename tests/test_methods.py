"""What differs between methods, and what one method's results are refused for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import glotprompt as gp
from glotprompt import config
from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.inference.classifier import Adapted, LanguageModule, Part, load_adapted
from glotprompt.method_registry import DESCRIPTIONS
from glotprompt.methods import METHODS, Look, Method, for_language, register, switched_off, without_effect
from glotprompt.model.modules.adapters import Adapter
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import ModuleStack
from glotprompt.report import tables
from glotprompt.spec import digests_of
from glotprompt.stages.stage1 import Stage1
from glotprompt.storage.metadata import Measurement
from glotprompt.training import loop

from .conftest import make_tiny_backbone
from .toys import QUIET, SOURCE, TASK, TOY, TRANSLATIONS
from .variants import ADAPT, EXAMPLES, NOT_DRAWN, TUNE, VARIANTS, two_prompts

Make = Callable[[str], gp.Backbone]
TEXTS = ["water play king", "play", "the king the day"]
OTHER = [line.replace("king", "play") for line in TOY]
"""Text in a second toy language."""


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Make) -> gp.Backbone:
    return tiny_backbone("xlm-roberta")


@pytest.fixture(scope="module")
def mad_x(backbone: gp.Backbone) -> LanguageModule:
    made = VARIANTS["mad-x"].stage_1(backbone)
    assert isinstance(made, LanguageModule)
    return made


def adapted(backbone: gp.Backbone, method: str, **settings: Any) -> Adapted:
    """A stage 1 of a single step."""
    return gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT.replace(method=method, steps=1, **settings), QUIET)


def tuned(backbone: gp.Backbone, start: Adapted | None, **settings: Any) -> gp.PromptClassifier:
    """A stage 2 of a single epoch."""
    return gp.tune(backbone, start, EXAMPLES, TASK, TUNE.replace(epochs=1, **settings), QUIET, dev=EXAMPLES)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A step's number for every step that is trained."""
    trained: list[int] = []
    original = loop._Run.update

    def update(run: Any, parts: Any) -> Any:
        trained.append(run.history.step)
        return original(run, parts)

    monkeypatch.setattr(loop._Run, "update", update)
    return trained


# --- one method's results where another's belong


def test_the_table_of_methods_is_whole() -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert method.start.takes is None, "no method builds on one that builds on another"
        assert (method.begin_adapt is None) == (method.stage1 is None)
        if method.begin_adapt is not None:
            assert method.start.begin_adapt is not None
            assert method.kinds
            assert "language" in method.parts
    assert METHODS["mad-x"].source_shares(gp.AdaptConfig()) == {"source": 1.0, "language": 0.0}
    assert METHODS["source-prompt"].source_shares(gp.AdaptConfig()) == {"language": 1.0}
    assert METHODS["soft-prompt"].source_shares(gp.AdaptConfig(source_share=0.25)) == {"language": 0.25}


@pytest.mark.parametrize("method", ["prompt-tuning", "fine-tuning"])
def test_no_stage_1(backbone: gp.Backbone, method: str) -> None:
    with pytest.raises(ConfigError, match=f"{method} has no stage 1; go on with tune"):
        adapted(backbone, method)
    start = adapted(backbone, "soft-prompt")
    with pytest.raises(ConfigError, match=f"{method} has no stage 1, but a soft-prompt result was given"):
        tuned(backbone, start, method=method)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.start.stage1])
def test_a_stage_1_of_its_own_is_needed(backbone: gp.Backbone, mad_x: LanguageModule, method: str) -> None:
    start = METHODS[method].start.name
    with pytest.raises(ConfigError, match=f"adapt with method {start} made, nothing was given"):
        tuned(backbone, None, method=method)
    other: Adapted = replace(mad_x, method="lora") if method == "mad-x" else mad_x
    with pytest.raises(ConfigError, match=f"adapt with method {start} made, one of {other.method} was given"):
        tuned(backbone, other, method=method)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.has_prompt])
@pytest.mark.parametrize("name", ["top_k_layers", "bottom_k_layers"])
def test_no_layers_to_choose_where_no_prompt_is_trained(
    backbone: gp.Backbone, mad_x: LanguageModule, method: str, name: str
) -> None:
    start = None if METHODS[method].stage1 is None else replace(mad_x, method=METHODS[method].start.name)
    with pytest.raises(ConfigError, match=r"trains no prompts in stage 2; leave top_k_layers"):
        tuned(backbone, start, method=method, **{name: 1})


@pytest.mark.slow
def test_without_a_method_tune_goes_on_with_that_of_stage_1(backbone: gp.Backbone, mad_x: LanguageModule) -> None:
    made = tuned(backbone, mad_x)
    assert (made.method, made.training.config["method"], made.language) == ("mad-x", "mad-x", "xxx")
    assert made.training.config["learning_rate"] == 1e-4, "the method's own rate"
    assert tuned(backbone, None).method == "prompt-tuning"


@pytest.mark.slow
def test_files_of_one_kind_are_refused_as_another(backbone: gp.Backbone, mad_x: LanguageModule, tmp_path: Path) -> None:
    module, prompt, classifier = (tmp_path / name for name in ("module", "prompt", "classifier"))
    mad_x.save(module)
    adapted(backbone, "source-prompt").save(prompt)
    tuned(backbone, mad_x).save(classifier)
    for load, path, found, expected in (
        (gp.LanguagePrompt.load, module, "language module", "language prompt"),
        (gp.LanguagePrompt.load, classifier, "classifier", "language prompt"),
        (LanguageModule.load, prompt, "language prompt", "language module"),
        (LanguageModule.load, classifier, "classifier", "language module"),
        (lambda path: gp.PromptClassifier.load(path, backbone), module, "language module", "classifier"),
        (load_adapted, classifier, "classifier", "language prompt"),
    ):
        with pytest.raises(ArtifactError, match=f"is a {found}; expected a {expected}") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    assert isinstance(load_adapted(module, backbone), LanguageModule)
    assert load_adapted(prompt, backbone).method == "source-prompt"
    assert gp.PromptClassifier.load(classifier, backbone).method == "mad-x"
    with pytest.raises(ArtifactError, match="was made for 'tiny xlm-roberta'"):
        load_adapted(module, make_tiny_backbone("bert"))


def test_results_for_another_backbone_of_the_same_shape(backbone: gp.Backbone, mad_x: LanguageModule) -> None:
    other = make_tiny_backbone("xlm-roberta")
    other.fingerprint = "another"
    for start in (mad_x, adapted(backbone, "soft-prompt"), adapted(backbone, "fine-tuning-mlm")):
        with pytest.raises(ConfigError, match=r"is for another version of 'tiny xlm-roberta' .*; create it again"):
            tuned(other, start)
    with pytest.raises(ConfigError, match=r"is for another version of 'tiny xlm-roberta' .*; create it again"):
        gp.adapt(other, TOY, SOURCE, "xxx", ADAPT, QUIET, initial=two_prompts(backbone)[0])


def test_a_classifier_without_a_prompt_says_so(backbone: gp.Backbone, mad_x: LanguageModule) -> None:
    made = tuned(backbone, mad_x)
    assert made.prompt is None
    with pytest.raises(ConfigError, match="a classifier of method 'mad-x' has no prompt"):
        _ = made.key_values


# --- methods of other packages


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Method:
    """A method that is not known yet; what is made known in a test is forgotten after it."""
    monkeypatch.setattr(DESCRIPTIONS, "_methods", dict(METHODS.items()))
    monkeypatch.setattr(DESCRIPTIONS, "_points", [])
    look = Look(name="One vector", colour="#123456", marker="8")
    settings = {"adapt": {"lora_rank": "trains no LoRA"}}
    return Method(
        name="one-vector", citation="nobody", look=look, stage2="nothing", rates={"tune": 0.5}, settings=settings
    )


def test_a_registered_method_is_a_method(own: Method) -> None:
    with pytest.raises(ConfigError, match="not 'one-vector'"):
        gp.TuneConfig(method="one-vector")
    register(own)
    register(own)
    assert list(METHODS)[-1] == "one-vector"
    assert gp.TuneConfig(method="one-vector").learning_rate == 0.5
    assert gp.AdaptConfig(method="one-vector").learning_rate == 5e-3, "it has none: that of prompts"
    assert config.preset("quick", "adapt", "one-vector") == {"steps": 300, "max_length": 64}
    assert (tables.look("one-vector"), [*tables.looks()][:2]) == (own.look, ["majority", "one-vector"])
    with pytest.raises(ConfigError, match="Did you mean 'one-vector'"):
        gp.TuneConfig(method="one-vectr")
    with pytest.raises(ConfigError, match="there is a method 'one-vector' already; give this one another name"):
        register(replace(own, citation="somebody"))


def test_a_setting_is_idle_with_methods_that_do_not_name_it(own: Method) -> None:
    register(replace(own, stage1="one vector"))
    idle = without_effect(gp.AdaptConfig(method="one-vector"))
    assert "lora_rank" not in idle
    assert idle["lora_alpha"] == "one-vector trains no LoRA"
    assert "lora_alpha" not in without_effect(gp.AdaptConfig(method="lora"))


def test_an_mlp_is_part_of_a_run_only_where_it_makes_the_prompt() -> None:
    for settings, without in (
        (gp.AdaptConfig(reparameterisation=8, initialise="text"), "the prompt does not start from noise"),
        (gp.AdaptConfig(reparameterisation=8, method="lora"), "lora trains no prompt in stage 1"),
        (gp.TuneConfig(method="soft-prompt", reparameterisation=8), "soft-prompt starts no prompt from noise"),
    ):
        assert without_effect(settings)["reparameterisation"] == without
    for settings in (gp.AdaptConfig(reparameterisation=8), gp.TuneConfig(method="prompt-tuning", reparameterisation=8)):
        idle = without_effect(settings)
        assert "reparameterisation" not in idle
        assert idle["init_std"] == "an MLP makes the prompt"
    top = gp.TuneConfig(method="prompt-tuning", reparameterisation=8, top_k_layers=2)
    assert "init_std" not in without_effect(top), "noise of the layers that are not trained"


def test_a_setting_that_is_off_is_no_part_of_a_run_and_may_be_given() -> None:
    for settings, off in (
        (gp.AdaptConfig(mlm_hold=0.0), {"mlm_hold", "reparameterisation"}),
        (gp.AdaptConfig(mlm_hold=0.5, reparameterisation=8), set[str]()),
        (gp.TuneConfig(method="prompt-tuning"), {"reparameterisation"}),
        (gp.TuneConfig(method="prompt-tuning", reparameterisation=8), set[str]()),
    ):
        assert switched_off(settings) == off
    assert "mlm_hold" not in without_effect(gp.AdaptConfig(mlm_hold=0.0)), "a loop over weights begins at 0"


def test_noise_at_the_input_only_where_it_is_asked_for() -> None:
    idle = without_effect(gp.TuneConfig(method="input-prompt"))
    assert idle["init_std"] == "the prompt does not start from noise"
    assert "init_std" not in without_effect(gp.TuneConfig(method="input-prompt", initialise="noise"))
    assert "init_std" not in without_effect(gp.TuneConfig(method="prompt-tuning"))


class _Point:
    """An entry point of an installed package."""

    name, module, dist = "one-vector", "elsewhere.methods", SimpleNamespace(name="elsewhere")

    def __init__(self, load: Callable[[], Any]) -> None:
        self.load = load


def test_an_installed_package_offers_a_method(own: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[str] = []

    def load() -> Method:
        assert gp.AdaptConfig().method == "soft-prompt", "what is loaded may ask for methods"
        return own

    def entry_points(group: str) -> list[_Point]:
        groups.append(group)
        return [_Point(load)]

    monkeypatch.setattr(DESCRIPTIONS, "_points", None)
    monkeypatch.setattr("glotprompt.method_registry.entry_points", entry_points)
    assert gp.TuneConfig(method="one-vector").learning_rate == 0.5
    assert METHODS["one-vector"] is own
    assert groups == ["glotprompt.methods"], "they are looked for once"


@pytest.mark.parametrize(
    ("load", "why"),
    [(lambda: __import__("not_there"), "No module named 'not_there'"), (lambda: 3, "'int' object has no attribute")],
)
def test_an_installed_package_whose_method_cannot_be_loaded(
    own: Method, monkeypatch: pytest.MonkeyPatch, load: Callable[[], Any], why: str
) -> None:
    monkeypatch.setattr(DESCRIPTIONS, "_points", [_Point(load)])
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"the package elsewhere offers a method 'one-vector' .*{why}") as caught:
            gp.AdaptConfig(method="mad-x")
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_descriptions_need_no_tensors() -> None:
    script = (
        "import sys; from glotprompt.config import AdaptConfig; from glotprompt.report import tables;"
        " AdaptConfig(method='mad-x'); tables.looks();"
        " print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- mad-x


@pytest.mark.slow
def test_the_delivered_classifier_holds_the_target_s_adapter(backbone: gp.Backbone, mad_x: LanguageModule) -> None:
    made = VARIANTS["mad-x"].stage_2(backbone, mad_x)
    assert isinstance(made.body, ModuleStack)
    held = Part.of(made.body["language"]).tensors
    source, target = (mad_x.parts[name].tensors for name in ("source", "language"))
    assert all(torch.equal(held[name], target[name]) for name in target)
    assert not any(torch.equal(target[name], source[name]) for name in target if name.endswith("weight"))
    seen = min(
        (-entry["dev_accuracy"], entry["dev_loss"]) for _, entry in made.training.to_json()["evaluations"]
    )  # what the best epoch was chosen by
    gold = [TASK.labels.index(str(example.label)) for example in EXAMPLES]

    def loss(classifier: gp.PromptClassifier) -> float:
        return -float(classifier.log_probabilities(EXAMPLES)[np.arange(len(gold)), gold].mean())

    on_source = ModuleStack({"language": mad_x.parts["source"].restored(backbone), "task": made.body["task"]})
    with_source = replace(made, body=on_source)
    assert loss(with_source) == pytest.approx(seen[1], rel=1e-6)
    assert gp.evaluate(with_source, EXAMPLES).accuracy == made.training.dev_accuracy
    assert abs(loss(made) - seen[1]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mad-x", "mad-x, BERT, all choices"])
def test_the_source_s_adapter_does_not_depend_on_the_target(variant: str, tmp_path: Path, steps: list[int]) -> None:
    backbone = make_tiny_backbone(VARIANTS[variant].kind)
    runtime = gp.RuntimeConfig(checkpoint_dir=tmp_path, checkpoint_every=1000, progress=False)
    first = VARIANTS[variant].stage_1(backbone, runtime)
    assert steps == [*range(8), *range(8)]
    steps.clear()
    second = VARIANTS[variant].stage_1(backbone, runtime, OTHER)
    assert steps == [*range(8)], "the source's was there already"
    alone = VARIANTS[variant].stage_1(backbone, QUIET, OTHER)
    assert isinstance(first, LanguageModule)
    assert isinstance(second, LanguageModule)
    assert isinstance(alone, LanguageModule)
    for part, is_same in (("source", True), ("language", False)):
        tensors = first.parts[part].tensors
        assert all(torch.equal(alone.parts[part].tensors[name], second.parts[part].tensors[name]) for name in tensors)
        assert all(torch.equal(tensors[name], second.parts[part].tensors[name]) for name in tensors) == is_same


@pytest.mark.slow
def test_a_ready_source_adapter(backbone: gp.Backbone, mad_x: LanguageModule, tmp_path: Path, steps: list[int]) -> None:
    """Only the target's adapter is trained, as it is beside a trained source adapter, and stage 2 starts as behind that
    one. The ready one makes it another run."""
    ready = mad_x.parts["source"].restored(backbone)
    variant = VARIANTS["mad-x"]
    config = ADAPT.replace(method="mad-x", learning_rate=variant.rates[0])
    made = gp.adapt(backbone, TOY, (), "xxx", config, QUIET, source_adapter=ready)
    assert steps == [*range(8)]
    assert isinstance(made, LanguageModule)
    for part, held in mad_x.parts.items():
        assert all(torch.equal(made.parts[part].tensors[name], tensor) for name, tensor in held.tensors.items())
    assert made.training.source_training is None
    assert made.training.source_adapter == digests_of(mad_x)[0]
    tuned_bits = [variant.stage_2(backbone, start).log_probabilities(TEXTS) for start in (made, mad_x)]
    assert np.array_equal(*tuned_bits)
    other = Adapter.initialise(48, 3, 4)
    specs = {
        Stage1.of(backbone, TOY, (), "xxx", config, source_adapter=adapter).spec(backbone).identity
        for adapter in (ready, other)
    } | {Stage1.of(backbone, TOY, SOURCE, "xxx", config).spec(backbone).identity}
    assert len(specs) == 3
    again = LanguageModule.load(made.save(tmp_path / "file"), backbone)
    assert again.training.source_adapter == made.training.source_adapter


def test_a_ready_source_adapter_that_fits_nothing(backbone: gp.Backbone) -> None:
    ready, config = Adapter.initialise(48, 3, 4), ADAPT.replace(method="mad-x")

    def adapt(source: list[str], adapter: Adapter, **changes: Any) -> None:
        gp.adapt(backbone, TOY, source, "xxx", config.replace(**changes), QUIET, source_adapter=adapter)

    with pytest.raises(ConfigError, match="soft-prompt has no source language adapter; leave source_adapter= out"):
        adapt([], ready, method="soft-prompt")
    with pytest.raises(ConfigError, match="adapter is ready and reads no text; leave source= out"):
        adapt(SOURCE, ready)
    with pytest.raises(gp.UserError, match="the adapter is for 3 layers of 16, tiny xlm-roberta has 3 of 48"):
        adapt([], Adapter.initialise(16, 3, 4))
    with pytest.raises(ConfigError, match="alignment trains one adapter for both languages; leave source_adapter= out"):
        gp.adapt(backbone, language="xxx", parallel=TRANSLATIONS, config=config, source_adapter=ready)


def test_mad_x_needs_source_text(backbone: gp.Backbone) -> None:
    with pytest.raises(gp.UserError, match="source"):
        gp.adapt(backbone, TOY, [], "xxx", ADAPT.replace(method="mad-x"), QUIET)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["cloze", "linear"])
def test_another_language_in_a_tuned_classifier(backbone: gp.Backbone, mad_x: LanguageModule, head: str) -> None:
    """One stage 2 serves every target: the swap gives what tuning for the other target would."""
    other = VARIANTS["mad-x"].stage_1(backbone, QUIET, OTHER)
    assert isinstance(other, LanguageModule)
    other = replace(other, language="yyy")
    first, second = (tuned(backbone, start, head=head, learning_rate=0.02) for start in (mad_x, other))
    swapped = for_language(first, other)
    offset = for_language(first.with_label_prior(TEXTS), other)
    assert (offset.offsets, offset.training.label_prior) == (None, None), "they belong to the other language's text"
    measured = Measurement(language="xxx", content="0" * 64, num_examples=9, accuracy=50.0, interval=(30.0, 70.0))
    assert for_language(replace(first, measurements=(measured,)), other).measurements == ()
    assert swapped.language == "yyy"
    assert np.array_equal(swapped.log_probabilities(TEXTS), second.log_probabilities(TEXTS))
    assert not np.array_equal(swapped.log_probabilities(TEXTS), first.log_probabilities(TEXTS))
    assert np.array_equal(for_language(swapped, mad_x).log_probabilities(TEXTS), first.log_probabilities(TEXTS))


def test_no_other_language_where_stage_2_knows_the_first(backbone: gp.Backbone, mad_x: LanguageModule) -> None:
    prompt = adapted(backbone, "soft-prompt")
    with pytest.raises(ConfigError, match="soft-prompt trains stage 2 on the language's own module; tune again"):
        for_language(tuned(backbone, prompt), prompt)
    with pytest.raises(ConfigError, match="of method mad-x on tiny xlm-roberta, the module of soft-prompt on"):
        for_language(tuned(backbone, mad_x), prompt)


@pytest.mark.slow
def test_an_aligned_adapter_is_one_for_both_languages(backbone: gp.Backbone, mad_x: LanguageModule) -> None:
    """Stage 2 stands on it: a task adapter, logistic regression, or a pooled head."""
    config = ADAPT.replace(method="mad-x", objective="alignment", steps=1, train_lm_head=True)
    made = gp.adapt(backbone, language="xxx", config=config, runtime=QUIET, parallel=TRANSLATIONS)
    assert isinstance(made, LanguageModule)
    assert list(made.parts) == ["language"]
    assert made.parts["language"].description["kind"] == "adapter", "no LM head, which alignment does not read"
    assert "train_lm_head" in without_effect(config)
    classifiers = [tuned(backbone, made, **one) for one in ({}, {"head": "pooled"}, {"method": "embedding"})]
    assert [one.method for one in classifiers] == ["mad-x", "mad-x", "embedding"]
    for classifier, other in ((classifiers[0], mad_x), (tuned(backbone, mad_x), made)):
        with pytest.raises(ConfigError, match="mad-x trains stage 2 on the language's own module; tune again"):
            for_language(classifier, other)


# --- the control


def test_the_source_prompt_does_not_depend_on_the_target(backbone: gp.Backbone) -> None:
    one, two = (VARIANTS["source-prompt"].stage_1(backbone, QUIET, target) for target in (TOY, OTHER))
    assert isinstance(one, gp.LanguagePrompt)
    assert isinstance(two, gp.LanguagePrompt)
    assert torch.equal(one.key_values, two.key_values)
    assert one.training.held_out_before == two.training.held_out_before, "it is judged on source text"


@pytest.mark.parametrize("method", ["mad-x", "source-prompt"])
def test_a_method_that_settles_what_it_reads_refuses_a_share(backbone: gp.Backbone, method: str) -> None:
    settings = gp.AdaptConfig(method=method, source_share=0.3, steps=1, max_length=16)
    with pytest.raises(ConfigError, match="settles by itself which text it reads"):
        gp.adapt(backbone, TOY, SOURCE, "xxx", settings, QUIET)


def test_the_order_of_attachment_survives_a_file(backbone: gp.Backbone) -> None:
    parts = {name: SoftPrompt.initialise(backbone.prompt_shape(2), 1.0, seed) for seed, name in enumerate("zay")}
    settings = json.loads(json.dumps(ModuleStack(parts).settings(), sort_keys=True))
    restored = ModuleStack.restore(backbone, settings, ModuleStack(parts).tensors())
    assert list(restored.parts) == ["z", "a", "y"]
    assert restored["a"].tensors()["key_values"].equal(parts["a"].key_values())


def test_every_method_has_a_variant_in_the_contract_tests() -> None:
    """All but those whose stage 2 is fitted in closed form."""
    assert {variant.method for variant in VARIANTS.values()} == {
        name for name, method in METHODS.items() if not method.closed_form
    }


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.begin_adapt is not None])
def test_the_seed_draws_the_start_of_stage_1(backbone: gp.Backbone, method: str) -> None:
    start = METHODS[method].begin_adapt
    assert start is not None
    first, again, other = (start(backbone, ADAPT.replace(method=method, seed=seed)).tensors() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    differs = any(not torch.equal(value, other[name]) for name, value in first.items())
    assert differs == (method not in NOT_DRAWN)
