"""`convert`: between our files, the folders of PEFT's prefix tuning and of AdapterHub; a backbone as transformers'."""

from __future__ import annotations

from glotprompt.cli.backbone import open_backbone, open_start, read_adapter
from glotprompt.cli.declare import Params
from glotprompt.cli.screen import note, suggest
from glotprompt.cli.tables import wrote
from glotprompt.data.languages import checked_code
from glotprompt.errors import ArtifactError, UserError
from glotprompt.formats import adapter_hub, peft
from glotprompt.inference.classifier import LanguageModule, LanguagePrompt, Part
from glotprompt.model.modules.adapters import Adapter
from glotprompt.records import Converted
from glotprompt.storage import atomic


def to_transformers(params: Params) -> None:
    """Write a backbone: weights in fp32, config and tokenizer."""
    output = params["output"]
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} is there already and not an empty folder; give a new one")
    backbone = open_backbone(params["model"], "fp32", "cpu")
    atomic.write_folder(output, backbone.save_pretrained)
    kind = backbone.family.auto_class if backbone.has_lm_head else "AutoModel"
    note(f"wrote {output} (transformers: {kind} and AutoTokenizer open it)")


def to_peft(params: Params) -> None:
    """Write a language prompt."""
    folder = params["folder"]
    peft.to_peft(LanguagePrompt.load(params["prompt"]), folder, allow_plain=params["allow_plain"])
    note(f"wrote {folder} (PEFT adapter)")
    note(f"next, in Python: peft.PeftModel.from_pretrained(model, {str(folder)!r})")


def from_peft(params: Params) -> None:
    """Read a prompt for its backbone."""
    checked_code(params["language"])
    backbone = open_backbone(params["model"], "fp32", params["device"])
    _save(peft.from_peft(params["folder"], backbone, params["language"]), params)


def to_adapter_hub(params: Params) -> None:
    """Write the adapter of the target, or of the source language."""
    loaded, backbone = open_start(params["module"], params["model"], "fp32", params["device"])
    part = "source" if params["of_source"] else "language"
    adapter = (
        loaded.parts[part].restored(backbone) if isinstance(loaded, LanguageModule) and part in loaded.parts else None
    )
    if not isinstance(adapter, Adapter):
        raise ArtifactError(f"{params['module']} holds no adapter alone; expected what adapt --method mad-x wrote")
    assert loaded is not None
    name = "source" if params["of_source"] else loaded.language
    adapter_hub.to_adapter_hub(adapter, backbone, params["folder"], name)
    note(f"wrote {params['folder']} (AdapterHub adapter)")


def from_adapter_hub(params: Params) -> None:
    """Read the adapters of both languages."""
    checked_code(params["language"])
    backbone = open_backbone(params["model"], "fp32", params["device"])
    folders = {"language": params["target"], "source": params["source"]}
    parts = {name: Part.of(read_adapter(folder, backbone)) for name, folder in folders.items()}
    report = Converted(converted_from="AdapterHub", origin={name: str(folder) for name, folder in folders.items()})
    _save(LanguageModule("mad-x", parts, params["language"], backbone.reference, report), params)


def _save(result: LanguagePrompt | LanguageModule, params: Params) -> None:
    output = params["output"]
    result.save(output)
    wrote(output, "language prompt" if isinstance(result, LanguagePrompt) else "language module")
    suggest("tune", "--prompt", output, "--train", "LABELLED.tsv", "--task", "news", "--output", "news.safetensors")
