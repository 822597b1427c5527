"""Pages of HTML from templates, self-contained: no scripts, no outside requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from glotprompt.report import tables


def template(file: Path) -> jinja2.Template:
    """A page's template, with the formats of `tables` as filters. A missing value becomes a dash, an undefined name an
    error."""
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
    return environment.get_template(file.name)


def _or_dash(value: Any) -> Any:
    return tables.DASH if value is None else value
