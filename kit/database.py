"""The two databases of a service, to write to and to read from, and the sessions of its routes.

Each engine has no more threads than connections. A request waits in the threads' queue, first come
first served, and never for a connection while it holds a thread: that is how a service with more
clients than connections comes to a standstill.
"""

import asyncio
import contextlib
import contextvars
import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from sqlalchemy.pool import QueuePool
from sqlmodel import Session

from kit.commits import SILENT, CommonCommits
from kit.context import context_of
from kit.engines import new_engine
from kit.loading import KeptConnections, ReadSession, WriteSession
from kit.problems import BusyError
from kit.settings import Settings
from kit.threads import Threads
from kit.transactions import UNKNOWN, Transaction, Work, hang_up, transact, transaction_of

R = TypeVar("R")


class Connections:
    """An engine, and at most as many threads as it has connections."""

    def __init__(self, settings: Settings, *, writes: bool) -> None:
        self.settings, self.writes = settings, writes
        url = settings.database_url if writes else settings.database_read_url
        self.engine = new_engine(settings, url or settings.database_url, writes=writes)
        if writes and self.engine.dialect.name == "sqlite":
            self.capacity = 1
            self.kept = KeptConnections(self.engine, keeps=False)
            self.threads: Threads = CommonCommits(self.engine)
        else:
            self.capacity = settings.db_pool_size + settings.db_max_overflow
            few = min(
                self.capacity, 2 if self.engine.dialect.name == "sqlite" else 6 if writes else 4
            )
            # A reader that looks for a user at the primary has to find a connection there.
            keeps = settings.db_pool_size > 0 and not (writes and few == self.capacity)
            self.kept = KeptConnections(self.engine, keeps=keeps)
            name = "writer" if writes else "reader"
            self.threads = Threads(self.capacity, name, self.kept.give_back, few=few)

    def session(
        self, request: Request, response: Response | None = None, *, alone: bool = False
    ) -> Session:
        """A new session, which costs nothing before its first statement."""
        # Not expired on commit: the answer is made from the rows as they were committed, and an
        # expired one would cost another query.
        transaction = Transaction(request, response or Response(), self.run, self.writes, alone)
        info = {"transaction": transaction}
        kind = WriteSession if self.writes else ReadSession
        return kind(self.kept, expire_on_commit=False, info=info)

    async def run(self, work: Work, session: Session) -> Any:
        """Do the work in a thread, as one transaction of the session.

        Raises BusyError when the request has no time left in the queue, and in any case 4
        seconds after that, or after the last `allow_more_time`: whatever the database does, a
        client gets an answer.
        """
        transaction, loop = transaction_of(session), asyncio.get_running_loop()
        transaction.committing = False
        left = transaction.context.time_left(self.settings.db_pool_timeout)
        copied, latest = contextvars.copy_context(), time.monotonic() + left
        job = functools.partial(copied.run, transact, work, session, latest)
        try:
            async with asyncio.timeout(left + 4) as clock:
                put_off = functools.partial(self.put_off, clock)
                transaction.extend = functools.partial(loop.call_soon_threadsafe, put_off)
                return await self.threads.run(job, alone=transaction.alone)
        except (TimeoutError, asyncio.CancelledError) as error:
            transaction.abandoned = True
            hang_up(transaction.connection)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise BusyError(UNKNOWN if transaction.committing else SILENT) from None

    def put_off(self, clock: asyncio.Timeout) -> None:
        """Start the time of a request anew."""
        with contextlib.suppress(RuntimeError):  # it has just run out
            now = asyncio.get_running_loop().time()
            clock.reschedule(now + self.settings.db_pool_timeout + 4)

    async def do(self, request: Request, work: Callable[[Session], R]) -> R:
        """What comes of work that needs a session, beside or without a route's own."""
        session = self.session(request)
        return cast(R, await self.run(functools.partial(work, session), session))


class Database:
    """The database to write to, and the one to read from: the same, or a replica of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.writer = Connections(settings, writes=True)
        self.reader = Connections(settings, writes=False)

    def time_left(self, request: Request) -> float:
        """For how many seconds a request may go on to wait: DB_POOL_TIMEOUT since it came."""
        return context_of(request).time_left(self.settings.db_pool_timeout)

    def close(self) -> None:
        """Close the connections that are not in use."""
        for one in (self.writer, self.reader):
            one.kept.close()
            one.engine.dispose()

    def pool_use(self) -> dict[str, int]:
        """How many connections both pools may have, and have; asks no database."""
        pools = [cast(QueuePool, one.engine.pool) for one in (self.writer, self.reader)]
        kept = len(self.reader.kept.idle) + len(self.writer.kept.idle)
        used = sum(pool.checkedout() for pool in pools) - kept
        # Of DB_POOL_SIZE=0 none are kept, but places for them.
        idle = sum(p.checkedin() for p in pools) + kept if self.settings.db_pool_size else 0
        return {
            "pool_size": self.writer.capacity + self.reader.capacity,
            "checked_in": idle,
            "checked_out": used,
            "overflow": sum(max(0, pool.overflow()) for pool in pools),
            "total_connections": idle + used,
        }


class NewSession:
    """A dependency that gives a route its session: `Annotated[Session, Depends(new_session)]`."""

    def __init__(self, database: Database, *, writes: bool, alone: bool = False) -> None:
        self.database, self.writes, self.alone = database, writes, alone

    async def __call__(self, request: Request, response: Response) -> Session:
        connections = self.database.writer if self.writes else self.database.reader
        return connections.session(request, response, alone=self.alone)
