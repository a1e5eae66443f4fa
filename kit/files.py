"""A table as a file of CSV or JSON Lines, a line for each row: what goes out comes in again.

    tags_file = TableFile(Tag, "tags", key="slug")

The columns are those of the model that answers have. An import creates rows and changes them, all
lines of a file or, if one is bad, none. A field that is left out of a line stays as it is, or gets
its default. What the model says of a field holds in a line too. Of rows that count their changes a
file has the version: a line with another than the row's is refused, so that an old file undoes
nothing. Memory stays the same, however large the table and the file are.
"""

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import pydantic
from fastapi.responses import StreamingResponse
from pydantic import MISSING, TypeAdapter
from sqlalchemy import JSON, Boolean, Integer, bindparam, select
from sqlmodel import Field, Session

from kit.fields import MAX_INT, PLAIN, Id, Moment, MoneyType
from kit.imports import Import, ImportCounts
from kit.lines import Column, Lines, head_of, read_flag, read_json, read_number, read_text, text_of
from kit.openapi import problems
from kit.previews import Notes, Preview, TrialImport
from kit.problems import MisuseError
from kit.tables import Entity, Partial, Schema, Versioned
from kit.targets import OR_NONE, Reference, Target, annotated
from kit.transactions import allow_more_time, transaction_of
from kit.uploads import MEDIA_TYPES, FileFormat, Upload, documented

EXPORT_BATCH = 25  # rows: of 10,000 emoji each, an export takes 20 MB
Version = Annotated[int, Field(ge=1, le=2**30), PLAIN]  # with room for changes to come
Change = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT), PLAIN]
MOMENTS: dict[Any, Any] = {datetime: Moment, datetime | None: Moment | None}
Batch = tuple[str, int | None]  # some lines of a file, and the last id in them


class TableFile:
    """How a table is a file; see the arguments. Without a key it can only be exported.

    name: of the file.
    key: the unique column that says which row a line is about.
    refers: what a file has in the place of a foreign key: with `{"category_id": Category.slug}` a
        column `category`. With `(Category.slug, Category.name)` what is no slug may be a name, if
        one row has it. By other foreign keys it refers to ids.
    adds: a column of an import alone, that adds to another: `{"stock_change": "stock_quantity"}`.
    slug_from: the column that a new row's slug is made from, where a line has none.
    tree: the foreign key to the row above, which is never one below as well.
    takes: the types of columns in a file, where they are not the model's.
    example: a line, for the documentation.
    on_change: called with the ids of rows that were changed.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        *,
        key: str = "",
        refers: Mapping[str, Any] | None = None,
        slug_from: str = "",
        tree: str = "",
        adds: Mapping[str, str] | None = None,
        takes: Mapping[str, Any] | None = None,
        example: Mapping[str, Any] | None = None,
        on_change: Callable[[Session, list[int]], None] | None = None,
    ) -> None:
        self.model, self.name, self.key = model, name, key
        shown = [name for name, info in model.model_fields.items() if not info.exclude]
        if key and issubclass(model, Versioned):
            shown.append("version")
        columns = {name: model.__table__.c[name] for name in shown}
        self.references = {
            name: Reference(column, *listed((refers or {}).get(name, ())))
            for name, column in columns.items()
            if column.foreign_keys
        }
        self.fields = {n: self.references[n].field if n in self.references else n for n in shown}
        self.columns = {self.fields[name]: column_of(column) for name, column in columns.items()}
        self.adds = dict(adds or {})
        self.query = self.export_query(columns)
        self.exports, self.imports = documentation(example or {})
        if key:
            given = model, key, self.fields, self.references, slug_from, tree, self.adds, on_change
            self.target = Target(*given)
            self.line = self.line_model(takes or {})

    def export_query(self, columns: Mapping[str, Any]) -> Any:
        table = joined = self.model.__table__
        values = []
        for name, column in columns.items():
            if reference := self.references.get(name):
                joined = joined.outerjoin(reference.target, column == reference.id)
                column = reference.text
            values.append(column.label(self.fields[name]))
        query = select(*values).select_from(joined).where(table.c.id > bindparam("after"))
        return query.order_by(table.c.id).limit(EXPORT_BATCH)

    def line_model(self, takes: Mapping[str, Any]) -> TypeAdapter[Any]:
        """What a line may say: what the model does, but that all may be left out."""
        bases = [base for base in self.model.__bases__ if not issubclass(base, Entity)]
        types = {name: (takes.get(name) or self.type_of(name), MISSING) for name in self.fields}
        types |= dict.fromkeys(self.adds, (Change, MISSING))
        name = f"{self.model.__name__}Line"
        create: Any = pydantic.create_model
        return TypeAdapter(create(name, __base__=(Partial, *bases, Schema), **types))

    def type_of(self, name: str) -> Any:
        info, reference = self.model.model_fields[name], self.references.get(name)
        if name in ("id", "version"):
            return Id if name == "id" else Version
        if reference and reference.by:
            return reference.type()
        if name == "slug" and self.target.slug_from:
            return annotated[info.rebuild_annotation(), OR_NONE]
        return MOMENTS.get(info.annotation) or info.rebuild_annotation()

    def export(self, session: Session, format: FileFormat = "csv") -> StreamingResponse:
        """All rows, in the order of their ids."""
        batch = self.batch(session, format, 0)
        headers = {"Content-Disposition": f'attachment; filename="{self.name}.{format}"'}
        text = self.batches(session, format, batch)
        return StreamingResponse(text, 200, headers, MEDIA_TYPES[format])

    async def batches(
        self, session: Session, format: FileFormat, batch: Batch
    ) -> AsyncIterator[str]:
        """Batch after batch, each read in a thread: a slow client holds no connection."""
        yield head_of(format, self.columns)
        while batch[1] is not None:
            yield batch[0]
            work = functools.partial(self.batch, session, format, batch[1])
            transaction_of(session).context.restart_time()
            batch = await transaction_of(session).run(work, session)

    def batch(self, session: Session, format: FileFormat, after: int) -> Batch:
        found = session.connection().execute(self.query, {"after": after})
        rows = [row._asdict() for row in found]
        return text_of(format, rows), rows[-1]["id"] if rows else None

    def load(self, session: Session, upload: Upload, notes: Notes | None = None) -> ImportCounts:
        """Create or change the rows that a file says; a 422 tells of the first 100 bad lines."""
        return Import(*self.read(session, upload), notes).run()

    def preview(self, session: Session, upload: Upload) -> Preview:
        """What `load` would do, and refuse; see `previews.undone` for the session."""
        return TrialImport(*self.read(session, upload)).preview()

    def read(self, session: Session, upload: Upload) -> tuple[Target, Session, Lines]:
        if not self.key:
            raise MisuseError(f"Without a key there is no import of {self.name}")
        columns = self.columns | dict.fromkeys(self.adds, Column(read=read_number))
        go_on = functools.partial(allow_more_time, session)
        return self.target, session, Lines(upload, columns, self.key, self.line, go_on)


def listed(columns: Any) -> tuple[Any, ...]:
    return columns if isinstance(columns, tuple) else (columns,)


def column_of(column: Any) -> Column:
    """How cells of a table's column are read; of a foreign key, it may be text."""
    kinds = {Boolean: read_flag, JSON: read_json}
    if not column.foreign_keys:
        kinds |= {Integer: read_number, MoneyType: read_number}
    found = (read for kind, read in kinds.items() if isinstance(column.type, kind))
    return Column(column.nullable, next(found, read_text))


def documentation(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """For the decorators of the two routes: `@app.get(..., **tags_file.exports)`."""
    content = samples(row)
    answer = {"responses": {200: {"content": content}}}
    body = {"openapi_extra": {"requestBody": documented(content)}}
    exports = {"response_class": StreamingResponse, **answer}
    return exports, {"responses": problems(400, 413, 415), **body}


def samples(row: Mapping[str, Any]) -> dict[str, Any]:
    """A file of one row in each format, for OpenAPI."""
    texts = {f: head_of(f, row).lstrip("\ufeff") + text_of(f, [row]) for f in MEDIA_TYPES}
    return {
        MEDIA_TYPES[format]: {"schema": {"type": "string"}, "example": text}
        for format, text in texts.items()
    }
