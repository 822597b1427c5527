"""Registry of methods: their descriptions, without their code.

Nothing here needs torch: `config` reads names and default rates, `report` printed names and colours. A method's code is
beside its description, in a file of `glotprompt.methods` or in another package. All are loaded when a method is first
looked up, so that modules below `methods` can use the registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from glotprompt.errors import ConfigError, in_a_line

Stage = Literal["adapt", "tune"]

GROUP = "glotprompt.methods"
"""The package of our own methods, and the group of entry points under which other packages offer theirs."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Name, colour and marker of a method in tables and figures."""

    name: str
    """Its name in print, short enough for a table."""
    long_name: str = ""
    """Its name in running text, where there is room; "": `name`."""
    colour: str = "#a0679a"
    """Its colour. After Okabe and Ito's colour-blind safe set, moved to a lightness that stands out by at least 3 to 1
    from a white and from a near-black page. So many cannot all be told apart by everybody: see the markers."""
    marker: str = "*"
    """matplotlib's marker, so that a figure can be read without colours."""
    place: int = 0
    """Its position among the rows of results: baselines first, the adapted soft prompt last."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """Description of a method."""

    name: str
    """Its name in `--method` and in configs."""
    citation: str
    """The publication."""
    look: Look
    stage2: str
    """The parameters that stage 2 trains, in words."""
    stage1: str | None = None
    """The parameters that stage 1 trains, in words; None: there is no stage 1."""
    kinds: tuple[str, ...] = ()
    """Kinds of `Module` that stage 1 may produce."""
    shares: Mapping[str, float] | None = None
    """The share of source text that each part of stage 1's result is trained on, where the method settles it. None: one
    part, "language", with the config's `source_share`."""
    rates: Mapping[Stage, float] = field(default_factory=dict[Stage, float])
    """Default peak learning rates of the stages; of one without, that of soft-prompt."""
    settings: Mapping[Stage, Mapping[str, str]] = field(default_factory=dict[Stage, Mapping[str, str]])
    """The settings of the configs that only some methods read, this one among them; with each, why it has no effect
    with a method that does not ("trains no LoRA")."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of stage 1's result, one training each."""
        return tuple(self.shares or ("language",))

    @property
    def adapts_prompt(self) -> bool:
        """Whether stage 1 trains a prompt, which may start from text or from saved prompts."""
        return "prompt" in self.kinds


class Registry(Mapping[str, Description]):
    """All methods by name: built-in ones, then those of other packages."""

    def __init__(self) -> None:
        self._methods: dict[str, Description] = {}
        self._points: list[EntryPoint] | None = None
        """Entry points that are not loaded yet; None: not searched yet."""

    def add(self, method: Description) -> None:
        """Add a method. Raises `ConfigError` where another one has its name."""
        if self._methods.setdefault(method.name, method) is not method:
            raise ConfigError(f"there is a method {method.name!r} already; give this one another name")

    def _loaded(self) -> dict[str, Description]:
        import_module(GROUP)
        if self._points is None:
            self._points = list(entry_points(group=GROUP))
        while self._points:
            point = self._points.pop()  # before loading, as the loaded package may look up methods
            try:
                self.add(point.load())
            except Exception as error:
                self._points.append(point)
                package = point.module if point.dist is None else point.dist.name
                raise ConfigError(
                    f"the package {package} offers a method {point.name!r} that cannot be loaded"
                    f" ({in_a_line(error)}); update the package, or uninstall it"
                ) from error
        return self._methods

    def __getitem__(self, name: str) -> Description:
        return self._loaded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


DESCRIPTIONS = Registry()
