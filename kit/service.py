"""The app: FastAPI, with what every service needs around its routes."""

import asyncio
import functools
import gc
import inspect
import logging
import signal
import threading
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from kit import logs, problems, protocol, telemetry
from kit.database import Database
from kit.driver_errors import NotMigratedError
from kit.feed import Feed
from kit.front import Front
from kit.local import ONLY_HERE, OnlyHere
from kit.migrations import Migrations
from kit.openapi import HEADERS, document
from kit.problems import BusyError
from kit.reading import AsyncReading
from kit.route import Route, undeclared
from kit.settings import split_origins
from kit.uploads import takes_file
from kit.welcome import pages

logger = logging.getLogger("kit")


class Service(FastAPI):
    """An app whose routes say who may call them, on a database that migrates at the start."""

    def __init__(
        self, database: Database, migrations: Migrations, reading: AsyncReading, **options: Any
    ) -> None:
        self.database, self.migrations, self.reading = database, migrations, reading
        self.settings = settings = database.settings
        self.feeds: list[Feed] = []
        self.fixed_paths = set[str]()  # those without parameters: see Route.matches
        self.file_paths = set[str]()  # where a body is a file, which may be larger than others
        self.known: list[Any] = []  # routes that ask by themselves who calls, or need not
        self.outermost: list[Callable[[ASGIApp], ASGIApp]] = []  # what is put around all else
        self.links = {"docs": "Interactive documentation", "redoc": "Documentation to read"}
        super().__init__(
            title=settings.app_name,
            version=version_in(migrations.home / "pyproject.toml"),
            debug=settings.debug,
            lifespan=lifespan,
            servers=[{"url": "/"}, {"url": "/api/v1"}],
            generate_unique_id_function=lambda route: route.name,  # so clients read well
            telemetry=telemetry.configuration(settings, database.pool_use),
            **options,
        )
        self.router.route_class = Route
        problems.install(self)
        self.add_exception_handler(NotMigratedError, self.on_not_migrated)
        protocol.install()
        self.add_middleware(Front, service=self)

    def setup(self) -> None:
        """Add pages for anyone in the place of FastAPI's, which load their parts from elsewhere."""
        self.known += pages(self)
        if self.settings.metrics:
            self.known.append(telemetry.METRICS)
        self.router.routes += self.known

    def build_middleware_stack(self) -> ASGIApp:
        """Put around all else, what answers a fault included, who may ask, and from where."""
        app: ASGIApp = super().build_middleware_stack()
        refusal: ASGIApp = problems.problem(403, ONLY_HERE)
        if origins := split_origins(self.settings.cors_origins):
            every: Any = {"allow_methods": ["*"], "allow_headers": ["*"]}
            cors = CORSMiddleware(app, origins, **every, expose_headers=[*HEADERS, logs.REQUEST_ID])
            app, refusal = cors, told_to_origins(cors, refusal)
        app = OnlyHere(app, self.settings, refusal)
        for put_around in self.outermost:
            app = put_around(app)
        return logs.with_request_id(logs.AccessLog(app))

    async def on_not_migrated(self, request: Request, error: Exception) -> Response:
        sentence = await asyncio.to_thread(self.migrations.what_is_wrong)
        return await problems.on_busy(request, BusyError(sentence or str(error)))

    def note(self, route: Route) -> None:
        """Take note of what has to be known of a route before it is found."""
        if not route.param_convertors:
            self.fixed_paths.add(route.path)
        if takes_file(route):
            self.file_paths.add(route.path)

    def openapi(self) -> dict[str, Any]:
        self.openapi_schema = self.openapi_schema or document(self)
        return self.openapi_schema

    def feed(self, model: Any) -> Feed:
        """The rows of a table as they are committed, until the process is told to stop."""
        self.feeds.append(Feed(self.reading, model))
        return self.feeds[-1]

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """As FastAPI's, with each route as if it were defined on the app."""
        super().include_router(router, **options)
        included: Any = self.router.routes.pop()
        for context in included.effective_route_contexts():
            route = context.original_route
            if not isinstance(route, APIRoute):
                raise TypeError(undeclared(route))
            names = inspect.signature(APIRoute).parameters
            options = {name: getattr(context, name, getattr(route, name, None)) for name in names}
            options["endpoint"] = getattr(route, "own_endpoint", route.endpoint)
            self.router.routes.append(Route(**{**options, "dependency_overrides_provider": self}))


def version_in(project: Path) -> str:
    """The service's own, which is written there and nowhere else."""
    with project.open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


@asynccontextmanager
async def lifespan(app: Service) -> AsyncIterator[None]:
    """Migrate before the first request, and let go of the database after the last."""
    refuse_undeclared_routes(app)
    logs.set_up(app.settings)
    if app.settings.migrate_on_start:
        await asyncio.to_thread(app.migrations.run)
        if wrong := await asyncio.to_thread(app.migrations.what_is_wrong):
            logger.error(wrong)
    end_streams_on_signals(app)
    gc.collect()
    gc.freeze()  # what is there by now stays: no collection needs to look at it again
    gc.set_threshold(100_000, 10, 10)  # requests leave it nothing: see their test
    yield
    await asyncio.to_thread(app.database.close)
    await app.reading.close()


def told_to_origins(cors: CORSMiddleware, refusal: ASGIApp) -> ASGIApp:
    """The refusal, for pages of web origins to read; a preflight is refused as well."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        told = functools.partial(cors.send, send=send, request_headers=Headers(scope=scope))
        await refusal(scope, receive, told)

    return refuse


def refuse_undeclared_routes(app: Service) -> None:
    """Do not start with what asks nobody who they are: a route without a gate, a WebSocket."""
    for route in app.routes:
        if route not in app.known and not (isinstance(route, Route) and route.gate):
            raise RuntimeError(undeclared(route))


def end_streams_on_signals(app: Service) -> None:
    """End the event streams when the process is told to stop: a server waits for open answers."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def end_streams(handler: Callable[..., Any], number: int, frame: Any) -> None:
        for feed in app.feeds:
            loop.call_soon_threadsafe(feed.close)
        handler(number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(handler := signal.getsignal(number)):  # the server's own
            signal.signal(number, functools.partial(end_streams, handler))
