"""The application that the pages are: mounted at /admin, with a dashboard as its first page."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from io import SEEK_END
from pathlib import Path
from typing import Any, cast

import sqladmin
from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from sqladmin import BaseView, expose
from sqladmin.authentication import login_required
from sqlmodel import Session
from starlette.datastructures import URL
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware

from kit.admin.calls import RefusedError, call, load, preview, receiving, refused
from kit.admin.dashboard import Dashboard, Table, as_shown
from kit.admin.errors import ErrorPages, with_time
from kit.admin.filters import is_id
from kit.admin.log_in import FormTokens, LogInPage, check_token, sent_form
from kit.admin.saving import ANYWAY
from kit.admin.telling import Telling, tell
from kit.admin.views import AdminView
from kit.admin.words import small
from kit.files import TableFile
from kit.log_ins import LogIns
from kit.previews import Preview
from kit.problems import BusyError, on_busy
from kit.service import Service
from kit.uploads import MEDIA_TYPES

HERE = Path(__file__).parent
A_WHILE = 0.3  # seconds

# What a rule refused is told in the form: it is no fault to be logged, as sqladmin would.
REFUSALS = RefusedError, StarletteHTTPException
logging.getLogger("sqladmin.application").addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], REFUSALS))
)


class Admin(sqladmin.Admin):
    """The pages of every `AdminView` that there is by now.

    Superusers log in by the `log_ins`; `log_out` ends all tokens of who does so. `dashboard` says
    what the first page shows, which is empty without it. The options are sqladmin's: `title`,
    `logo_url`...
    """

    def __init__(
        self,
        app: Service,
        log_ins: LogIns,
        log_out: Callable[[Session], None],
        dashboard: Callable[[Session], Dashboard] = lambda session: Dashboard(),
        pages: Mapping[str, Callable[[Session], Table]] | None = None,
        **options: Any,
    ) -> None:
        options["templates_dir"] = str(HERE / "templates")
        options["static_files_kwargs"] = {"directory": HERE / "static"}
        tokens = Middleware(FormTokens, access=log_ins.access)
        options["middlewares"] = [tokens, Middleware(Telling)]
        self.log_in_page = LogInPage(log_ins, log_out)
        super().__init__(app, authentication_backend=self.log_in_page, **options)
        app.known.append(app.routes[-1])  # which asks by itself who calls
        app.links["admin:index"] = "Administration"
        self.templates.env.filters["shown"] = as_shown
        self.database = database = log_ins.database
        self.dashboard, self.pages = dashboard, dict(pages or {})
        self.admin.exception_handlers = dict(app.exception_handlers)
        app.outermost.append(functools.partial(ErrorPages, service=app, admin=self))
        self.add_routes()
        self.add_view(DashboardView)
        for kind in AdminView.__subclasses__():
            self.add_view(kind)
        views = [view for view in self.views if isinstance(view, AdminView)]
        for view in views:
            view.connect(database, log_ins.access.users, views)
        for path in [f"{self.base_url}/{view.identity}" for view in views if view.file]:
            app.file_paths |= {f"{path}/import", f"{path}/preview"}

    def add_routes(self) -> None:
        for path, function, methods in [
            ("/{identity}/actions/{action}", self.act, ["POST"]),
            ("/{identity}/pick-new", self.pick_new, ["POST"]),
            ("/{identity}/preview", self.preview, ["POST"]),
            ("/pages/{name}", self.page, ["GET"]),
        ]:
            self.admin.router.add_route(path, function, methods, name=function.__name__)
        for route in cast(Any, self.admin.routes):
            if route.name == "logout":  # with a GET it would be a link, or an image, of any page
                route.methods = {"POST"}

    @login_required
    async def index(self, request: Request) -> Response:
        dashboard = await self.database.reader.do(request, self.dashboard)
        shown = {"dashboard": dashboard, "title": "Dashboard"}
        return await self.templates.TemplateResponse(request, "dashboard.html", shown)

    async def login(self, request: Request) -> Response:
        """The log-in, which says what was wrong, and keeps the name."""
        told, status, headers = dict[str, Any](), 200, dict[str, str]()
        if request.method == "POST":
            try:
                return await self.log_in_page.login(request)
            except HTTPException as error:
                status, headers = error.status_code, {**(error.headers or {})}
                name = getattr(request.state, "username", "")
                told = {"error": with_time(error.detail, headers), "username": name}
            except BusyError as error:
                busy = await on_busy(request, error)
                status, headers = busy.status_code, {"Retry-After": busy.headers["Retry-After"]}
                told = {"error": with_time(str(error), headers)}
        page = await self.templates.TemplateResponse(request, "sqladmin/login.html", told, status)
        page.headers.update(headers)
        return page

    @login_required
    async def page(self, request: Request) -> Response:
        if not (table := self.pages.get(request.path_params["name"])):
            raise HTTPException(404)
        shown = {"table": await self.database.reader.do(request, table)}
        return await self.templates.TemplateResponse(request, "page.html", shown)

    _handle_form_data = staticmethod(sent_form)

    async def list(self, request: Request) -> Response:
        if "error" in request.query_params:  # which would be shown, whoever wrote it
            return RedirectResponse(request.url.remove_query_params("error"), 302)
        answer: Response = await super().list(request)
        return answer

    async def edit(self, request: Request) -> Response:
        try:
            answer: Response = await super().edit(request)
        except StarletteHTTPException as error:
            if error.status_code != 404 or request.method != "POST":
                raise
            name = small(self.view_of(request).name)
            raise HTTPException(
                404, f"This {name} is not there any more, so nothing is saved"
            ) from None
        return answer

    @staticmethod
    def get_save_redirect_url(request: Request, form: Any, model_view: Any, obj: Any) -> URL:
        """Where a button leads, with the query of the list, which so is as it was."""
        sent: Any = {"save": "Save"} if form.get("save") == ANYWAY else form
        url = sqladmin.Admin.get_save_redirect_url(request, sent, model_view, obj)
        return URL(str(url)).replace(query=request.url.query)

    @login_required
    async def delete(self, request: Request) -> Response:
        """Delete these rows or, if one of them cannot be, none, and say why not."""
        check_token(request.headers.get("X-CSRF-Token"))
        ids = ids_in(request.query_params.get("pks", ""), "There is nothing to delete")
        view = self.view_of(request)
        if not (view.can_delete and view.is_accessible(request)):
            raise HTTPException(403)
        named = await view.named(ids)
        try:
            await call(self.database, request, view.routes[2], {}, *ids)
        except RefusedError as error:
            return PlainTextResponse(await view.told(error), 409)
        tell(request, f"{named} deleted")
        return Response(status_code=204)

    @login_required
    async def act(self, request: Request) -> Response:
        """Do what an action does with these rows or, if one of them refuses, with none."""
        form, view = await sent_form(request), self.view_of(request)
        name = request.path_params["action"]
        action = next((action for action in view.actions if action.name == name), None)
        if not action or not view.is_accessible(request):
            raise HTTPException(404)
        rows = sorted({*ids_in(str(form.get("pks", "")), "No row is chosen")})
        try:
            await call(self.database, request, action.route, {}, *rows, **action.values)
        except RefusedError as error:
            tell(request, await view.told(error), refused=True)
        else:
            tell(request, f"{action.label}: {await view.named(rows)}")
        back, index = str(form.get("back", "")), request.url_for("admin:index").path
        own = back if back.startswith(f"{view.identity}/") else f"{view.identity}/list"
        return RedirectResponse(f"{index}{own}", 303)

    @login_required
    async def ajax_lookup(self, request: Request) -> Response:
        """What a picker offers, also before anything is typed."""
        view, asked = self.view_of(request), request.query_params
        look_up = view.look_ups.get(asked.get("name", ""))
        if not look_up or not view.is_accessible(request):
            raise HTTPException(404)
        return JSONResponse({"results": await look_up.choices(request, asked.get("term", ""))})

    @login_required
    async def pick_new(self, request: Request) -> Response:
        """Make a row of the name that was typed in a picker, or say why not."""
        form, view = await sent_form(request), self.view_of(request)
        if not view.new_by or not view.is_accessible(request):
            raise HTTPException(404)
        sent = {view.new_by: str(form.get("name", ""))}
        try:
            row = await call(self.database, request, view.routes[0], sent)
        except RefusedError as error:
            return PlainTextResponse(str(error), 409)
        return JSONResponse({"id": str(row.id), "text": str(row)})

    @login_required
    async def export(self, request: Request) -> Response:
        file, format = self.file_of(request), request.path_params["export_type"]
        if format not in MEDIA_TYPES:
            raise HTTPException(404)
        return await self.database.reader.do(request, lambda s: file.export(s, format))

    @login_required
    async def import_endpoint(self, request: Request) -> Response:
        """Import a file, all of it or, if a line is bad, nothing, and say why not."""
        check_token(request.headers.get("X-CSRF-Token"))
        try:
            return PlainTextResponse(await load(self.database, request, self.file_of(request)))
        except RefusedError as error:
            return PlainTextResponse(str(error), 409)

    @login_required
    async def preview(self, request: Request) -> Response:
        """What an import of this file would do: a line now and then with how much is read, a page.

        The lines are numbers, of 1 for all of it.
        """
        check_token(request.headers.get("X-CSRF-Token"))
        view, file, stack = self.view_of(request), self.file_of(request), AsyncExitStack()
        try:
            with refused(request):
                upload = await stack.enter_async_context(receiving(request))
        except RefusedError as error:
            return PlainTextResponse(str(error), 409)

        async def pieces() -> AsyncIterator[str]:
            size = upload.file.seek(0, SEEK_END) or 1
            upload.file.seek(0)
            work = asyncio.ensure_future(preview(self.database, request, file, upload))
            try:
                while not (await asyncio.wait([work], timeout=A_WHILE))[0]:
                    yield f"{upload.file.tell() / size:.3f}\n"
                yield await self.preview_page(request, view, work)
            finally:
                work.cancel()
                await stack.aclose()

        return StreamingResponse(pieces(), media_type="text/html")

    async def preview_page(
        self, request: Request, view: AdminView, work: asyncio.Future[Preview]
    ) -> str:
        shown: dict[str, Any] = {"model_view": view}
        try:
            shown["preview"] = work.result()
        except RefusedError as error:
            shown["refused"] = str(error)
        page = await self.templates.TemplateResponse(request, "preview.html", shown)
        return bytes(page.body).decode()

    def view_of(self, request: Request) -> AdminView:
        found = (view for view in self.views if view.identity == request.path_params["identity"])
        if isinstance(view := next(found, None), AdminView):
            return view
        raise HTTPException(404)

    def file_of(self, request: Request) -> TableFile:
        view = self.view_of(request)
        if view.file and view.is_accessible(request) and (view.file.key or request.method == "GET"):
            return view.file
        raise HTTPException(404)


def ids_in(sent: str, none: str) -> list[int]:
    """The ids that a list's boxes send, with commas; 400, with the sentence, for anything else."""
    ids = sent.split(",")
    if not all(map(is_id, ids)):
        raise HTTPException(400, none)
    return [*map(int, ids)]


class DashboardView(BaseView):
    """The dashboard's place in the menu."""

    name = "Dashboard"
    icon = "fa-solid fa-chart-column"

    @expose("/")
    async def show(self, request: Request) -> Response:
        answer: Response = await cast(Any, self)._admin_ref.index(request)
        return answer
