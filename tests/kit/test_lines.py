"""Lines of files: that values are read as they were written, and what is refused where."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kit.fields import NO_NUL
from kit.lines import (
    LONGEST_LINE,
    MOST_BAD_LINES,
    Column,
    Lines,
    cell_of,
    head_of,
    read_flag,
    read_json,
    read_text,
    text_of,
)
from kit.tables import Partial, Schema
from kit.uploads import FileFormat, Upload

# Cells

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
MARKED = st.text(st.sampled_from("';=+-@\t\r\n \",\uff1d\uff0b\uff0d\uff20x\u00a0\x1c"))


@given(text=TEXTS | MARKED)
@settings(max_examples=2000, deadline=None, derandomize=True, database=None)
def test_a_cell_says_the_same_text_when_it_is_read(text: str) -> None:
    for column in (Column(), Column(is_nullable=True)):
        assert column.value(cell_of(text)) == text


@given(text=TEXTS | MARKED)
@settings(max_examples=2000, deadline=None, derandomize=True, database=None)
def test_no_cell_is_a_formula_or_empty(text: str) -> None:
    cell = cell_of(text)
    assert cell
    assert cell.lstrip()[:1] not in set("=+-@\uff1d\uff0b\uff0d\uff20")
    assert cell[0] not in "\t\r\n"


@given(text=TEXTS | MARKED)
@settings(max_examples=2000, deadline=None, derandomize=True, database=None)
def test_no_cell_is_a_formula_whatever_separates_the_cells(text: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([1, cell_of(text), 2])
    for separator in ",;\t":
        file.seek(0)
        for row in csv.reader(file, delimiter=separator):
            assert not {cell.lstrip()[:1] for cell in row} & set("=+-@\uff1d\uff0b\uff0d\uff20")


def test_a_cell_is_made_and_read_in_a_time_that_grows_with_it_alone() -> None:
    text = ";\n' " * 1_000_000  # a second or so; hours, were each separator looked at for itself
    assert read_text(cell_of(text)) == text


class Size(StrEnum):
    small = "small"


@pytest.mark.parametrize(
    ("value", "cell", "in_json"),
    [
        (None, "", "null"),
        ("", "'", '""'),
        (True, "true", "true"),
        (False, "false", "false"),
        (7, "7", "7"),
        (Decimal("29.90"), "29.90", "29.9"),
        (0.25, "0.25", "0.25"),
        (Size.small, "small", '"small"'),
        (date(2026, 1, 2), "2026-01-02", '"2026-01-02"'),
        (datetime(2026, 1, 2, 3, 4, 5, 6000, UTC), "2026-01-02T03:04:05.006000Z",
         '"2026-01-02T03:04:05.006000Z"'),
    ],
)  # fmt: skip
def test_a_value_is_written_as_in_every_answer(value: Any, cell: str, in_json: str) -> None:
    assert cell_of(value) == cell
    assert text_of("jsonl", [{"n": 1, "v": value}]) == f'{{"n":1,"v":{in_json}}}\n'


@pytest.mark.parametrize("cell", ["TRUE", "true", "True"])
def test_only_a_flag_is_true_or_false(cell: str) -> None:
    assert read_flag(cell) is True
    assert read_text(cell) == cell


@pytest.mark.parametrize("value", [[], {}, ["=1;=2", 1, None], {"a": {"b": [True]}}])
def test_lists_and_objects_are_json_in_a_cell(value: Any) -> None:
    assert read_json(cell_of(value)) == value
    assert read_json("[") == "["


# Lines


class Thing(Partial, Schema):
    key: Annotated[str, NO_NUL]
    note: str | None
    is_old: bool


COLUMNS = {"key": Column(), "note": Column(is_nullable=True), "is_old": Column(read=read_flag)}
THING = TypeAdapter(Thing)
FORMATS: list[FileFormat] = ["csv", "jsonl"]


def lines_of(text: str | bytes, format: FileFormat = "csv") -> Lines:
    content = text.encode() if isinstance(text, str) else text
    return Lines(Upload(io.BytesIO(content), format), COLUMNS, "key", THING)


def places(lines: Lines) -> list[Sequence[int | str]]:
    """Where the errors are that are told."""
    with pytest.raises(RequestValidationError) as caught:
        lines.raise_errors()
    return [error["loc"] for error in caught.value.errors()]


@pytest.mark.parametrize("format", FORMATS)
def test_rows_that_are_written_are_read(format: FileFormat) -> None:
    rows: list[dict[str, Any]] = [
        {"key": "a", "note": "two\nlines; =1", "is_old": True},
        {"key": "=b", "note": "", "is_old": False},
        {"key": "c", "note": None, "is_old": False},
    ]
    lines = lines_of(head_of(format, COLUMNS) + text_of(format, rows), format)
    assert [sent for _, sent in lines] == rows
    lines.raise_errors()


def test_lines_can_be_read_again() -> None:
    lines = lines_of("key\na\nb\n")
    assert list(lines) == list(lines) == [(2, {"key": "a"}), (3, {"key": "b"})]


def test_an_empty_cell_is_null_or_says_nothing() -> None:
    assert list(lines_of("key,note,is_old\na,,\n")) == [(2, {"key": "a", "note": None})]


def test_a_record_is_at_the_line_where_it_begins() -> None:
    lines = lines_of('key,note\na,"1\n2"\n\nb,\n')
    assert [line for line, _ in lines] == [2, 5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("line", 1, "key")]),
        ("note\nx\n", [("line", 1, "key")]),
        ("key,colour\na,red\n", [("line", 1, "colour")]),
        ("key,key\na,a\n", [("line", 1, "key")]),
        ('"key\na\n', [("line", 1)]),
        ("key,note\na\n", [("line", 2)]),
        ('key\n"a"b\nc\n', [("line", 2)]),
        ("key,note\n,x\n", [("line", 2, "key")]),
        ("key,is_old\na,perhaps\n", [("line", 2, "is_old")]),
        (b"key\n\xff\n", [("line", 2, "key")]),
        ("key\na\n" + "x" * (LONGEST_LINE + 1), [("line", 3)]),
        ("key\n" + "\n" * (LONGEST_LINE + 1), [("line", LONGEST_LINE + 2)]),
    ],
    ids=range(12),
)
def test_csv_is_refused_where_it_is_wrong(text: str | bytes, expected: list[Any]) -> None:
    lines = lines_of(text)
    list(lines)
    assert places(lines) == [[*place] for place in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", [("line", 1)]),
        ("[]\n", [("line", 1)]),
        ('\n{"note": "x"}\n', [("line", 2, "key")]),
        ('{"key": "a", "colour": "red"}', [("line", 1, "colour")]),
        ('{"key": null}', [("line", 1, "key")]),
        ("x" * (LONGEST_LINE + 1), [("line", 1)]),
    ],
    ids=range(6),
)
def test_json_is_refused_where_it_is_wrong(text: str, expected: list[Any]) -> None:
    lines = lines_of(text, "jsonl")
    list(lines)
    assert places(lines) == [[*place] for place in expected]


def test_after_so_many_bad_lines_no_more_are_read() -> None:
    good = json.dumps({"key": "a"})
    lines = lines_of("{\n" * MOST_BAD_LINES + f"{good}\n" * 10, "jsonl")
    assert list(lines) == []
    assert len(places(lines)) == MOST_BAD_LINES
