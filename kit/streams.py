"""A table's new rows as Server-Sent Events (HTML Living Standard, 9.2), to whom they belong."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import Header, HTTPException, Request
from fastapi.sse import ServerSentEvent
from pydantic import BeforeValidator
from sqlalchemy import ColumnElement

from kit.access import Gate
from kit.context import context_of
from kit.feed import Feed
from kit.fields import Count
from kit.problems import BusyError

MOST_STREAMS = 5  # of one user, in each process
Events = AsyncIterator[ServerSentEvent]
LastEventId = Annotated[
    Count | None,
    BeforeValidator(lambda id: id or None),  # an empty one says that there was none yet
    Header(alias="Last-Event-ID", description="The last one seen: those after it come first."),
]


class Stream:
    """A dependency: the events of a table whose rows have a `user_id`, without an end.

    A superuser gets all, other users their own; nothing comes any more when the token has ended.
    One who is logged in has at most 5 streams at a time: one more is a 429.
    """

    def __init__(self, feed: Feed, gate: Gate) -> None:
        self.feed, self.gate = feed, gate
        # Whose each open stream is, and by which of their stamps: one that a log-out has ended is
        # not told before the next row, but counts no more.
        self.listening: list[tuple[int, str]] = []
        name = feed.model.__name__
        text = {"type": "string", "description": f"The `data` of each event is a {name}, in JSON."}
        example = f'id: 7\nevent: {name.lower()}\ndata: {{"id":7,...}}\n\n'
        content = {"text/event-stream": {"schema": text, "example": example}}
        self.documented: dict[int | str, Any] = {200: {"content": content}}

    async def __call__(
        self, request: Request, last_event_id: LastEventId = None
    ) -> AsyncIterator[Events]:
        claims = context_of(request).claims
        who = (claims.sub, claims.stamp) if claims else (0, "")
        if claims and self.listening.count(who) >= MOST_STREAMS:
            detail = f"You have {MOST_STREAMS} event streams open already"
            raise HTTPException(429, detail, {"Retry-After": "15"})
        self.listening.append(who)
        try:
            rows = await self.feed.join(last_event_id, functools.partial(self.own, request))
            async with aclosing(rows):
                yield self.events(request, rows)
        finally:
            self.listening.remove(who)

    async def events(self, request: Request, rows: AsyncIterator[Any]) -> Events:
        name = self.feed.model.__name__.lower()
        async for row in rows:
            if not is_for(request, row):
                continue
            if not await self.is_still_admitted(request):
                return
            if is_for(request, row):  # who was a superuser may not be one any more
                yield ServerSentEvent(event=name, id=str(row.id), data=row)

    def own(self, request: Request) -> list[ColumnElement[bool]]:
        """The condition for the caller's own rows; none for a superuser."""
        caller = context_of(request).caller
        return [] if caller.is_superuser else [self.feed.model.owned_by(caller.id)]

    async def is_still_admitted(self, request: Request) -> bool:
        """Look at the token, and its user, again: a stream lasts longer than they may."""
        while not self.feed.closed:
            context_of(request).restart_time()
            try:
                await self.gate.check(request, now=True)
            except BusyError:
                await asyncio.sleep(1)
            except HTTPException:
                break
            else:
                return True
        return False


def is_for(request: Request, row: Any) -> bool:
    caller = context_of(request).caller
    return caller.is_superuser or caller.id == row.user_id
