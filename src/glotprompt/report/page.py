"""Pages of HTML from templates, self-contained: no scripts, no outside requests, one look."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glotprompt.errors import MissingExtraError
from glotprompt.report import tables

if TYPE_CHECKING:
    import jinja2


def template(file: Path, what: str, extra: str) -> jinja2.Template:
    """A page's template, with the formats of `tables` as filters, and the look of all pages as `look_of_pages`. A
    missing value becomes a dash, an undefined name an error. Raises a `MissingExtraError` that says that `what` needs
    the extra."""
    try:
        import jinja2
    except ModuleNotFoundError:
        raise MissingExtraError(what, extra) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_or_dash,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (tables.number, tables.percent, tables.mean_sd, tables.size, tables.duration, tables.method_name)
    environment.filters.update({function.__name__: function for function in formats})
    look_of_pages = files("glotprompt").joinpath("assets", "page.css").read_text(encoding="utf-8")
    return environment.get_template(file.name, globals={"look_of_pages": look_of_pages})


def _or_dash(value: Any) -> Any:
    return tables.DASH if value is None else value
