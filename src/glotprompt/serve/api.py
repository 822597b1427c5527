"""The HTTP service as an ASGI application: routes, and errors in one shape."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from glotprompt.errors import ArtifactError, nearest
from glotprompt.jobs.workbench import Workbench
from glotprompt.model.backbone import Backbone
from glotprompt.serve.middleware import Authorised, BoundedBody, KnownHost, Observed, refusal_response
from glotprompt.serve.observed import CONTENT_TYPE, FIELDS, Metrics
from glotprompt.serve.registry import Registry
from glotprompt.serve.schemas import (
    ClassifierList,
    ErrorBody,
    FileError,
    Health,
    Item,
    PredictRequest,
    PredictResponse,
    Refusal,
)
from glotprompt.serve.service import Service, ServiceSettings
from glotprompt.serve.workspace import UPLOAD_BYTES, UPLOAD_ROUTE, add_workspace_routes
from glotprompt.version import __version__

PAGE = Path(__file__).parent / "page"
LOOK = Path(__file__).parent.parent / "assets" / "page.css"
"""The look of all pages, those of reports too."""

_FOLDERS = re.compile(r"""(?<=['"])[^'"]*/(?=[^'"/]+['"])""")
"""Matches the folders of a path in quotes."""
_CODES = {404: "not_found", 405: "method_not_allowed"}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body cannot be parsed, or the Host header names another host."},
    401: {"model": ErrorBody, "description": "The token is missing or wrong."},
    404: {"model": ErrorBody, "description": "There is no such classifier."},
    408: {"model": ErrorBody, "description": "The body did not come in time."},
    413: {"model": ErrorBody, "description": "More than one request may hold; GET /v1/classifiers says how much."},
    422: {"model": ErrorBody, "description": "Invalid request; the message says what is expected."},
    429: {"model": ErrorBody, "description": "Too much waits already; try again after Retry-After seconds."},
    503: {"model": ErrorBody, "description": "Not now; try again after Retry-After seconds."},
}


@dataclass(frozen=True)
class Access:
    """Access to a service."""

    token: str | None = field(default=None, repr=False)
    """Token that requests need, except for the pages and the health checks; None: no token."""
    allow_origins: tuple[str, ...] = ()
    """Origins whose pages may call it from a browser."""
    hosts: tuple[str, ...] | None = None
    """Host names and addresses that it answers to; None: any."""


def make_app(
    backbone: Backbone,
    registry: Registry,
    settings: ServiceSettings | None = None,
    access: Access | None = None,
    *,
    replica: str | None = None,
    bench: Workbench | None = None,
) -> FastAPI:
    """Build the application. `replica`: its name among several, for metrics. `bench`: the workspace in which people may
    train; it must be open while the application runs."""
    settings, access = settings or ServiceSettings(), access or Access()
    metrics = Metrics(replica)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        service = app.state.service = Service(backbone, registry, settings, metrics)
        poll = settings.poll_seconds
        with nullcontext() if poll is None else registry.watched(poll):
            try:
                yield
            finally:
                await asyncio.to_thread(service.close)

    app = FastAPI(
        title="glotprompt",
        version=__version__,
        summary="Text classifiers of many languages behind one frozen backbone.",
        docs_url=None,  # FastAPI's pages of documentation load scripts from elsewhere; ours is in PAGE
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.metrics = metrics
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    # A request passes the last one added first.
    larger = None if bench is None else (UPLOAD_ROUTE, UPLOAD_BYTES)
    app.add_middleware(BoundedBody, most_bytes=settings.limits.body_bytes, larger=larger)
    if access.token is not None:
        app.add_middleware(Authorised, token=access.token)
    if access.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    if access.hosts is not None:
        app.add_middleware(KnownHost, hosts=access.hosts)
    app.add_middleware(Observed, metrics=metrics)
    documented = [] if access.token is None else [Depends(HTTPBearer(auto_error=False))]
    app.state.trains = bench is not None
    if bench is not None:
        add_workspace_routes(app, bench, registry, documented)
    _add_routes(app, documented)
    return app


def _add_routes(app: FastAPI, documented: Sequence[Any]) -> None:
    guarded: dict[str, Any] = {"dependencies": documented}

    @app.post("/v1/predict", responses=_REFUSALS, tags=["predictions"], **guarded)
    async def predict(body: PredictRequest, request: Request) -> PredictResponse:  # pyright: ignore[reportUnusedFunction]
        """Classify texts."""
        fields: dict[str, Any] = request.scope[FIELDS]
        fields["items"] = len(body.items)
        answer = await _service(request).predict(body)
        fields |= {"tokens": answer.tokens, "queue_seconds": round(answer.response.queue_seconds, 6)}
        return answer.response

    @app.get("/v1/classifiers", responses={401: _REFUSALS[401]}, tags=["predictions"], **guarded)
    async def classifiers(request: Request) -> ClassifierList:  # pyright: ignore[reportUnusedFunction]
        """List the classifiers."""
        service = _service(request)
        registry = service.registry
        return ClassifierList(
            classifiers=registry.cards(),
            errors=[_file_error(path, error) for path, error in registry.errors().items()],
            limits=service.settings.limits,
            auto=service.finds_language,
            trains=request.app.state.trains,
        )

    @app.get("/healthz", responses={503: _REFUSALS[503]}, tags=["state"])
    async def healthz(request: Request) -> Health:  # pyright: ignore[reportUnusedFunction]
        """Whether the service is alive."""
        if not _service(request).batcher.is_open:
            raise Refusal(503, "stopped", "the model's thread has ended; start the service again", retry_after=5)
        return Health(status="ok")

    @app.get("/readyz", responses={503: _REFUSALS[503]}, tags=["state"])
    async def readyz(request: Request) -> Health:  # pyright: ignore[reportUnusedFunction]
        """Whether the service has classifiers."""
        service = _service(request)
        if not service.batcher.is_open or not service.registry.snapshot():
            raise Refusal(503, "not_ready", "no classifier is served; add one to the folder", retry_after=5)
        return Health(status="ready")

    @app.get("/metrics", response_class=Response, tags=["state"], **guarded)
    async def metrics(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Metrics for Prometheus."""
        service = _service(request)
        collected: Metrics = request.app.state.metrics
        return Response(collected.exposition(service.registry, service.batcher.waiting_tokens), media_type=CONTENT_TYPE)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:  # pyright: ignore[reportUnusedFunction]
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:  # pyright: ignore[reportUnusedFunction]
        return FileResponse(PAGE / "docs.html")

    @app.get("/static/page.css", include_in_schema=False)
    async def look() -> FileResponse:  # pyright: ignore[reportUnusedFunction]
        return FileResponse(LOOK)

    app.mount("/static", StaticFiles(directory=PAGE), name="static")


def _file_error(path: str, error: str) -> FileError:
    """The error of a file without its folders, which are not for clients. An error names its own file bare, other paths
    and backbones in quotes."""
    name = Path(path).name
    return FileError(file=name, error=_FOLDERS.sub("", error.replace(path, name)))


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    fields: dict[str, Any] = request.scope[FIELDS]
    fields["code"] = error.code
    return refusal_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "invalid_request")
    refused = refusal_response(Refusal(error.status_code, code, f"{error.detail}; see GET /openapi.json"))
    refused.headers.update(error.headers or {})
    return refused


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer with the first error of an invalid request, without quoting its input."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    source, *place = first["loc"]
    if source == "body" and "json" not in request.headers.get("content-type", ""):
        return refusal_response(Refusal(422, "invalid_request", "send JSON, with Content-Type: application/json"))
    if first["type"] == "json_invalid":
        return refusal_response(Refusal(422, "invalid_request", "the body is no valid JSON; see GET /openapi.json"))
    item = place[1] if place[:1] == ["items"] and len(place) > 1 else None
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        body: Any = request.scope["route"].body_field.field_info.annotation
        fields = (body if item is None else Item).model_fields
        message = f"unknown; known are {', '.join(fields) or 'none'}."
        message += nearest(str(place[-1]), fields)
    where = ".".join(map(str, place))[:200]
    return refusal_response(Refusal(422, "invalid_request", f"{where}: {message}" if where else message, item))


@dataclass(frozen=True)
class Blueprint:
    """Arguments of `make_app` and `Registry`, which a process that serves needs."""

    places: tuple[Path, ...]
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    cache_bytes: int = 256 * 2**20
    access: Access = field(default_factory=Access)
    may_be_empty: bool = False
    """Whether the service may start without a classifier."""

    def registry(self, backbone: Backbone) -> Registry:
        """The classifiers. Raises `ArtifactError` if none of them can be served."""
        registry = Registry(self.places, backbone, self.cache_bytes)
        if not registry.names() and not self.may_be_empty:
            reason = next(iter(registry.errors().values()), "they are gone")
            raise ArtifactError(f"no classifier can be served: {reason}")
        return registry

    def app(
        self, backbone: Backbone, registry: Registry, replica: str | None = None, bench: Workbench | None = None
    ) -> FastAPI:
        """The application; `replica`: the name of this process among several that serve the same."""
        return make_app(backbone, registry, self.settings, self.access, replica=replica, bench=bench)


def url(host: str, port: int) -> str:
    """The URL of a service at this address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
