"""`async def` routes that read, in an app of the test's own."""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from databases import HOME
from servers import Process, running, wait_for

pytestmark = [pytest.mark.every_database, pytest.mark.system]

ASYNC_APP = """
import asyncio

from sqlmodel import col, func, select

from db import AsyncRead
from db import Anyone
from main import app
from models import Item


@app.get("/async/titles", dependencies=[Anyone])
async def titles(session: AsyncRead) -> list[str]:
    return list(await session.exec(select(Item.title).order_by(col(Item.id))))


@app.get("/async/count", dependencies=[Anyone])
async def count(session: AsyncRead) -> int:
    before = (await session.exec(select(func.count()).select_from(Item))).one()
    await asyncio.sleep(0.05)
    after = (await session.exec(select(func.count()).select_from(Item))).one()
    return before + after


@app.post("/async/items", dependencies=[Anyone])
async def write(session: AsyncRead) -> None:
    session.add(Item.model_validate({"title": "Written", "price": 1}))
    await session.commit()
"""


@pytest.fixture
def async_shop(own_database: str, tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "async_app.py").write_text(ASYNC_APP)
    command = [sys.executable, "-m", "uvicorn", "async_app:app", "--app-dir", str(tmp_path)]
    small = {"DB_POOL_SIZE": "2", "DB_MAX_OVERFLOW": "1"}
    with running(own_database, *command, PYTHONPATH=str(HOME), **small) as process:
        for title in ("Kite", "Drachen ü"):
            item = {"title": title, "price": 1}
            assert process.client.post("/items/", json=item).status_code == 201
        yield process


def test_an_async_route_reads(async_shop: Process) -> None:
    response = async_shop.client.get("/async/titles")
    assert (response.status_code, response.json()) == (200, ["Kite", "Drachen ü"])


def test_an_async_route_cannot_write(async_shop: Process) -> None:
    assert async_shop.client.post("/async/items").status_code == 500
    # Logged once it was answered.
    told = re.compile(r" ERROR .*\] A route that writes has to .*\bWrite\b")
    wait_for(lambda: bool(told.search(async_shop.logged())))
    assert async_shop.client.get("/async/titles").json() == ["Kite", "Drachen ü"]


def test_async_routes_take_turns_when_there_are_more_than_connections(
    async_shop: Process,
) -> None:
    with ThreadPoolExecutor(40) as threads:
        waiting = [threads.submit(async_shop.client.get, "/async/count") for _ in range(80)]
        answers = [(answer.result().status_code, answer.result().json()) for answer in waiting]
    assert answers == [(200, 4)] * 80
