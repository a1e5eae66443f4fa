"""Pages for anyone: the first one, the documentation and the icon, all of it from here."""

import functools
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel
from starlette.routing import BaseRoute, Mount, Route

from kit.context import context_of
from kit.openapi import under

HERE = Path(__file__).parent
TEMPLATES = Jinja2Templates(HERE / "templates")
LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
QUALITY = re.compile(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)")


class About(BaseModel):
    """What a service says of itself."""

    message: str
    docs: str
    version: str


# For the decorator of a route that returns `welcome(request)`.
WELCOME: dict[str, Any] = {
    "response_model": About,
    "responses": {200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
}


def welcome(request: Request) -> Response:
    """What the service is: in JSON or, to who would rather have one, as a page with links."""
    app = request.app
    docs = f"{context_of(request).prefix}/docs"
    about = About(message=app.title, docs=docs, version=app.version)
    headers = {"Vary": "Accept"}
    if wants_page(request):
        shown = {"title": app.title, "about": about, "links": app.links}
        return TEMPLATES.TemplateResponse(request, "welcome.html", shown, headers=headers)
    return JSONResponse(about.model_dump(), headers=headers)


def wants_page(request: Request) -> bool:
    """Whether a page will be looked at by a person: browsers say so where they go there."""
    sent = request.headers.get("Accept", "")
    return quality(sent, "text/html") > quality(sent, "application/json")


def quality(accept: str, kind: str) -> float:
    """How much a client wants this type, from 0 to 1 (RFC 9110, section 12.5.1)."""
    told = {}
    for part in accept.split(","):
        name, _, parameters = part.partition(";")
        found = QUALITY.search(parameters)
        told[name.strip().lower()] = float(found[1]) if found else 1
    ranges = kind, f"{kind.partition('/')[0]}/*", "*/*"
    return next((told[name] for name in ranges if name in told), 0)


class Parts(StaticFiles):
    """What the documentation is made of, without the one thing that would come from elsewhere.

    ReDoc has no option for the logo of its makers, which the browser would ask their site for.
    """

    def file_response(self, full_path: Any, *args: Any, **options: Any) -> Response:
        response = super().file_response(full_path, *args, **options)
        if Path(full_path).name != "redoc.standalone.js" or response.status_code != 200:
            return response
        kept = {name: response.headers[name] for name in ("etag", "last-modified")}
        return Response(redoc_of(full_path), headers=kept, media_type="text/javascript")


@functools.cache
def redoc_of(path: Any) -> bytes:
    return Path(path).read_bytes().replace(LOGO, b"data:,")


def pages(app: FastAPI) -> list[BaseRoute]:
    """The documentation, for which FastAPI's own pages would ask a CDN, and the icon."""

    async def openapi(request: Request) -> Response:
        return JSONResponse(under(context_of(request).prefix, app.openapi()))

    async def docs(request: Request) -> Response:
        return TEMPLATES.TemplateResponse(request, "docs.html", {"title": app.title})

    async def redoc(request: Request) -> Response:
        return TEMPLATES.TemplateResponse(request, "redoc.html", {"title": app.title})

    async def favicon(request: Request) -> Response:
        return FileResponse(HERE / "static" / "favicon.ico")

    shown = {"/openapi.json": openapi, "/docs": docs, "/redoc": redoc, "/favicon.ico": favicon}
    static = Mount("/static", Parts(packages=[("fastapi_offline", "static")]), name="static")
    return [static, *(Route(path, page) for path, page in shown.items())]
