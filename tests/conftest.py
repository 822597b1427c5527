"""Fixtures for every room. No test uses a network."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported

import pytest

from glotprompt.data.datasets.dataset import DATA_DIR_VARIABLE

from . import shapes

if TYPE_CHECKING:  # the process that hands tests out to others runs none: it has no use for torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from glotprompt.model.backbone import Backbone

ASSETS = Path(__file__).parent / "assets"
TINY_KINDS = ("xlm-roberta", "bert", "modernbert")

shapes.check_cheaply()  # before anything that is checked is imported


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="Make the records of golden/ and blackbox/ anew.")
    parser.addoption("--gpu-dry", action="store_true", help="Run what is marked gpu on the CPU, to try the tests.")


def pytest_runtest_setup() -> None:
    shapes.calls.clear()


@pytest.fixture(scope="session", autouse=True)
def light_process() -> None:
    """Models this small gain nothing from a second thread, and threads that wait for each other lose much. What is
    imported stays: looking through it for garbage would take a fifth of the processor time of all tests."""
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> bool:
    """Whether records are written anew instead of held against what is found."""
    wanted = bool(request.config.getoption("--record"))
    assert not (wanted and hasattr(request.config, "workerinput")), "several tests write one file: leave -n out"
    return wanted


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The data folder: other people's corpora in their publishers' layouts. Tests that need it skip without."""
    given = os.environ.get(DATA_DIR_VARIABLE)
    if not given:
        pytest.skip(f"needs the corpora: set {DATA_DIR_VARIABLE} to the data folder")
    folder = Path(given).absolute()  # the program may run in a folder of the test's own
    if not folder.is_dir():
        pytest.skip(f"needs the corpora: {DATA_DIR_VARIABLE} is {given}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def english_lines() -> list[str]:
    """Sixty English sentences."""
    return (ASSETS / "english.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def invented_lines() -> list[str]:
    """The same sentences in a language that nobody speaks."""
    return (ASSETS / "invented.txt").read_text(encoding="utf-8").splitlines()


@cache
def load_tokenizer() -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(ASSETS / "tokenizer")


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """418 pieces in XLM-R's layout: <s> <pad> </s> <unk> first, <mask> last."""
    return load_tokenizer()


def tiny_config(kind: str, **changes: object) -> PreTrainedConfig:
    """A few layers of `kind`, reading 512 tokens. Dropout is on, so that a module in training mode shows."""
    from transformers import BertConfig, ModernBertConfig, XLMConfig, XLMRobertaConfig

    tokenizer = load_tokenizer()
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 64, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": 0, "eos_token_id": 2,
        "cls_token_id": 0, "sep_token_id": 2,
        # Five times the usual: with weights as small as those of real models, attention would barely matter.
        "initializer_range": 0.1,
    }  # fmt: skip
    if kind == "xlm-roberta":
        return XLMRobertaConfig(**{**shape, "max_position_embeddings": 514, "type_vocab_size": 1, **changes})
    if kind == "bert":
        return BertConfig(**{**shape, "max_position_embeddings": 512, **changes})
    if kind == "xlm":
        # Two languages with embeddings, which are never added.
        only_here = {"max_position_embeddings": 512, "n_langs": 2, "embed_init_std": 0.1, "init_std": 0.1}
        return XLMConfig(**{**shape, **only_here, "pad_index": 1, "bos_index": 0, "eos_index": 2, **changes})
    assert kind == "modernbert"
    # One layer looks everywhere, the next only 8 tokens to either side.
    layers = ["full_attention", "sliding_attention", "full_attention"]
    only_here = {"max_position_embeddings": 512, "local_attention": 16, "layer_types": layers, "attention_dropout": 0.1}
    return ModernBertConfig(**{**shape, **only_here, **changes})


def random_model(config: PreTrainedConfig, attention: str = "") -> PreTrainedModel:
    """A transformers model with random weights, always the same, and no part of ours in it."""
    import torch
    from transformers import AutoModelForMaskedLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = attention or ("eager" if config.model_type == "xlm" else "sdpa")
        model = AutoModelForMaskedLM.from_config(config, attn_implementation=attention).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # zero at the start, so an error in them would not show
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def make_tiny_backbone(kind: str) -> Backbone:
    from glotprompt.model.backbone import Backbone

    return Backbone(random_model(tiny_config(kind)), load_tokenizer(), f"tiny {kind}")


@cache
def load_stock(kind: str) -> PreTrainedModel:
    if kind == "mini":
        from glotprompt.model.loading import MINI, open_backbone

        return open_backbone(MINI).model.eval()
    return random_model(tiny_config(kind))


@pytest.fixture(scope="session")
def stock() -> Callable[[str], PreTrainedModel]:
    """From "mini" or a tiny kind to the model as transformers makes it (sdpa); shared, not to be changed."""
    return load_stock


@pytest.fixture(scope="session")
def tiny_backbone() -> Callable[[str], Backbone]:
    """From "xlm-roberta", "bert" or "modernbert" to its backbone: made once, shared by all tests, not to be changed."""
    return cache(make_tiny_backbone)


@pytest.fixture
def own_backbone() -> Callable[[str], Backbone]:
    """As `tiny_backbone`, but a fresh one that the test may change."""
    return make_tiny_backbone


@pytest.fixture
def new_stock() -> Callable[[str], PreTrainedModel]:
    """As `stock`, but a fresh one that the test may change."""
    return load_stock.__wrapped__


@pytest.fixture(scope="session")
def sentence_encoder() -> Backbone:
    """A tiny backbone without an LM head; not to be changed."""
    from glotprompt.model.backbone import Backbone

    return Backbone(random_model(tiny_config("xlm-roberta")).base_model, load_tokenizer(), "tiny sentence encoder")


@pytest.fixture(scope="session")
def mini() -> Backbone:
    """The bundled backbone in fp32; not to be changed."""
    from glotprompt.model.backbone import Backbone

    return Backbone.load("mini", precision="fp32", device="cpu")


@pytest.fixture(scope="session")
def mini_tokenizer() -> PreTrainedTokenizerFast:
    """The bundled backbone's."""
    from glotprompt.model.loading import MINI, folder_of, read_tokenizer

    return read_tokenizer(folder_of(MINI))


@pytest.fixture(scope="session")
def mini_bf16() -> Backbone:
    """The bundled backbone in bf16; not to be changed."""
    from glotprompt.model.backbone import Backbone

    return Backbone.load("mini", precision="bf16", device="cpu")


@pytest.fixture(scope="session")
def tiny_folder(
    tmp_path_factory: pytest.TempPathFactory,
    stock: Callable[[str], PreTrainedModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """A tiny random XLM-R as transformers saves it."""
    folder = tmp_path_factory.mktemp("tiny-xlm-roberta")
    stock("xlm-roberta").save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def verse_data(tmp_path: Path) -> Path:
    """Twenty labelled verses of book 43, of which glv lacks one, and pairs of books 40 and 43."""
    for split, numbers in (("train", range(1, 13)), ("dev", range(13, 17)), ("test", range(17, 21))):
        folder = tmp_path / "taxi1500" / split
        folder.mkdir(parents=True)
        for code, text in (("eng", "king saw city number {}"), ("glv", "ree honnick balley earroo {}")):
            rows = [
                f"43001{n:03}\t{('Faith', 'Sin')[n % 2]}\t" + ("" if (code, n) == ("glv", 5) else text.format(n))
                for n in numbers
            ]
            (folder / f"{code}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    bible = tmp_path / "parallel" / "bible"
    bible.mkdir(parents=True)
    pairs = [f"40.1.{n}\tman went down to river {n}\tdooinney hie sheese awin {n}" for n in range(1, 31)]
    pairs += [f"43.1.{n}\tother king words {n}\tfockle elley ree {n}" for n in range(1, 31)]
    (bible / "eng-glv.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    return tmp_path
