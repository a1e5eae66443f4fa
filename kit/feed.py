"""The rows of a table as they are committed, in the order of their ids, to many listeners."""

import asyncio
import logging
import random
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from kit.driver_errors import kind_of
from kit.reading import AsyncReading

logger = logging.getLogger("kit")


class Gap(NamedTuple):
    """Ids that are missing, and perhaps on their way."""

    last: int  # the row up to which they are missing
    since: float  # by time.monotonic()
    writers: set[str]  # the transactions that may be bringing them, on PostgreSQL


Condition = Callable[[], list[ColumnElement[bool]]]


class Feed:
    """One task reads for all listeners, several times a second as long as there is one.

    So a listener holds no connection and no thread, and costs nothing while nothing happens.

    Ids are given when rows are inserted, so a row may be committed after one with a higher
    id. Were that one sent at once, a client that resumes after it would miss the other. So
    what comes after a gap is held back, until no transaction is left that could fill the gap.
    """

    POLL_INTERVAL = 0.25  # seconds
    MIN_GAP_AGE = 1.0  # seconds that MariaDB and MySQL may take from giving an id to its lock
    MAX_GAP_AGE = 60.0  # seconds that a transaction may take to fill a gap
    LOOK_BACK = 10_000  # ids before the newest that may be on their way when reading begins
    BATCH_SIZE = 500  # rows
    SPREAD = 0.0005  # seconds for each listener, over which they are all served

    def __init__(self, reading: AsyncReading, model: Any) -> None:
        self.reading, self.model, self.id = reading, model, model.__table__.c.id
        self.lock, self.changed = asyncio.Lock(), asyncio.Event()
        self.listeners, self.closed = 0, False
        self.task: asyncio.Task[None] | None = None
        self.settled = 0  # no row up to this id is to come any more
        self.recent: deque[Any] = deque(maxlen=1000)  # the last settled rows
        self.recent_after = 0  # the id after which `recent` has all of them
        self.gap: Gap | None = None

    async def join(self, after: int | None, only: Condition = list) -> AsyncGenerator[Any]:
        """The rows after this id, or from now on, without an end.

        `only` says which of the rows this listener needs, and is asked before each query: of
        those that it missed no others are read. Those from memory are for the listener to filter.
        Raises BusyError when the database cannot be had now; later that only means a pause.
        """
        async with self.reading.session() as session, self.lock:
            if not self.listeners:
                await self.start(session)
            await self.poll(session)
            if after is not None:
                return self.rows(after, set(), only)
            committed = select(self.id).where(self.id > self.settled, *only())
            return self.rows(self.settled, set(await session.exec(committed)), only)

    async def rows(self, after: int, known: set[int], only: Condition) -> AsyncGenerator[Any]:
        """The rows after this id, but for those that are known."""
        self.listeners, following = self.listeners + 1, False
        try:
            while not self.closed:
                if self.task is None or self.task.done():
                    self.task = asyncio.create_task(self.keep_polling())
                if self.settled <= after:
                    following = True
                    await self.changed.wait()
                    # One after the other, so that other requests get their turn in between.
                    await asyncio.sleep(self.listeners * self.SPREAD * random.random())  # noqa: S311
                    continue
                try:  # to its end, also when the listener goes: else the connection is lost
                    next_rows = self.settled_after(after, only, following=following)
                    rows, after = await asyncio.shield(next_rows)
                except Exception as error:
                    await self.pause(error)
                    continue
                for row in rows:
                    if row.id not in known:
                        yield row
        finally:
            self.listeners -= 1

    def close(self) -> None:
        """End every listener's rows."""
        self.closed = True
        self.changed.set()

    async def pause(self, error: Exception) -> None:
        name, cause = self.model.__name__, error.__cause__ or error
        logger.warning("no news of %s for now: %s", name, cause)
        await asyncio.sleep(1)

    async def keep_polling(self) -> None:
        while self.listeners and not self.closed:
            try:
                async with self.reading.session() as session, self.lock:
                    await self.poll(session)
            except Exception as error:  # whatever it is, the listeners wait for what comes next
                await self.pause(error)
            await asyncio.sleep(self.POLL_INTERVAL)

    async def settled_after(
        self, after: int, only: Condition, *, following: bool
    ) -> tuple[list[Any], int]:
        """The next settled rows after an id, and the id up to which these are all.

        From memory for those who follow; who comes back gets what the table has by now.
        """
        upto = self.settled
        if following and self.recent_after <= after:
            return [row for row in self.recent if row.id > after], upto
        query = select(self.model).where(self.id > after, self.id <= upto, *only())
        async with self.reading.session() as session, self.lock:
            rows = list(await session.exec(query.order_by(self.id).limit(self.BATCH_SIZE)))
        return rows, rows[-1].id if len(rows) == self.BATCH_SIZE else upto

    async def start(self, session: AsyncSession) -> None:
        """Begin as if there were a gap before the newest row, since there may be one."""
        newest = (await session.exec(select(func.max(self.id)))).first() or 0
        self.settled = self.recent_after = max(0, newest - self.LOOK_BACK)
        self.gap = Gap(newest, time.monotonic(), await self.writers(session))
        self.recent.clear()

    async def poll(self, session: AsyncSession) -> None:
        """Read what is new, and settle what can be settled."""
        before, closed = self.settled, await self.closed_gaps(session)
        if self.gap and min(closed, self.gap.last) - self.settled > self.BATCH_SIZE:
            self.settled = self.recent_after = self.gap.last  # listeners read these by themselves
            self.recent.clear()
        query = select(self.model).order_by(self.id).limit(self.BATCH_SIZE)
        while True:
            rows = list(await session.exec(query.where(self.id > self.settled)))
            held = self.settle(rows, closed)
            if held or len(rows) < self.BATCH_SIZE:
                break
        if self.gap and closed >= self.gap.last:
            self.settled, self.gap = max(self.settled, self.gap.last), None
        if held and not self.gap:
            self.gap = Gap(held[-1].id, time.monotonic(), await self.writers(session))
        if self.settled > before:
            self.changed.set()
            self.changed = asyncio.Event()

    def settle(self, rows: list[Any], closed: int) -> list[Any]:
        """Settle the rows up to the first gap that is not closed; what is left is held back."""
        for n, row in enumerate(rows):
            if row.id > max(closed, self.settled + 1):
                return rows[n:]
            if len(self.recent) == self.recent.maxlen:
                self.recent_after = self.recent[0].id
            self.recent.append(row)
            self.settled = row.id
        return []

    async def writers(self, session: AsyncSession) -> set[str]:
        """On PostgreSQL, the transactions that have written to the table, or are about to."""
        if session.get_bind().dialect.name != "postgresql":
            return set()
        query = text(
            "SELECT virtualtransaction FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation"
            " = to_regclass(:name) AND database = (SELECT oid FROM pg_database WHERE datname ="
            " current_database())"
        )
        connection = await session.connection()
        return set(await connection.scalars(query, {"name": f'"{self.id.table.name}"'}))

    async def closed_gaps(self, session: AsyncSession) -> int:
        """The id up to which a missing row will never come."""
        dialect = session.get_bind().dialect.name
        if dialect == "sqlite":  # ids are given under the lock that is held until the commit
            return sys.maxsize
        if not self.gap:
            return 0
        last, age = self.gap.last, time.monotonic() - self.gap.since
        if age > self.MAX_GAP_AGE:
            return last
        if dialect == "postgresql":  # have all ended that were writing when the gap was seen?
            return 0 if self.gap.writers & await self.writers(session) else last
        # An inserted row is locked until its transaction ends, visible or not.
        inside = select(self.id).where(self.id > self.settled, self.id <= last)
        try:
            await session.exec(inside.with_for_update(read=True, nowait=True))
        except DBAPIError as error:
            if kind_of(error) != "busy":
                raise
            return 0
        return last if age > self.MIN_GAP_AGE else 0
