"""What forms do: they call the functions of routes, with their bodies and as their transactions."""

import functools
import inspect
import logging
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast, get_args, get_type_hints

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from pydantic import BaseModel, ValidationError

from kit.admin.forms import body_of
from kit.conditions import on_condition
from kit.database import Database
from kit.files import TableFile
from kit.previews import Notes, Preview
from kit.problems import BusyError, ConflictError, InvalidValueError, sentence_of
from kit.uploads import Upload, receive

logger = logging.getLogger("kit")
receiving = asynccontextmanager(receive)


class RefusedError(Exception):
    """What a form asked for and a rule refused, in a sentence, and the rule's own error.

    Of several rows, `id` is the one that it is about.
    """

    id: int | None = None

    def __init__(self, told: str, reason: Exception | None = None) -> None:
        super().__init__(told)
        self.reason = reason


def body_type(route: Any) -> type[BaseModel]:
    """What a route's function takes as `data`, as clients send it."""
    found: type[BaseModel] = get_type_hints(maker_of(route) or route)["data"]
    return found


def maker_of(route: Any) -> Any:
    """The dependency that makes `data` of what was sent, hashing passwords; None if it is that."""
    data = get_type_hints(route, include_extras=True).get("data")
    return next((each.dependency for each in get_args(data) if isinstance(each, Depends)), None)


async def load(database: Database, request: Request, file: TableFile) -> str:
    """Import the file that was sent into its table: what came of it; RefusedError says why not.

    With the digest of a preview as If-Match it has to do just what that said.
    """
    expected = request.headers.get("If-Match", "").strip('"')

    def work() -> str:
        notes = Notes(file.target)
        file.load(session, upload, notes)
        if expected not in ("", notes.digest):
            raise ConflictError("What this file would do has changed since the preview")
        return notes.told

    with refused(request):
        async with receiving(request) as upload:
            session = database.writer.session(request, alone=True)
            return cast(str, await database.writer.run(work, session))


async def preview(database: Database, request: Request, file: TableFile, upload: Upload) -> Preview:
    """What `load` would do, or what is wrong with the lines; RefusedError says why not."""
    one_writes = database.writer.engine.dialect.name == "sqlite"  # see `previews.undone`
    connections = database.reader if one_writes else database.writer
    session = connections.session(request, alone=True)
    with refused(request):
        try:
            work = functools.partial(file.preview, session, upload)
            return cast(Preview, await connections.run(work, session))
        except RequestValidationError as error:
            return Preview(errors=error.errors())


async def call(
    database: Database,
    request: Request,
    route: Any,
    sent: dict[str, Any],
    *ids: int,
    **more: Any,
) -> Any:
    """Call the function, for each of the ids, in one transaction; RefusedError says why not."""
    session = database.writer.session(request, alone=len(ids) > 1)
    names = inspect.signature(route).parameters
    values: dict[str, Any] = {"session": session, **more}
    at = [0]  # which row

    def work() -> Any:
        row = None
        for id in ids or [0]:
            at[0] = id
            known = values | {name: id for name in names if name.endswith("_id")}
            row = on_condition(session, functools.partial(route, **known))
            session.flush()
        return row

    try:
        with refused(request):
            if "data" in names:
                body, make = body_of(body_type(route), sent), maker_of(route)
                values["data"] = await make(request, body, *ids) if make else body
            return await database.writer.run(work, session)
    except RefusedError as error:
        error.id = at[0] if len(ids) > 1 else None
        raise


@contextmanager
def refused(request: Request) -> Iterator[None]:
    """Raise RefusedError with a sentence for whatever goes wrong in it."""
    try:
        yield
    except Exception as error:
        raise RefusedError(sentence(request, error), error) from None


def sentence(request: Request, error: Exception) -> str:
    """What is told of it."""
    if isinstance(error, RequestValidationError):
        return "\n".join(
            f"Line {', '.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()
        )
    if isinstance(error, HTTPException):
        return error.detail
    if isinstance(error, ConflictError) and "." in (error.field or ""):  # "order_line.product_id"
        other = str(error.field).partition(".")[0].replace("_", " ")
        return f"At least one {other} still refers to it"
    if isinstance(error, ConflictError | InvalidValueError | BusyError):
        return str(error)
    if isinstance(error, ValidationError):
        return sentence_of(error.errors(include_input=False)[0])
    logger.exception("%s %s", request.method, request.url.path)
    return "Something went wrong here; it has been logged"
