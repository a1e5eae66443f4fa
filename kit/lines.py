"""What a file of rows is: CSV (RFC 4180) or JSON Lines, in UTF-8.

Values are written as cells and lines, and read from them as the same values. A file is read line
by line, however large it is. What is wrong with a line is told by the number of the line, where
its record begins, the header of a CSV being line 1; never by what it says, and in our own words.

CSV is read as people have it: with `,`, `;` or tabs between the cells, names in the header in any
case, with spaces around them, and records of empty cells alone, which say nothing.

In CSV an apostrophe stands before text that a spreadsheet would take for a formula (OWASP, "CSV
Injection"), and alone for text of no length. One also stands after a `;`, a tab or a line break
inside a text, where what follows would be a formula: for a spreadsheet that separates by these.
Reading takes it away.
"""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from pydantic import MISSING, TypeAdapter, ValidationError

from kit.json import exact_json, json_value
from kit.problems import invalid, sentence_of
from kit.uploads import FileFormat, Upload

LONGEST_LINE = 256 * 1024  # bytes, with the empty lines before it
MOST_BAD_LINES = 100  # that a client is told of
A_WHILE = 10_000  # lines

# Cells: the text of values in CSV

# What a spreadsheet takes for a formula, full-width signs included; and what has an apostrophe
# in front already, or nothing at all in it.
FORMULA = re.compile(r"'*\Z|['\s]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# What in a text may begin a cell in a spreadsheet that separates by other characters than `,`,
# for which the quotes around the text are none, and what comes before a formula there.
SEPARATOR = re.compile(r"[;\t\r\n]")
MARKED_SEPARATOR = re.compile(rf"({SEPARATOR.pattern})'")
BEFORE_FORMULA = re.compile(r"""(?<![;'"\s])[;'"\s]+(?=[=+\-@\uff1d\uff0b\uff0d\uff20])""")

ZEROS = re.compile(r"(?<=[0-9])\.0+\Z")  # which say nothing


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


def read_number(cell: str) -> str:
    """One without spaces around it or, after a point, zeros alone: 100.0 is a whole number."""
    return ZEROS.sub("", cell.strip())


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


# What is wrong

SAVE = "save the file as UTF-8"
NOT_UTF_8 = f"This is not UTF-8 (but Latin-1 or Windows-1252, perhaps): {SAVE}"
CR_ALONE = "Lines end in CR alone here, as on old Macs: save the file with LF or CRLF"
TOO_LONG = "Line is too long"
UNDECODED = re.compile("[\udc80-\udcff]")  # bytes, see `decoded`
COMMA = re.compile(r"[-+0-9.' ]*,[0-9 ]*")
ENCODINGS = {  # by how files begin
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
CSV_FAULTS = {  # by what Python says of them
    "new-line": CR_ALONE,
    "expected after": "After a cell in quotes comes the next cell; a quote within it is doubled",
    "end of data": "A quote is opened here and never closed",
    "field limit": f"A cell has over {csv.field_size_limit():,} characters",
    TOO_LONG: TOO_LONG,
}
A_TIME = "Input should be a time such as 2026-01-31T12:00:00Z"
SENTENCES = {  # by the beginning of pydantic's types of errors, where `sentence_of` says less
    "date_": "Input should be a date such as 2026-01-31",
    "datetime": A_TIME,
    "decimal_max_places": "Input should have no more than 2 decimals",
    "decimal": "Input should be an amount such as 79.99, of no more than 10 digits",
    "extra_forbidden": "There is no such field",
    "int": "Input should be a whole number",
    "list": "Input should be a list",
    "model": "Line is no object of JSON",
    "string_pattern": "Input has another form than this field",
    "string_type": "Input should be text",
    "timezone": f"{A_TIME}, with its zone",
}


def told(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, said to who filled in a table and has written no program."""
    value, kind = error["input"], error["type"]
    if isinstance(value, str) and UNDECODED.search(value):
        return NOT_UTF_8
    if kind == "money" and COMMA.fullmatch(str(value)):
        return "Input has a decimal comma: write amounts such as 79.99, with a point"
    message = sentence_of(error)
    if message == error["msg"] or "pattern" not in error.get("ctx", {}):
        said = (SENTENCES[begin] for begin in SENTENCES if kind.startswith(begin))
        message = next(said, message)
    return message.removeprefix("Value error, ")


# Reading

Line = tuple[int, dict[str, Any]]  # its number, and the fields in it


class Lines:
    """The lines of a file that are right, each by itself, and what is wrong with the others.

    Each has to name the key, and is validated by `model`. `go_on` is called every now and then.
    """

    def __init__(
        self,
        upload: Upload,
        columns: Mapping[str, Column],
        key: str,
        model: TypeAdapter[Any],
        go_on: Callable[[], object] = lambda: None,
    ) -> None:
        self.upload, self.columns, self.key, self.model = upload, columns, key, model
        self.go_on = go_on
        self.errors: dict[int, list[dict[str, Any]]] = {}

    def again(self) -> "Lines":
        """The same lines, of which nothing is known."""
        return Lines(self.upload, self.columns, self.key, self.model, self.go_on)

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
                for e in error.errors(include_url=False)[:10]:
                    self.refuse(line, told(e), *map(str, e["loc"][:1]), type=e["type"])
            else:
                if self.key in sent:
                    yield line, sent
                else:
                    self.refuse(line, "Field required", self.key, type="missing")
            if self.is_refused():
                return

    def raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines of a file by number; of one that is too long the beginning, as long as that."""
        file = self.upload.file
        file.seek(0)
        begin = file.read(4)
        if encoding := other_encoding(begin):
            self.refuse(1, f"This is {encoding}: {SAVE}", type="encoding")
            return
        file.seek(3 if begin.startswith(codecs.BOM_UTF8) else 0)
        lines = iter(lambda: file.readline(LONGEST_LINE + 1), b"")
        for line, raw in enumerate(lines, 1):
            if line % A_WHILE == 0:
                self.go_on()
            yield line, raw

    def from_json(self) -> Iterator[tuple[int, Any]]:
        size = 0
        for line, raw in self.raw_lines():
            size += len(raw)
            wrong = CR_ALONE if b"\r" in raw.strip() else ""
            if size > LONGEST_LINE:
                self.refuse(line, wrong or TOO_LONG)
            if self.is_refused() or size > LONGEST_LINE:
                return
            if text := decoded(raw).strip():
                size = 0
                try:
                    yield line, exact_json(text)
                except json.JSONDecodeError:
                    self.refuse(line, wrong or "Line is not JSON", type="json_invalid")

    def from_csv(self) -> Iterator[tuple[int, dict[str, Any]]]:
        records = self.records()
        _, header = next(records, (1, []))
        header = self.named(header)
        if not self.errors:
            self.check_header(header)
        if self.errors:
            return
        for line, cells in records:
            if not any(map(str.strip, cells)):
                continue
            if len(cells) == len(header):
                yield line, self.values(header, cells)
            else:
                self.refuse(line, f"Line has {len(cells)} cells, and the header {len(header)}")

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each, and where it begins: text in quotes may have several lines."""
        line = size = 0
        raw_lines = self.raw_lines()
        first = next(raw_lines, (1, b""))

        def counted() -> Iterator[str]:
            nonlocal line, size
            for number, raw in itertools.chain([first], raw_lines):
                line, size = number, size + len(raw)
                if size > LONGEST_LINE:
                    raise csv.Error("new-line" if b"\r" in raw.strip() else TOO_LONG)
                yield decoded(raw)

        reader = csv.reader(counted(), strict=True, delimiter=self.separator(decoded(first[1])))
        while not self.is_refused():
            begin = line + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                found = (told for fault, told in CSV_FAULTS.items() if fault in str(error))
                self.refuse(begin, next(found, "Line is not CSV"))
                cells = []
            if cells is None:
                return
            size = 0 if cells else size
            yield begin, cells

    def named(self, header: list[str]) -> list[str]:
        """The columns as they are called here, in whatever case they are written."""
        names = {column.lower(): column for column in self.columns}
        return [names.get(name.strip().lower(), name.strip()) for name in header]

    def separator(self, header: str) -> str:
        """What stands between the cells: that by which most of the columns are found."""

        def known(separator: str) -> int:
            cells = (cell.strip(' "\r\n') for cell in header.split(separator))
            return len({*self.named([*cells])} & self.columns.keys())

        return max(",;\t", key=known)

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
            unread = UNDECODED.search(column)
            self.refuse(1, NOT_UTF_8 if unread else "Column is unknown, or there twice", column)
        if self.key not in header:
            self.refuse(1, "The header has to name this column", self.key, type="missing")


def other_encoding(begin: bytes) -> str | None:
    """What a file that begins so is encoded in, if it is not UTF-8."""
    marked = (name for mark, name in ENCODINGS.items() if begin.startswith(mark))
    unmarked = "UTF-32" if b"\0\0" in begin else "UTF-16" if b"\0" in begin else None
    return next(marked, unmarked)


def decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")  # what is not UTF-8 is refused as text, later
