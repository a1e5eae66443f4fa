"""What the driver allows: an ASGI application written by hand, which checks next to nothing.

SQLite is called from the event loop itself; PostgreSQL through as many asynchronous
connections as the service has. It validates no body, explains no error and retries nothing.
"""

import asyncio
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from psycopg.rows import dict_row

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

URL = os.environ["DATABASE_URL"]
CONNECTIONS = 15
TABLES = """
CREATE TABLE items (id {id}, title TEXT NOT NULL, description TEXT, price {money} NOT NULL,
    is_available BOOLEAN NOT NULL);
CREATE TABLE users (id {id}, username TEXT UNIQUE, email TEXT UNIQUE);
CREATE TABLE products (id {id}, name TEXT, sku TEXT UNIQUE, price {money}, stock_quantity BIGINT);
CREATE TABLE orders (id {id}, user_id INTEGER REFERENCES users (id), total_amount {money},
    status TEXT);
CREATE TABLE order_items (id {id}, order_id INTEGER REFERENCES orders (id),
    product_id INTEGER REFERENCES products (id), quantity INTEGER, unit_price {money});
"""
COLUMNS = "id, title, description, price, is_available"
GET = f"SELECT {COLUMNS} FROM items WHERE id = %s"
LIST = f"SELECT {COLUMNS} FROM items ORDER BY id LIMIT %s"
CREATE = f"INSERT INTO items (title, price, is_available) VALUES (%s, %s, true) RETURNING {COLUMNS}"
PATCH = f"UPDATE items SET price = %s WHERE id = %s RETURNING {COLUMNS}"
USER = "INSERT INTO users (username, email) VALUES (%s, %s) RETURNING id, username, email"
PRODUCT = (
    "INSERT INTO products (name, sku, price, stock_quantity) VALUES (%s, %s, %s, %s)"
    " RETURNING id, name, sku, price, stock_quantity"
)
TAKE = (
    "UPDATE products SET stock_quantity = stock_quantity - %s WHERE id = %s AND"
    " stock_quantity >= %s RETURNING price"
)
ORDER = "INSERT INTO orders (user_id, total_amount, status) VALUES (%s, %s, 'pending') RETURNING id"
LINE = (
    "INSERT INTO order_items (order_id, product_id, quantity, unit_price) VALUES (%s, %s, %s, %s)"
    " RETURNING id, product_id, quantity, unit_price"
)


class SQLite:
    """One connection: a transaction is over before the event loop goes on."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(
            URL.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
        )
        self.connection.row_factory = lambda cursor, row: {
            column[0]: value for column, value in zip(cursor.description, row, strict=True)
        }
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")

    async def start(self) -> None:
        ids = {"id": "INTEGER PRIMARY KEY", "money": "INTEGER"}
        self.connection.executescript(TABLES.format(**ids))

    async def run(self, work: Callable[[Any], Awaitable[Any]], *, writes: bool) -> Any:
        if writes:
            self.connection.execute("BEGIN IMMEDIATE")
        try:
            return await work(self.rows)
        finally:
            if writes:
                self.connection.execute("COMMIT")

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self.connection.execute(query.replace("%s", "?"), values).fetchall()


class PostgreSQL:
    def __init__(self) -> None:
        self.idle: asyncio.Queue[Any] = asyncio.Queue()

    async def start(self) -> None:
        for n in range(CONNECTIONS):
            connection = await psycopg.AsyncConnection.connect(
                URL, autocommit=True, row_factory=dict_row, prepare_threshold=0
            )
            if n == 0:
                ids = {"id": "SERIAL PRIMARY KEY", "money": "NUMERIC(14, 2)"}
                await connection.execute(TABLES.format(**ids), prepare=False)
            self.idle.put_nowait(connection)

    async def run(self, work: Callable[[Any], Awaitable[Any]], *, writes: bool) -> Any:
        connection = await self.idle.get()

        async def rows(query: str, *values: Any) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = await (await connection.execute(query, values)).fetchall()
            return found

        try:
            if not writes:
                return await work(rows)
            async with connection.transaction():
                return await work(rows)
        finally:
            self.idle.put_nowait(connection)


database: Any = SQLite() if URL.startswith("sqlite") else PostgreSQL()


async def place(rows: Any, body: Any) -> Any:
    total, lines = 0, []
    for line in sorted(body["items"], key=lambda line: line["product_id"]):
        quantity, product = line["quantity"], line["product_id"]
        [found] = await rows(TAKE, quantity, product, quantity)
        total += found["price"] * quantity
        lines.append((product, quantity, found["price"]))
    [order] = await rows(ORDER, body["user_id"], total)
    items = [(await rows(LINE, order["id"], *line))[0] for line in lines]
    return {"id": order["id"], "status": "pending", "total_amount": total, "items": items}


async def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
    name, id = path.split("/")[1:3]
    values: tuple[Any, ...]
    if method == "GET":
        query, values = (GET, (int(id),)) if id else (LIST, (20,))
        found = await database.run(lambda rows: rows(query, *values), writes=False)
        return (200 if found else 404), found[0] if id and found else found
    if name == "orders":
        return 201, await database.run(lambda rows: place(rows, body), writes=True)
    if method == "PATCH":
        query, values = PATCH, (body["price"], int(id))
    elif name == "items":
        query, values = CREATE, (body["title"], body["price"])
    elif name == "users":
        query, values = USER, (body["username"], body["email"])
    else:
        query = PRODUCT
        values = body["name"], body["sku"], body["price"], body["stock_quantity"]
    [row] = await database.run(lambda rows: rows(query, *values), writes=True)
    return 200 if method == "PATCH" else 201, row


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await database.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body, more = b"", scope["method"] != "GET"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    status, content = await answer(
        scope["method"], scope["path"], json.loads(body) if body else None
    )
    text = json.dumps(content, default=float).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
