"""All that an application is made of besides the backbone, in values that another process can be sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI

from glotprompt.errors import ArtifactError
from glotprompt.model.encoder import Encoder
from glotprompt.serve.api import make_app
from glotprompt.serve.registry import Registry
from glotprompt.serve.service import ServiceSettings


@dataclass(frozen=True)
class Blueprint:
    """See `make_app` and `Registry`."""

    places: tuple[Path, ...]
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    cache_bytes: int = 256 * 2**20
    token: str | None = field(default=None, repr=False)
    allow_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    poll_seconds: float | None = None

    def registry(self, encoder: Encoder) -> Registry:
        """The classifiers. Raises `ArtifactError` where not one of them can be served."""
        registry = Registry(self.places, encoder, self.cache_bytes)
        if not registry.names():
            reason = next(iter(registry.errors().values()), "they are gone")
            raise ArtifactError(f"no classifier can be served: {reason}")
        return registry

    def app(self, encoder: Encoder, registry: Registry, replica: str | None = None) -> FastAPI:
        """`replica` is the name of this process among those that serve the same."""
        return make_app(
            encoder, registry, self.settings, token=self.token, allow_origins=self.allow_origins,
            hosts=self.hosts, poll_seconds=self.poll_seconds, replica=replica,
        )  # fmt: skip


def url(host: str, port: int) -> str:
    """Of a service that listens there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
