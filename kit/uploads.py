"""A file that is sent: as the body, or in a form (RFC 7578) as its one part `file`."""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, cast

from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from kit.context import context_of
from kit.problems import NO_ROOM, BusyError, invalid

FileFormat = Literal["csv", "jsonl"]
MEDIA_TYPES: dict[FileFormat, str] = {"csv": "text/csv", "jsonl": "application/jsonl"}
FORM = "multipart/form-data"
# By what a file is called after its last dot, and by what it is sent as.
FORMATS: dict[str, FileFormat] = {
    **dict.fromkeys(("csv", "tsv", "txt"), "csv"),
    **dict.fromkeys(("jsonl", "ndjson"), "jsonl"),
    **dict.fromkeys(("text/csv", "text/tab-separated-values"), "csv"),
    **dict.fromkeys(("application/jsonl", "application/x-ndjson"), "jsonl"),
}
UTF_8 = {"utf8", "usascii", "ascii"}  # whatever stands between the letters
NO_FORMAT = "Send text/csv or application/jsonl, in UTF-8, or a form with it as the part `file`"
NO_FILE = "The form has to have one part: a file, as `file`"
NO_NAME = "Name the file .csv or .jsonl"


class Upload(NamedTuple):
    """A file that was sent, on the disk."""

    file: BinaryIO
    format: FileFormat


async def receive(request: Request) -> AsyncIterator[Upload]:
    """Put the file onto the disk first: a slow client holds no connection."""
    try:
        upload = await (from_form(request) if media_of(request) == FORM else from_body(request))
    except ClientDisconnect:
        raise HTTPException(400, "The file did not arrive whole") from None
    except OSError as error:  # a disk that is full, or no folder for temporary files
        raise BusyError(NO_ROOM) from error
    with upload.file:
        context_of(request).restart_time()
        yield upload


def media_of(request: Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def from_body(request: Request) -> Upload:
    if not (format := format_of(request.headers.get("Content-Type", ""))):
        raise HTTPException(415, NO_FORMAT)
    file = cast(BinaryIO, TemporaryFile())  # noqa: SIM115
    try:
        async for chunk in request.stream():
            file.write(chunk)
        file.flush()
    except BaseException:
        with suppress(OSError):  # for what could not be written
            file.close()
        raise
    return Upload(file, format)


async def from_form(request: Request) -> Upload:
    """The file in a form, of which no more than a mebibyte is in memory."""
    form = FormData()
    with suppress(MultiPartException, UnicodeError):  # the latter: a name in an odd charset
        parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=0)
        form = await parser.parse()
    wrong = NO_FILE
    if isinstance(part := form.get("file"), UploadFile):
        ending = (part.filename or "").rpartition(".")[2].lower()
        if format := format_of(part.content_type or "") or FORMATS.get(ending):
            return Upload(part.file, format)
        wrong = NO_NAME
    await form.close()
    raise RequestValidationError([invalid(("body", "file"), wrong)])


def format_of(content_type: str) -> FileFormat | None:
    """What a Content-Type says that a file is; None for another, or not in UTF-8."""
    media, *parameters = content_type.lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and re.sub(r"[^a-z0-9]", "", value) not in UTF_8:
            return None
    return FORMATS.get(media.strip()) if "/" in media else None


Uploaded = Annotated[Upload, Depends(receive)]


def takes_file(route: Any) -> bool:
    """Whether a file is sent to the route, which may be larger than other bodies."""
    return any(dependency.call is receive for dependency in route.dependant.dependencies)


def documented(content: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a body that is such a file, or a form with it."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {"required": True, "content": {FORM: {"schema": form}, **content}}
