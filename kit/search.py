"""Searches in text, in every alphabet, and slugs made from names."""

import functools
from collections.abc import Collection, Iterable
from typing import Any

from slugify import slugify
from sqlalchemy import ColumnElement, String, bindparam, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.sqltypes import NullType
from sqlmodel import Session, select
from sqlmodel.sql.expression import SelectOfScalar

from kit.transactions import retry_on_conflict

# The collations that know the case of Unicode's letters, and those that compare by code point.
MARIADB_COLLATIONS = "utf8mb4_uca1400_as_cs", "utf8mb4_nopad_bin"
MYSQL_COLLATIONS = "utf8mb4_0900_as_cs", "utf8mb4_0900_bin"


class LowerCase(FunctionElement[str]):
    """A text in lower case, in every alphabet, in the same letters on every database.

    They are Unicode's, as Python has them; but with one small sigma, of the two in Greek.
    """

    type = String()
    inherit_cache = True


@compiles(LowerCase)
def lower_case(element: LowerCase, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    dialect = compiler.dialect
    if dialect.name == "postgresql":  # whose columns, sorted by "C", know ASCII only
        text += ' COLLATE "und-x-icu"'
    elif dialect.name != "sqlite":  # the letters that their columns' collation knows are old
        mariadb = getattr(dialect, "is_mariadb", False)
        letters, by_code = MARIADB_COLLATIONS if mariadb else MYSQL_COLLATIONS
        text = f"replace({text}, 'İ', 'i\u0307')"  # the one that becomes two
        return f"replace(lower({text} COLLATE {letters}) COLLATE {by_code}, 'ς', 'σ')"  # noqa: RUF001
    return f"replace(lower({text}), 'ς', 'σ')"  # noqa: RUF001


def contains(column: Any, q: str) -> ColumnElement[bool]:
    """Whether q is in the column, in upper or lower case; % and _ are plain characters."""
    plain = q.replace("/", "//").replace("%", "/%").replace("_", "/_")
    pattern = literal(f"%{plain}%")
    whole = LowerCase(column).like(LowerCase(pattern), escape="/")
    if not q.isascii():
        return whole
    return ContainsAscii(column, pattern, literal(not {*q.lower()}.isdisjoint("ik")), whole)


class ContainsAscii(FunctionElement[bool]):
    """The same for a q in ASCII, whose case SQLite's LIKE ignores, six times as fast.

    Of the other letters two are in ASCII in lower case: the Kelvin sign, and the capital I with a
    dot. So a q with one of these is looked for in the texts with other letters as always.
    """

    # No Boolean, which SQLAlchemy compares with 1: for that SQLite works out all of it.
    type: Any = NullType()
    inherit_cache = True


@compiles(ContainsAscii)
def contains_ascii(element: ContainsAscii, compiler: SQLCompiler, **options: Any) -> str:
    *_, whole = element.clauses
    return compiler.process(whole, **options)


@compiles(ContainsAscii, "sqlite")
def contains_ascii_on_sqlite(element: ContainsAscii, compiler: SQLCompiler, **options: Any) -> str:
    column, like, has_i_or_k, whole = (compiler.process(c, **options) for c in element.clauses)
    has_others = f"length(CAST({column} AS BLOB)) > length({column})"
    return f"({column} LIKE {like} ESCAPE '/' OR ({has_i_or_k} AND {has_others} AND {whole}))"


def slug_for(session: Session, model: type[Any], data: Any, row: Any = None) -> str:
    """The slug that was sent; or else one made of the name or title, distinct by -2, -3...

    A row that keeps its name keeps its slug.
    """
    label = "title" if hasattr(data, "title") else "name"
    name = getattr(data, label)
    if data.slug or (row and getattr(row, label) == name):
        return str(data.slug or row.slug)
    return free_slug(session, model, name, own=row.slug if row else None)


def free_slug(
    session: Session,
    model: Any,
    name: str,
    *,
    own: str | None = None,
    taken: Collection[str] = (),
    first: int = 2,
) -> str:
    """A slug made from the name that is in no row, but perhaps its own, and not among those taken.

    If the plain one is in use, it is numbered from `first` on. However many there are, a few are
    looked at, farther and farther on, and then between the last in use and the first that is free.
    """
    retry_on_conflict(session, "slug")
    base = base_slug(model.__name__.lower(), name)

    def free(numbers: Iterable[int]) -> list[int]:
        slugs = {f"{base}-{n}" if n > 1 else base: n for n in numbers}
        found = session.exec(slugs_among(model), params={"slugs": [*slugs]})
        used = {*found, *taken} - {own}
        return [n for slug, n in slugs.items() if slug not in used]

    low = first + 7
    if found := free([1, *range(first, low + 1)]):
        return f"{base}-{found[0]}" if found[0] > 1 else base
    while not (found := free(low + 2**power for power in range(50))):
        low += 1  # somebody has given all of these
    high = found[0]
    low = (low + high) // 2  # the one before it, which is in use
    while high - low > 1:
        step = -(-(high - low) // 32)
        high = min(free(range(low + step, high, step)), default=high)
        low = high - step
    return f"{base}-{high}"


@functools.cache  # see LOCKED
def slugs_among(model: Any) -> SelectOfScalar[str]:
    return select(model.slug).where(model.slug.in_(bindparam("slugs")))


@functools.lru_cache(1000)
def base_slug(kind: str, name: str) -> str:
    """The slug of a name; of one without a letter or a digit, what kind of thing it names."""
    return slugify(name, max_length=180) or kind
