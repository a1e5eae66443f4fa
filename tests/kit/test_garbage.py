"""Requests leave no reference cycles, so Python's collector may come seldom: see `lifespan`."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sqlmodel import select

import kit
from db import Anyone, Read, Write
from kit import Id, Paged, add, get_or_404, page
from models import Item, ItemCreate, ItemUpdate

Body = dict[str, Any] | None


def list_items(session: Read, paging: Paged) -> list[Item]:
    return page(session, select(Item), paging)


def read_item(session: Read, item_id: Id) -> Item:
    return get_or_404(session, Item, item_id)


def create_item(session: Write, data: ItemCreate) -> Item:
    return add(session, Item.model_validate(data))


def update_item(session: Write, item_id: Id, data: ItemUpdate) -> Item:
    return get_or_404(session, Item, item_id).sqlmodel_update(data.model_dump())


async def status_of(app: kit.Service, method: str, path: str, body: Body = None) -> int:
    sent = json.dumps(body).encode() if body else b""
    statuses = list[int]()
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 5000),
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": sent}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses[0]


def test_requests_leave_nothing_for_the_collector(bare_app: kit.Service) -> None:
    for method, path, function in (
        ("GET", "/items/", list_items),
        ("POST", "/items/", create_item),
        ("GET", "/items/{item_id}", read_item),
        ("PATCH", "/items/{item_id}", update_item),
    ):
        route = bare_app.api_route(path, methods=[method], dependencies=[Anyone])
        route(function)
    calls: list[Callable[[], Awaitable[int]]] = [
        lambda: status_of(bare_app, "POST", "/items/", {"title": "Lamp", "price": 1}),
        lambda: status_of(bare_app, "GET", "/items/"),
        lambda: status_of(bare_app, "GET", "/items/1"),
        lambda: status_of(bare_app, "PATCH", "/items/1", {"price": 2}),
    ]

    async def left() -> list[int]:
        found = []
        for call in calls:
            assert await call() == 200
            gc.collect()
            for _ in range(10):
                await call()
            found.append(gc.collect())
        return found

    gc.disable()
    try:
        assert asyncio.run(left()) == [0, 0, 0, 0]
    finally:
        gc.enable()
