"""Sessions for `async def`, which can only read: they hold no thread of the queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from kit.commits import SILENT
from kit.driver_errors import explain, kind_of
from kit.engines import new_async_engine
from kit.problems import BusyError, MisuseError
from kit.settings import Settings
from kit.transactions import hang_up


class AsyncReading:
    """A dependency: an async session, of an engine that is made when it is first needed.

    It is on the database that is written to, where a `Feed` can see who is writing.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engines: dict[str, AsyncEngine] = {}  # by URL

    async def __call__(self) -> AsyncIterator[AsyncSession]:
        """Each statement is for itself.

        Raises BusyError when the database cannot be had, or does not answer in time.
        """
        url, limit = self.settings.database_url, self.settings.db_pool_timeout + 4
        if url not in self.engines:
            self.engines[url] = new_async_engine(self.settings)
        session = AsyncSession(self.engines[url])
        # To be cancelled, psycopg would wait for the same silent server.
        timer = asyncio.get_running_loop().call_later(
            limit, lambda: hang_up(session.info.get("connection"))
        )
        try:
            async with asyncio.timeout(limit + 0.5) as clock, session:
                yield session
        except TimeoutError:
            if clock.expired():
                raise BusyError(SILENT) from None
            raise
        except (DBAPIError, PoolTimeoutError) as error:
            if kind_of(error) == "read-only":
                sentence = "A route that writes has to be a plain def with `session: Write`"
                raise MisuseError(sentence) from None
            raise explain(error) or error from error
        finally:
            timer.cancel()

    def session(self) -> contextlib.AbstractAsyncContextManager[AsyncSession]:
        """The same for who is no route."""
        return contextlib.asynccontextmanager(self.__call__)()

    async def close(self) -> None:
        """Close the connections that are not in use."""
        for engine in self.engines.values():
            await engine.dispose()
