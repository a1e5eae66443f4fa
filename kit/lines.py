"""What a file of rows is: CSV (RFC 4180) or JSON Lines, in UTF-8.

Values are written as cells and lines, and read from them as the same values. A file is read line
by line, however large it is. What is wrong with a line is told by the number of the line, where
its record begins, the header of a CSV being line 1; never by what it says.

In CSV an apostrophe stands before text that a spreadsheet would take for a formula (OWASP, "CSV
Injection"), and alone for text of no length. One also stands after a `;`, a tab or a line break
inside a text, where what follows would be a formula: for a spreadsheet that separates by these.
Reading takes it away.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from tempfile import TemporaryFile
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, cast

from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import MISSING, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from kit.context import context_of
from kit.json import exact_json
from kit.problems import invalid

FileFormat = Literal["csv", "jsonl"]
MEDIA_TYPES: dict[FileFormat, str] = {"csv": "text/csv", "jsonl": "application/jsonl"}
LONGEST_LINE = 256 * 1024  # bytes, with the empty lines before it
MOST_BAD_LINES = 100  # that a client is told of

# Cells: the text of values in CSV

# What a spreadsheet takes for a formula, full-width signs included; and what has an apostrophe
# in front already, or nothing at all in it.
FORMULA = re.compile(r"'*\Z|['\s]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# What in a text may begin a cell in a spreadsheet that separates by other characters than `,`,
# for which the quotes around the text are none, and what comes before a formula there.
SEPARATOR = re.compile(r"[;\t\r\n]")
MARKED_SEPARATOR = re.compile(rf"({SEPARATOR.pattern})'")
BEFORE_FORMULA = re.compile(r"""(?<![;'"\s])[;'"\s]+(?=[=+\-@\uff1d\uff0b\uff0d\uff20])""")


def cell_of(value: Any) -> str:
    """A value as text for CSV; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = BEFORE_FORMULA.sub(lambda run: SEPARATOR.sub(r"\g<0>'", run[0]), value)
        return f"'{text}" if FORMULA.match(text) else text
    if isinstance(value, dict | list):
        return cell_of(json.dumps(value, ensure_ascii=False))
    return str(json_value(value)) if isinstance(value, datetime) else str(value)


def read_text(cell: str) -> str:
    text = cell[1:] if cell[:1] == "'" and FORMULA.match(cell[1:]) else cell
    return BEFORE_FORMULA.sub(lambda run: MARKED_SEPARATOR.sub(r"\1", run[0]), text)


def read_flag(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell.lower(), cell)


def read_json(cell: str) -> Any:
    try:
        return exact_json(read_text(cell))
    except json.JSONDecodeError:
        return cell


class Column(NamedTuple):
    """How cells are read: whether nothing in one is null, and what else there may be."""

    is_nullable: bool = False
    read: Callable[[str], Any] = read_text

    def value(self, cell: str) -> Any:
        """What a cell says; MISSING for nothing, where nothing is no value."""
        return self.read(cell) if cell else None if self.is_nullable else MISSING


def json_value(value: Any) -> float | str:
    """A value as it is in the JSON of every answer, where JSON has no such type."""
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


# Writing


def head_of(format: FileFormat, columns: Iterable[str]) -> str:
    """What stands before all rows."""
    return "\ufeff" + ",".join(columns) + "\r\n" if format == "csv" else ""  # marked, for Excel


def text_of(format: FileFormat, rows: Iterable[Mapping[str, Any]]) -> str:
    if format == "jsonl":
        options: Any = {"default": json_value, "ensure_ascii": False, "separators": (",", ":")}
        return "".join(f"{json.dumps(row, **options)}\n" for row in rows)
    text = io.StringIO()
    csv.writer(text).writerows(map(cell_of, row.values()) for row in rows)
    return text.getvalue()


# Receiving


class Upload(NamedTuple):
    """A file that was sent, on the disk."""

    file: BinaryIO
    format: FileFormat


FILE_TYPE = re.compile(
    r"(text/csv|application/jsonl)"
    r"( *; *(charset=\"?(utf-8|us-ascii)\"?|header=\"?present\"?))* *",  # RFC 4180, section 3
    re.IGNORECASE,
)


async def receive(request: Request) -> AsyncIterator[Upload]:
    """Put the body into a file first: a slow client holds no connection."""
    content_type = FILE_TYPE.fullmatch(request.headers.get("Content-Type", ""))
    if not content_type:
        raise HTTPException(415, "Send text/csv or application/jsonl, in UTF-8")
    with TemporaryFile() as file:
        try:
            async for chunk in request.stream():
                file.write(chunk)
        except ClientDisconnect:
            raise HTTPException(400, "The file did not arrive whole") from None
        context_of(request).restart_time()
        is_csv = content_type[1].lower() == "text/csv"
        yield Upload(cast(BinaryIO, file), "csv" if is_csv else "jsonl")


Uploaded = Annotated[Upload, Depends(receive)]


def takes_file(route: Any) -> bool:
    """Whether a file is sent to the route, which may be larger than other bodies."""
    return any(dependency.call is receive for dependency in route.dependant.dependencies)


# Reading

Line = tuple[int, dict[str, Any]]  # its number, and the fields in it


class Lines:
    """The lines of a file that are right, each by itself, and what is wrong with the others.

    Each has to name the key, and is validated by `model`.
    """

    def __init__(
        self, upload: Upload, columns: Mapping[str, Column], key: str, model: TypeAdapter[Any]
    ) -> None:
        self.upload, self.columns, self.key, self.model = upload, columns, key, model
        self.errors: dict[int, list[dict[str, Any]]] = {}

    def refuse(self, line: int, msg: str, *fields: str, type: str = "invalid") -> None:
        self.errors.setdefault(line, []).append(invalid(("line", line, *fields), msg, type))

    def is_refused(self) -> bool:
        """Whether there are as many bad lines as a client is told of."""
        return len(self.errors) >= MOST_BAD_LINES

    def raise_errors(self) -> None:
        if self.errors:
            bad = sorted(self.errors)[:MOST_BAD_LINES]
            raise RequestValidationError([error for line in bad for error in self.errors[line]])

    def __iter__(self) -> Iterator[Line]:
        for line, values in (self.from_csv if self.upload.format == "csv" else self.from_json)():
            try:
                sent = self.model.dump_python(self.model.validate_python(values))
            except ValidationError as error:
                for e in error.errors(include_input=False, include_url=False)[:10]:
                    self.refuse(line, e["msg"], *map(str, e["loc"][:1]), type=e["type"])
            else:
                if self.key in sent:
                    yield line, sent
                else:
                    self.refuse(line, "Field required", self.key, type="missing")
            if self.is_refused():
                return

    def from_json(self) -> Iterator[tuple[int, Any]]:
        size = 0
        for line, raw in enumerate(raw_lines(self.upload.file), 1):
            size += len(raw)
            if size > LONGEST_LINE:
                self.refuse(line, "Line is too long")
            if self.is_refused() or size > LONGEST_LINE:
                return
            if text := decoded(raw).strip():
                size = 0
                try:
                    yield line, exact_json(text)
                except json.JSONDecodeError:
                    self.refuse(line, "Line is not JSON", type="json_invalid")

    def from_csv(self) -> Iterator[tuple[int, dict[str, Any]]]:
        records = self.records()
        _, header = next(records, (1, []))
        if not self.errors:
            self.check_header(header)
        if self.errors:
            return
        for line, cells in records:
            if len(cells) == len(header):
                yield line, self.values(header, cells)
            elif cells:
                self.refuse(line, f"Line has {len(cells)} cells, and the header {len(header)}")

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each, and where it begins: text in quotes may have several lines."""
        line = size = 0

        def counted() -> Iterator[str]:
            nonlocal line, size
            for raw in raw_lines(self.upload.file):
                line, size = line + 1, size + len(raw)
                if size > LONGEST_LINE:
                    raise csv.Error("it is too long")
                yield decoded(raw)

        reader = csv.reader(counted(), strict=True)
        while not self.is_refused():
            begin = line + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                self.refuse(begin, f"Line is not CSV: {error}")
                cells = []
            if cells is None:
                return
            size = 0 if cells else size
            yield begin, cells

    def values(self, header: list[str], cells: list[str]) -> dict[str, Any]:
        values = {c: self.columns[c].value(cell) for c, cell in zip(header, cells, strict=True)}
        return {column: value for column, value in values.items() if value is not MISSING}

    def check_header(self, header: list[str]) -> None:
        """Refuse line 1 for columns that are unknown, there twice or missing."""
        if len(header) > len(self.columns):
            known = ", ".join(self.columns)
            self.refuse(1, f"The header has more columns than there are: {known}")
            return
        for column in sorted({c for c in header if c not in self.columns or header.count(c) > 1}):
            self.refuse(1, "Column is unknown, or there twice", column)
        if self.key not in header:
            self.refuse(1, "The header has to name this column", self.key, type="missing")


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long the beginning, which still is too long."""
    file.seek(0)
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)
    return iter(lambda: file.readline(LONGEST_LINE + 1), b"")


def decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")  # what is not UTF-8 is refused as text, later
