"""SQLite's one writer: those who wait together commit together."""

import functools
import time
from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from kit.driver_errors import explain
from kit.problems import BusyError
from kit.threads import Job, Threads

SILENT = "The database did not answer in time. Please try again."


class CommonCommits(Threads):
    """The thread of SQLite's one writer, where those who wait together commit together.

    A commit waits until the disk has it, which takes longer than most of what is written. So
    each has a savepoint in a transaction of all, and is told what came of it after the commit.
    """

    LONGEST = 0.02  # seconds for which others may join, while the first one waits

    def __init__(self, engine: Engine) -> None:
        super().__init__(1, "writer")
        self.engine = engine

    def work(self) -> None:
        next_job: Job | None = None
        while True:
            next_job = self.work_together(next_job or self.jobs.get())

    def work_together(self, job: Job) -> Job | None:
        """Do the job and those that wait; return one that was taken and not done."""
        done, next_job = [(job, cast(Any, None))], None
        try:
            with self.engine.begin() as connection:
                until = time.monotonic() + self.LONGEST
                done[0] = job, job.do(connection)
                while True:
                    # SQLite undoes all of a transaction when a statement in it is interrupted,
                    # or the disk is full: see "ROLLBACK" in its documentation.
                    if not cast(Any, connection.connection.dbapi_connection).in_transaction:
                        raise BusyError(SILENT)
                    if time.monotonic() > until or self.jobs.empty():
                        break
                    next_job = self.jobs.get()
                    if next_job.alone:
                        break
                    done.append((next_job, next_job.do(connection)))
                    next_job = None
        except Exception as error:
            failure = error
            if isinstance(error, SQLAlchemyError) and (explained := explain(error, self.engine)):
                failure = explained
                failure.__cause__ = error
            done = [(job, functools.partial(job.future.set_exception, failure)) for job, _ in done]
        for job, told in done:
            job.tell(told)
        return next_job
