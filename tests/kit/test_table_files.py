"""A table as a file: its columns, what a line may say, and rows that refer to each other."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import field_validator
from sqlalchemy import JSON, MetaData, UniqueConstraint, create_engine
from sqlalchemy.orm import registry
from sqlmodel import Field, Session, select

from kit import exchanges, imports
from kit.fields import Id, Money, Name, OptionalId, OptionalText, Slug, choice
from kit.files import TableFile
from kit.problems import MisuseError
from kit.tables import Schema, Timestamps, Versioned
from kit.transactions import Transaction, run_borrowed
from kit.uploads import FileFormat, Upload


class Own(Versioned, registry=registry(metadata=MetaData())):
    """Tables of these tests alone."""


class Kind(StrEnum):
    low = "low"
    high = "high"


class RoomBase(Schema):
    code: Slug = Field(unique=True)
    secret: str = Field(default="none", exclude=True)


class Room(RoomBase, Own, table=True):
    pass


class ShelfBase(Schema):
    name: Name
    slug: Slug = Field(unique=True)
    kind: Kind = Field(default=Kind.low, sa_type=choice(Kind))
    width: float = 1.5
    value: Money = Decimal(0)
    bought_on: date | None = None
    seen_at: datetime | None = None
    is_full: bool | None = None
    note: OptionalText = None
    room_id: Id = Field(foreign_key="room.id")
    shelf_id: OptionalId = Field(default=None, foreign_key="shelf.id")

    @field_validator("note")
    @classmethod
    def be_polite(cls, note: str | None) -> str | None:
        if note == "rude":
            raise ValueError("not polite")
        return note


class Shelf(Timestamps, ShelfBase, Own, table=True):
    __table_args__ = (UniqueConstraint("room_id", "name"),)

    labels: list[str] = Field(default_factory=lambda: ["new"], exclude=True, sa_type=JSON)
    position: int = 7  # of the table's own class
    sizes: list[int] = Field(default=[], sa_type=JSON)


class BoxBase(Schema):
    code: Slug = Field(unique=True)
    name: Name
    slug: Slug = Field(unique=True)


class Box(BoxBase, Own, table=True):
    pass


class Ticket(Own, table=True):
    code: str = Field(unique=True)
    number: int = Field(unique=True)
    uses: int = Field(default=5, ge=1, le=9)


class Bag(Own, table=True):
    code: str = Field(unique=True)
    password: str = Field(exclude=True)


shelves = TableFile(
    Shelf,
    "shelves",
    key="slug",
    refers={"room_id": Room.code, "shelf_id": Shelf.slug},
    tree="shelf_id",
    example={"slug": "top", "name": "Top"},
)
numbered = TableFile(Shelf, "shelves", key="slug")  # which refers to others by their ids
named = TableFile(Shelf, "shelves", key="slug", refers={"room_id": Room.code}, slug_from="name")
tickets = TableFile(Ticket, "tickets", key="code", adds={"used": "uses"})
FORMATS: list[FileFormat] = ["csv", "jsonl"]
HEADER = (
    "id,name,slug,kind,width,value,bought_on,seen_at,is_full,note,room,shelf,"
    "created_at,updated_at,position,sizes,version"
)


@pytest.fixture
def session() -> Iterator[Session]:
    """A session on a database with the rooms "hall" and "loft"."""
    engine = create_engine("sqlite://")
    Own.metadata.create_all(engine)
    transaction = Transaction(Request({"type": "http"}), Response(), run_borrowed, writes=True)
    with Session(engine, info={"transaction": transaction}) as session:
        for code in ("hall", "loft"):
            session.add(Room(code=code))
        session.commit()
        yield session
    engine.dispose()


def load(
    session: Session, text: str, file: TableFile = shelves, format: FileFormat = "csv"
) -> tuple[int, int]:
    """How many rows were created and updated."""
    upload = Upload(io.BytesIO(text.encode()), format)
    try:
        counts = file.load(session, upload)
    except BaseException:
        session.rollback()
        raise
    session.commit()
    return counts.created, counts.updated


def refused(session: Session, text: str, file: TableFile = shelves) -> list[Any]:
    with pytest.raises(RequestValidationError) as caught:
        load(session, text, file)
    return [(*error["loc"][1:], error["msg"]) for error in caught.value.errors()]


def rows(session: Session) -> list[Shelf]:
    session.expire_all()
    return list(session.exec(select(Shelf).order_by(Shelf.slug)))


def text_of(session: Session, format: FileFormat = "csv", file: TableFile = shelves) -> str:
    return file.batch(session, format, 0)[0]


# What a file has


def test_the_columns_are_those_of_the_model_but_for_what_no_answer_has() -> None:
    assert ",".join(shelves.columns) == HEADER
    assert [*numbered.columns][10:12] == ["room_id", "shelf_id"]
    assert [*TableFile(Bag, "bags").columns] == ["id", "code"]


def test_a_column_more_is_in_the_file_by_itself() -> None:
    class Crate(RoomBase, Own, table=True):
        colour: str | None = None

    crates = TableFile(Crate, "crates", key="code")
    assert [*crates.columns] == ["id", "code", "colour", "version"]
    assert crates.columns["colour"].is_nullable
    assert crates.line.validate_python({"code": "a", "colour": None})


def test_the_example_is_a_file_of_each_format() -> None:
    content = shelves.exports["responses"][200]["content"]
    taken = shelves.imports["openapi_extra"]["requestBody"]["content"]
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    assert taken == {"multipart/form-data": {"schema": form}, **content}
    assert content["text/csv"]["example"] == "slug,name\r\ntop,Top\r\n"
    assert json.loads(content["application/jsonl"]["example"]) == {"slug": "top", "name": "Top"}


def test_a_file_that_cannot_be_imported_says_so() -> None:
    with pytest.raises(TypeError, match="name is no key: it is not unique"):
        TableFile(Shelf, "shelves", key="name")
    with pytest.raises(TypeError, match="A bag needs password, which is in no file"):
        TableFile(Bag, "bags", key="code")
    with pytest.raises(TypeError, match="name says nothing certain: it is not unique"):
        TableFile(Shelf, "shelves", refers={"shelf_id": Shelf.name})
    with pytest.raises(MisuseError, match="Without a key there is no import of bags"):
        TableFile(Bag, "bags").load(Session(), Upload(io.BytesIO(), "csv"))


# What goes out comes in again


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_that_is_exported_emptied_and_imported_is_the_same(
    session: Session, format: FileFormat
) -> None:
    text = (
        f"{HEADER}\n"
        "9,A,a,high,0.25,1.50,2026-01-02,2026-01-02T03:04:05Z,true,'=1,loft,b,"
        '2020-01-01T00:00:00Z,2021-01-01T00:00:00Z,3,"[1, 2]",1\n'
        ",B,b,,,,,,false,,hall,,,,,,\n"
        ",C,c,,,,,,,',loft,a,,,,,\n"
    )
    assert load(session, text) == (3, 0)
    file = text_of(session, format)
    header = f"{HEADER}\n" if format == "csv" else ""
    for row in rows(session)[::-1]:
        row.shelf_id = None
    session.commit()
    for row in rows(session):
        session.delete(row)
    session.commit()
    assert text_of(session) == ""
    assert load(session, header + file, format=format) == (3, 0)
    assert text_of(session, format) == file
    before = [row.version for row in rows(session)]
    assert load(session, header + file, format=format) == (0, 3)
    assert [row.version for row in rows(session)] == before == [1, 1, 1]
    a = rows(session)[0]
    assert (a.kind, a.width, a.value, a.note) == (Kind.high, 0.25, Decimal("1.50"), "=1")
    assert (a.bought_on, a.is_full, a.position) == (date(2026, 1, 2), True, 3)
    assert a.sizes == [1, 2]
    assert a.created_at.replace(tzinfo=UTC) == datetime(2020, 1, 1, tzinfo=UTC)


def test_what_is_left_out_gets_its_default_or_stays(session: Session) -> None:
    assert load(session, "slug,name,room\na,A,hall\n") == (1, 0)
    [a] = rows(session)
    assert (a.kind, a.width, a.position, a.labels, a.version) == (Kind.low, 1.5, 7, ["new"], 1)
    assert a.created_at == a.updated_at
    created = a.created_at
    a.labels = ["mine"]
    session.commit()
    assert load(session, "slug,width,created_at\na,2,2001-01-01T00:00:00Z\n") == (0, 1)
    [a] = rows(session)
    assert (a.width, a.labels, a.version, a.created_at) == (2, ["mine"], 3, created)
    assert a.updated_at > created


# What a line may say


@pytest.mark.parametrize(
    ("header", "cells", "place"),
    [
        ("kind", "middle", "kind"),
        ("width", "wide", "width"),
        ("value", "1.005", "value"),
        ("bought_on", "yesterday", "bought_on"),
        ("seen_at", "2026-01-01T00:00:00", "seen_at"),  # in which zone?
        ("is_full", "perhaps", "is_full"),
        ("note", "rude", "note"),
        ("position", "first", "position"),
        ("sizes", "[", "sizes"),
        ("sizes", "[0.5]", "sizes"),
        ("shelf", "Not A Slug", "shelf"),
    ],
)
def test_what_the_model_says_of_a_field_holds_in_a_line(
    session: Session, header: str, cells: str, place: str
) -> None:
    text = f"slug,name,room,{header}\na,A,hall,{cells}\n"
    assert [found[:-1] for found in refused(session, text)] == [(2, place)]


def test_a_field_that_has_no_default_is_needed(session: Session) -> None:
    assert refused(session, "slug\na\n") == [
        (2, "name", "Field required"),
        (2, "room", "Field required"),
    ]


def test_a_slug_may_be_made_from_the_name_where_it_is_no_key(session: Session) -> None:
    boxes = TableFile(Box, "boxes", key="code", slug_from="name")
    text = "code,name,slug\na,Big Box,\nb,Big Box,\nc,!,\nd,x,own\n"
    assert load(session, text, boxes) == (4, 0)
    slugs = list(session.exec(select(Box.slug).order_by(Box.code)))
    assert slugs == ["big-box", "big-box-2", "box", "own"]


def test_a_row_may_have_no_slug_and_nothing_but_its_key(session: Session) -> None:
    rooms = TableFile(Room, "rooms", key="code")
    assert load(session, "code\nhall\ncellar\n", rooms) == (1, 1)
    assert text_of(session, file=rooms) == "1,hall,1\r\n2,loft,1\r\n3,cellar,1\r\n"


# Unique values


def test_what_is_unique_together_is_refused_by_its_first_field(session: Session) -> None:
    assert load(session, "slug,name,room\na,A,hall\nb,A,loft\n") == (2, 0)
    assert refused(session, "slug,room\nb,hall\n") == [(2, "room", "Already exists")]
    assert refused(session, "slug,name,room\nc,C,hall\nd,C,hall\n") == [
        (2, "room", "Already exists"),
        (3, "room", "Already exists"),
    ]


def test_what_an_earlier_line_gives_up_can_be_taken(session: Session) -> None:
    assert load(session, "slug,name,room\na,A,hall\nb,B,hall\n") == (2, 0)
    assert load(session, "slug,name\na,C\nb,A\n") == (0, 2)
    assert [row.name for row in rows(session)] == ["C", "A"]


def test_rows_may_exchange_what_is_unique_together(session: Session) -> None:
    assert load(session, "slug,name,room\na,A,hall\nb,B,hall\nc,A,loft\n") == (3, 0)
    assert load(session, "slug,name\na,B\nb,A\n") == (0, 2)
    assert [row.name for row in rows(session)] == ["B", "A", "A"]
    assert load(session, "slug,room\nb,loft\nc,hall\n") == (0, 2)
    assert [row.room_id for row in rows(session)] == [1, 2, 1]
    assert refused(session, "slug,room\nb,hall\nc,hall\n") == [
        (2, "room", "Already exists"),
        (3, "room", "Already exists"),
    ]


def test_a_value_of_which_there_is_no_other_to_set_aside_has_to_be_given_up_before(
    session: Session,
) -> None:
    assert load(session, "code,number\na,1\nb,2\n", tickets) == (2, 0)
    assert load(session, "code,number\na,3\nb,1\n", tickets) == (0, 2)
    assert refused(session, "code,number\na,1\nb,3\n", tickets) == [
        (2, "number", "Already exists"),
        (3, "number", "Already exists"),
    ]


def test_no_more_rows_than_so_many_wait_for_a_value(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanges, "MOST_DISPLACED", 2)
    lines = [f"s{n},N{n},hall\n" for n in range(4)]
    assert load(session, "".join(["slug,name,room\n", *lines])) == (4, 0)
    turned = "s0,N1\ns1,N2\ns2,N3\ns3,N0\n"
    assert load(session, f"slug,name\n{turned}") == (0, 4)
    crossed = "s0,N2\ns1,N3\ns2,N0\ns3,N1\n"
    assert load(session, f"slug,name\n{crossed}") == (0, 4)
    lines = [f"s{n},N{n},loft\n" for n in range(4, 6)]
    assert load(session, "".join(["slug,name,room\n", *lines])) == (2, 0)
    crossed = "s9,N3,hall\ns8,N1,hall\ns7,N2,hall\ns0,X0,\ns1,X1,\ns2,X2,\ns3,X3,\n"
    told = "Too many lines below this one have to give up what others take"
    assert refused(session, f"slug,name,room\n{crossed}")[0] == (4, "room", told)


# Versions and sums


def test_a_line_about_an_older_version_is_refused(session: Session) -> None:
    assert load(session, "code,number\na,1\n", tickets) == (1, 0)
    file = "code,number,version\na,2,1\n"
    assert load(session, file, tickets) == (0, 1)
    told = "It has changed since; version is 2"
    assert refused(session, file, tickets) == [(2, "version", told)]


def test_what_is_added_to_a_column_keeps_to_its_limits(session: Session) -> None:
    assert load(session, "code,number,used\na,1,4\n", tickets) == (1, 0)
    assert load(session, "code,used\na,-8\na,2\n", tickets) == (0, 2)
    assert text_of(session, file=tickets) == "1,a,1,3,3\r\n"
    for change, limit in ((-3, "at least 1"), (7, "at most 9")):
        told = f"uses is 3 and has to stay {limit}"
        assert refused(session, f"code,used\na,{change}\n", tickets) == [(2, "used", told)]
    told = "Not together with uses"
    assert refused(session, "code,uses,used\na,4,1\n", tickets) == [(2, "used", told)]


# References


def test_a_row_that_is_referred_to_by_its_id_has_to_be_there(session: Session) -> None:
    assert load(session, "slug,name,room_id\na,A,2\n", numbered) == (1, 0)
    assert load(session, "slug,shelf_id\na,1\n", numbered) == (0, 1)
    nothing = "Refers to nothing"
    assert refused(session, "slug,room_id\na,3\n", numbered) == [(2, "room_id", nothing)]
    assert refused(session, "slug,shelf_id\na,9\n", numbered) == [(2, "shelf_id", nothing)]


def test_a_row_may_be_referred_to_by_another_text_if_it_is_the_only_one(session: Session) -> None:
    file = TableFile(
        Shelf,
        "shelves",
        key="slug",
        refers={"room_id": Room.code, "shelf_id": (Shelf.slug, Shelf.name)},
    )
    text = "slug,name,room\na,One,hall\nb,Two,hall\nc,Two,loft\n"
    assert load(session, text, file) == (3, 0)
    assert load(session, "slug,shelf\nb,One\n", file) == (0, 1)
    assert refused(session, "slug,shelf\na,Two\n", file) == [(2, "shelf", "Refers to nothing")]
    assert [row.shelf_id for row in rows(session)] == [None, 1, None]


def test_a_reference_that_has_to_be_cannot_be_cleared(session: Session) -> None:
    assert load(session, "slug,name,room\na,A,hall\n") == (1, 0)
    assert load(session, "slug,room\na,\n") == (0, 1)  # which leaves it as it is
    with pytest.raises(RequestValidationError):
        load(session, '{"slug": "a", "room": null}', format="jsonl")


CHAINS: dict[str, Callable[[int], str]] = {
    "the line before": lambda n: f"s{n - 1}" if n else "",
    "the line after": lambda n: f"s{n + 1}" if n < 999 else "",
    "far before": lambda n: "s0" if n else "",
    "far after": lambda n: "s999" if n < 999 else "",
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_row_may_be_below_one_that_another_line_makes(session: Session, name: str) -> None:
    above = CHAINS[name]
    lines = "".join(f"s{n},{n},hall,{above(n)}\n" for n in range(1000))
    assert load(session, f"slug,name,room,shelf\n{lines}") == (1000, 0)
    found = rows(session)
    slugs = {row.id: row.slug for row in found}
    assert {row.slug: slugs.get(row.shelf_id or 0, "") for row in found} == {
        f"s{n}": above(n) for n in range(1000)
    }
    assert {row.version for row in found} == {1}
    assert all(row.created_at == row.updated_at for row in found)


def test_a_row_that_is_moved_below_a_new_one_is_changed_once(session: Session) -> None:
    assert load(session, "slug,name,room\na,A,hall\n") == (1, 0)
    assert load(session, "slug,name,room,shelf\na,New,,b\nb,B,hall,\n") == (1, 1)
    a, b = rows(session)
    assert (a.name, a.shelf_id, a.version, b.version) == ("New", b.id, 2, 1)


def test_of_two_lines_about_a_row_the_last_says_what_it_is_below(session: Session) -> None:
    text = "slug,name,room,shelf\na,A,hall,c\na,,,b\nb,B,hall,\nc,C,hall,\n"
    assert load(session, text) == (3, 1)
    a, b, _ = rows(session)
    assert a.shelf_id == b.id


def test_a_row_that_no_line_makes_is_referred_to_in_vain(session: Session) -> None:
    text = "slug,name,room,shelf\na,A,hall,b\nb,B,hall,nowhere\nc,C,hall,lost\n"
    nothing = "Refers to nothing"
    assert refused(session, text) == [(3, "shelf", nothing), (4, "shelf", nothing)]


def test_no_more_lines_than_so_many_wait_for_others(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MOST_WAITING", 2)
    batch = imports.BATCH
    header, last = "slug,name,room,shelf\n", "last,Last,hall,\n"
    waiting = [f"w{n},W{n},hall,last\n" for n in range(3)]
    others = [f"o{n},O{n},hall,{f'o{n - 1}' if n else ''}\n" for n in range(batch)]
    text = "".join([header, *waiting, *others, last])
    assert refused(session, text) == [(4, "shelf", "Refers to a line too far below")]
    text = "".join([header, *waiting[:2], *others, last])
    assert load(session, text) == (batch + 3, 0)


# Trees

ITSELF = "Cannot be its own ancestor"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,a\n", [2]),
        ("a,c\n", [2]),
        ("a,b\n", [2]),
        ("x,y\ny,x\n", [2, 3]),
        ("x,y\ny,z\nz,a\na,x\n", [2, 3, 4, 5]),
        ("d,b\na,c\n", [3]),
        ("a,c\na,c\n", [2, 3]),
    ],
)
def test_a_row_below_itself_is_refused(session: Session, text: str, lines: list[int]) -> None:
    assert load(session, "slug,name,room,shelf\na,A,hall,\nb,B,hall,a\nc,C,hall,b\n") == (3, 0)
    whole = "".join(
        f"{line.split(',')[0]},N{n},loft,{line.split(',')[1]}\n"
        for n, line in enumerate(text.splitlines())
    )
    before = text_of(session)
    expected = [(line, "shelf", ITSELF) for line in lines]
    assert refused(session, f"slug,name,room,shelf\n{whole}") == expected
    assert text_of(session) == before


@pytest.mark.parametrize("text", ["a,b\nb,\n", "b,\na,b\n"])
def test_a_tree_may_be_turned_round(session: Session, text: str) -> None:
    assert load(session, "slug,name,room,shelf\na,A,hall,\nb,B,hall,a\n") == (2, 0)
    assert load(session, f"slug,shelf\n{text}") == (0, 2)
    a, b = rows(session)
    assert (a.shelf_id, b.shelf_id) == (b.id, None)


def test_what_is_below_itself_is_found_in_a_time_that_grows_with_the_rows() -> None:
    above = {n: n + 1 for n in range(1_000_000)} | {1_000_000: 999_990}
    assert imports.in_cycles(above) == {*range(999_990, 1_000_001)}


# Others are told


def test_who_shows_the_rows_is_told_which_were_changed(session: Session) -> None:
    told: list[list[int]] = []
    file = TableFile(
        Shelf,
        "shelves",
        key="slug",
        refers={"room_id": Room.code},
        on_change=lambda _, ids: told.append(ids),
    )
    assert load(session, "slug,name,room\na,A,hall\nb,B,hall\n", file) == (2, 0)
    assert load(session, "slug,name\na,A\nb,New\n", file) == (0, 2)
    assert told == [[2]]
