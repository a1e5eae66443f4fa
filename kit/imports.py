"""The lines of a file become rows of a table: new ones, or changes of those that are there.

A batch of lines takes a handful of statements. Unique values and foreign keys are looked up in
them, so that a line that is refused is told by its number; a row that a line refers to may also be
made by another line, before it or after it. What counts is the end: a unique value may be taken
that another line gives up, before it or after it. The table's constraints have the last word.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError
from sqlalchemy import insert
from sqlmodel import Session

from kit.exchanges import Exchange, Owners, Places
from kit.history import ChangeKind, differences, histories
from kit.lines import Line, Lines
from kit.search import free_slug
from kit.targets import KEPT, Row, Target, Unique
from kit.transactions import allow_more_time, expect_many_rows, retry_on_conflict

BATCH = 200  # rows
MOST_TEXT = 50_000  # characters, in a batch
MOST_WAITING = 10_000  # lines that refer to a line in a later batch
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class ImportCounts(BaseModel):
    created: int
    updated: int


class Noting(Protocol):
    """Who is told what each line does that is right."""

    def add(self, line: int, old: Row | None, new: Row, *, is_changed: bool) -> None: ...


class Import:
    """One file on its way into a table."""

    def __init__(
        self, target: Target, session: Session, lines: Lines, notes: Noting | None = None
    ) -> None:
        self.target, self.session, self.lines, self.notes = target, session, lines, notes
        self.counts = ImportCounts(created=0, updated=0)
        self.numbers: dict[str, int] = {}  # by slug: the next to try after it
        self.exchange = Exchange(target, session)
        self.execute = self.exchange.execute
        # By column and key: the line that refers to a row of the table that is not there yet.
        self.waiting: dict[tuple[str, Any], tuple[int, Any]] = {}

    def run(self) -> ImportCounts:
        expect_many_rows(self.session)
        # With what another transaction has taken, made or deleted meanwhile: then a line is told.
        uniques = [unique.names[0] for unique in self.target.uniques]
        for name in (self.target.key, *uniques, *self.target.references):
            retry_on_conflict(self.session, name)
        if self.target.tree:  # all are locked: else two that move rows below each other are right
            self.execute(self.target.links).all()
        for batch in self.batches():
            allow_more_time(self.session)
            self.write(batch)
        self.refuse_contested()
        self.settle_rest()
        if self.target.tree and not self.lines.errors:
            self.refuse_cycles()
        self.lines.raise_errors()
        return self.counts

    def batches(self) -> Iterator[dict[Any, Line]]:
        """Some lines at a time, by key: so two of the same row come one after the other."""
        batch: dict[Any, Line] = {}
        text = 0
        for line, sent in self.lines:
            key = sent[self.target.key]
            if len(batch) == BATCH or text > MOST_TEXT or key in batch:
                yield batch
                batch, text = {}, 0
            batch[key] = line, sent
            text += sum(len(value) for value in sent.values() if isinstance(value, str))
        yield batch

    def write(self, batch: dict[Any, Line]) -> None:
        """Insert and update what some lines say, in a handful of statements."""
        found = self.execute(self.target.locked, {"keys": [*batch]}).mappings()
        olds = {row[self.target.key]: dict(row) for row in found}
        news = self.news(batch, olds)
        owners = {u: self.exchange.owners(u, news.values()) for u in self.target.uniques}
        places = Places(olds, {}, owners)
        inserts: list[Row] = []
        updates: list[Row] = []
        for key, new in news.items():
            (line, sent), old = batch[key], self.exchange.before(key, olds.get(key))
            if self.target.slug_from and not old and "slug" not in sent:
                self.number_slug(new, owners)
            is_changed = new != old or self.waits(key, line)
            if self.notes:
                self.notes.add(line, old, new, is_changed=is_changed)
            if wrong := self.exchange.take(key, new, places):
                self.refuse_value(line, *wrong)
                continue
            self.counts.updated += bool(old)
            self.counts.created += not old
            if is_changed:
                (updates if old else inserts).append(new)
        self.exchange.move()
        self.store(inserts, updates)
        self.tell(inserts, updates, olds)
        self.settle([*updates, *inserts])

    def news(self, batch: dict[Any, Line], olds: Mapping[Any, Row]) -> dict[Any, Row]:
        """What rows will be, by key, as far as their lines are right."""
        ids = {
            name: self.ids(
                reference.found[: 1 if reference.is_own else None],
                [sent.get(name) for _, sent in batch.values()],
            )
            for name, reference in self.target.references.items()
        }
        news: dict[Any, Row] = {}
        for key, (line, sent) in batch.items():
            old = self.exchange.before(key, olds.get(key))
            if self.refer(key, line, sent, ids) and (new := self.row(line, sent, old)):
                news[key] = new
        return news

    def ids(self, lookups: Iterable[Any], texts: Iterable[Any]) -> dict[Any, Any]:
        """The ids of the rows that are referred to; None for no row."""
        asked, ids = {text for text in texts if text is not None}, {None: None}
        for lookup in lookups:
            if missing := asked - ids.keys():
                ids |= dict(self.execute(lookup, {"texts": [*missing]}).all())
        return ids

    def refer(self, key: Any, line: int, sent: Row, ids: Mapping[str, Mapping[Any, Any]]) -> bool:
        """Put ids in the place of what a line refers to, or let it wait; or refuse it."""
        for name, reference in self.target.references.items():
            if name not in sent:
                continue
            self.waiting.pop((name, key), None)
            text = sent.pop(name)
            if text in ids[name]:
                sent[name] = ids[name][text]
            elif reference.is_own:
                self.waiting[name, key] = line, text
            else:
                self.lines.refuse(line, "Refers to nothing", reference.field)
                return False
        return True

    def waits(self, key: Any, line: int) -> bool:
        found = (self.waiting.get((name, key)) for name in self.target.settled)
        return any(waiting and waiting[0] == line for waiting in found)

    def row(self, line: int, sent: Row, old: Row | None) -> Row | None:
        """What a row will be, without a place among the unique values; None: the line is wrong."""
        if self.target.slug_from and sent.get("slug", "") is None:
            del sent["slug"]
        if old and "version" in sent and sent["version"] != old["version"]:
            told = f"It has changed since; version is {old['version']}"
            self.lines.refuse(line, told, "version")
            return None
        if not self.add(line, sent, old or self.target.defaults):
            return None
        if old:
            return old | {name: value for name, value in sent.items() if name not in KEPT}
        missing = [name for name in self.target.required if name not in sent]
        for name in missing:
            self.lines.refuse(line, "Field required", self.target.fields[name], type="missing")
        return None if missing else self.target.new_row(sent)

    def add(self, line: int, sent: Row, old: Row) -> bool:
        """Put sums in the place of what a line adds to a column, or refuse it."""
        for name, column in self.target.adds.items():
            if (change := sent.pop(name, None)) is None:
                continue
            field, had = self.target.fields[column], old.get(column) or 0
            try:
                total = self.target.sums[column].validate_python(had + change)
            except ValidationError as error:
                limit, value = next(iter(error.errors()[0]["ctx"].items()))
                told = f"{field} is {had} and has to stay {LIMITS[limit]} {value}"
            else:
                told = f"Not together with {field}" if column in sent else ""
            if told:
                self.lines.refuse(line, told, name)
                return False
            sent[column] = total
        return True

    def number_slug(self, row: Row, owners: Mapping[Unique, Owners]) -> None:
        """Make the slug of a new row, which was made from its name, a free one."""
        taken = next((o for unique, o in owners.items() if unique.names == ("slug",)), {})
        retry_on_conflict(self.session, "slug")
        if (slug := row["slug"]) in taken:
            first, name = self.numbers.get(slug, 2), row[self.target.slug_from]
            free = free_slug(self.session, self.target.model, name, taken=taken, first=first)
            row["slug"] = free
            self.numbers[slug] = int(free.rpartition("-")[2]) + 1

    def store(self, inserts: list[Row], updates: list[Row]) -> None:
        target = self.target
        if updates:
            self.execute(target.changed, [target.change(row) for row in updates])
        if inserts:
            self.execute(insert(target.table), inserts)

    def tell(self, inserts: list[Row], updates: list[Row], olds: Mapping[Any, Row]) -> None:
        """Tell who wants to know of these rows; and the history, what they were and are."""
        model, before = self.target.model, self.exchange.before
        keys = [row[self.target.key] for row in (*updates, *inserts)]
        if updates and self.target.on_change:
            self.target.on_change(self.session, [row["id"] for row in updates])
        if keys and (history := histories.get(model)):
            for row in self.execute(self.target.locked, {"keys": keys}).mappings():
                key = row[self.target.key]
                old, new = before(key, olds.get(key)), before(key, dict(row)) or {}
                kind = ChangeKind.updated if old else ChangeKind.created
                fields = differences(history.told[model], old or {}, new)
                history.note(model, kind, row["id"], fields)
            history.store(self.session)  # a batch has as much text as may be kept

    def settle(self, rows: list[Row]) -> None:
        """Have lines that waited for these rows refer to them."""
        for name in self.target.settled if self.waiting else ():
            reference = self.target.references[name]
            texts = {row.get(reference.text.name) for row in rows}
            waiting = [(key, text) for (n, key), (_, text) in self.waiting.items() if n == name]
            due = {key: text for key, text in waiting if text in texts}
            self.point(name, due, reference.found[:1])
        for place in [*self.waiting][MOST_WAITING:]:
            line, _ = self.waiting.pop(place)
            self.lines.refuse(line, "Refers to a line too far below", self.target.fields[place[0]])

    def settle_rest(self) -> None:
        """Look at the end for what those that still wait may mean, and refuse the others."""
        for name in self.target.settled if self.waiting else ():
            due = {key: text for (n, key), (_, text) in self.waiting.items() if n == name}
            self.point(name, due, self.target.references[name].found)
        for (name, _), (line, _) in self.waiting.items():
            self.lines.refuse(line, "Refers to nothing", self.target.fields[name])

    def point(self, name: str, due: Mapping[Any, Any], lookups: Iterable[Any]) -> None:
        """Have rows refer, by this column, to what is found."""
        ids = self.ids(lookups, due.values())
        found = {key: ids[text] for key, text in due.items() if text in ids}
        changes = [{"row_key": key, "refers_to": id} for key, id in found.items()]
        if changes:
            self.execute(self.target.settled[name], changes)
        for key in found:
            del self.waiting[name, key]

    def refuse_contested(self) -> None:
        """Refuse the lines that say of two rows that they have the same."""
        contested = self.exchange.put_back()
        said: dict[bool, dict[tuple[Unique, Any], int]] = {True: {}, False: {}}
        for line, sent in self.lines.again() if contested else ():
            for unique, keys in contested.items():
                if (key := sent[self.target.key]) in keys:
                    said[any(name in sent for name in unique.names)][unique, key] = line
        for (unique, _), line in (said[True] or said[False]).items():
            self.refuse_value(line, unique)

    def refuse_value(self, line: int, unique: Unique, why: str = "Already exists") -> None:
        self.lines.refuse(line, why, self.target.fields[unique.names[0]])

    def refuse_cycles(self) -> None:
        """Refuse the lines that put a row below itself."""
        links = self.execute(self.target.links).all()
        ids = in_cycles({id: above for id, above, _ in links})
        keys = {key for id, _, key in links if id in ids}
        tree = self.target.tree
        for line, sent in self.lines if keys else ():
            if sent[self.target.key] in keys and sent.get(tree) is not None:
                self.lines.refuse(line, "Cannot be its own ancestor", self.target.fields[tree])


def in_cycles(above: Mapping[Any, Any]) -> set[Any]:
    """The ids of the rows that are above themselves."""
    walks: dict[Any, Any] = {}  # in which a row was come to
    found: set[Any] = set()
    for start in above:
        id = start
        while id is not None and id not in walks:
            walks[id] = start
            id = above.get(id)
        while id is not None and walks[id] == start and id not in found:
            found.add(id)
            id = above.get(id)
    return found
