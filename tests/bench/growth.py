"""Measure what each route costs in a small shop and in a large one: what grows, and how much.

One client calls two services in turn, each one process, so that what else the machine does is
shared by both; the figures are medians.
"""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import httpx2
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

ROOT = Path(__file__).parent.parent.parent
SHOPS = {  # products, orders, users
    "small": (1_000, 200, 50),
    "large": (1_000_000, 200_000, 1_000),
}
FAR_INSIDE = [
    *(
        f"/products/?sort={sign}{column}"
        for column in ("id", "name", "price", "stock_quantity", "created_at")
        for sign in ("", "-")
    ),
    *("/products/?category_id=1&sort=price", "/products/?category_id=1&sort=-name"),
    *("/products/?is_active=true&sort=-price", "/products/?max_stock=0&sort=price"),
    *("/products/?min_price=100&sort=-price", "/products/low-stock?threshold=20"),
    *("/orders/?sort=-total_amount", "/orders/?status=delivered&sort=-created_at"),
    *("/users/?sort=username", "/posts/?sort=-view_count"),
]
console = Console()


class Call(NamedTuple):
    method: str
    path: str
    body: Any = None


class Shop:
    """The service on a database of its own, which is filled unless it is from an earlier run."""

    def __init__(self, url: str, size: tuple[int, int, int]) -> None:
        self.url, (self.products, self.orders, self.users) = url, size
        self.numbers = itertools.count(time.time_ns() // 1000)
        self.filled_in = self.fill()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), "--no-access-log"],
            env={**os.environ, "DATABASE_URL": url},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        until = time.monotonic() + 30
        while not self.answers():
            if time.monotonic() > until or self.process.poll() is not None:
                sys.exit(f"The service does not start on {url}")
            time.sleep(0.05)
        self.middle = self.client.get(f"/products/{self.products // 2}").json()
        plenty = {"price": 5, "stock_quantity": 1_000_000_000}
        self.sold = [self.create_product(plenty)["id"] for _ in range(3)]
        self.far_inside = {path: self.half_way(path) for path in FAR_INSIDE}

    def fill(self) -> float:
        """The seconds that it took; none if there are products already."""
        if created(self.url):
            return 0
        started = time.monotonic()
        sizes = ("--products", self.products, "--orders", self.orders, "--users", self.users)
        command = [sys.executable, "main.py", "demo", *map(str, sizes)]
        env = {**os.environ, "DATABASE_URL": self.url}
        subprocess.run(command, check=True, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        return time.monotonic() - started

    def answers(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return self.client.get("/health/db").status_code == 200
        return False

    def new_product(self) -> dict[str, Any]:
        n = next(self.numbers)
        return {"name": f"Pan {n}", "sku": f"PAN-{n}", "price": 5}

    def create_product(self, fields: dict[str, Any]) -> Any:
        return self.client.post("/products/", json=self.new_product() | fields).json()

    def half_way(self, path: str) -> str:
        """The path of the page half-way through a list, as a Link has it."""
        path += "&limit=1"
        total = int(self.client.get(f"{path}&count=true").headers["X-Total-Count"])
        link = self.client.get(f"{path}&skip={total // 2 - 1}").links["next"]["url"]
        return link.replace("limit=1", "limit=20")

    def calls(self) -> dict[str, Call]:
        """The calls to measure, by what they are called in the table."""
        middle, page = self.middle, self.products // 2 // 20
        lines = [{"product_id": id, "quantity": 1} for id in self.sold]
        bodies = {
            "POST /items/": Call("POST", "/items/", {"title": "Mug", "price": 9.99}),
            "POST /products/": Call("POST", "/products/", self.new_product()),
            "PATCH /products/{id}": Call(
                "PATCH", f"/products/{middle['id']}", {"price": next(self.numbers) % 100 + 1}
            ),
            "POST /orders/ of 3 lines": Call("POST", "/orders/", {"user_id": 1, "items": lines}),
        }
        paths = [
            *("/items/", "/items/1", "/products/", "/products/{middle}"),
            *("/products/by-sku/{sku}", "/products/by-slug/{slug}"),
            *("/products/?after={middle}", "/products/?skip={middle}"),
            *(
                f"/products/?sort={sign}{column}"
                for column in ("id", "name", "price", "stock_quantity", "created_at")
                for sign in ("", "-")
            ),
            *("/products/?category_id=1", "/products/?is_active=false", "/products/?max_stock=0"),
            *("/products/?min_price=100", "/products/?min_price=249.99", "/products/?max_price=5"),
            *("/products/?category_id=1&sort=price", "/products/?is_active=true&sort=price"),
            *("/products/?q=lantern", "/products/?q={name}", "/products/?q=zzzz"),
            *("/products/?count=true", "/products/?is_active=true&count=true"),
            *("/products/page", "/products/page?page={page}", "/products/low-stock"),
            *("/products/with-categories", "/products/by-category-stats"),
            *("/categories/", "/categories/1/products", "/categories/tree"),
            *("/users/", "/users/1", "/users/?sort=username", "/users/?sort=-created_at"),
            *("/users/?is_active=false", "/users/search?q=customer7", "/users/1/with-posts"),
            *("/users/page", "/users/top-spenders", "/users/stats/active-count"),
            *("/orders/", "/orders/1", "/orders/1/details", "/orders/1/payments"),
            *("/orders/?status=pending", "/orders/?status=cancelled", "/orders/?user_id=7"),
            *("/orders/user/7", "/orders/?sort=total_amount", "/orders/?sort=-total_amount"),
            *("/orders/?sort=created_at", "/orders/?sort=-created_at"),
            *("/orders/?status=delivered&sort=-created_at", "/orders/?q=customer7@"),
            "/orders/?created_from=2020-01-01T00:00:00Z&created_before=2100-01-01T00:00:00Z",
            *("/orders/stats/daily", "/orders/stats/summary", "/orders/stats/summary?user_id=7"),
            *("/notifications/", "/notifications/?user_id=7", "/notifications/?order_id=7"),
            *("/posts/", "/posts/1", "/posts/?tag=news", "/posts/?sort=-view_count"),
            *("/posts/?author_id=7", "/posts/?q=atlas", "/tags/", "/accounts/?user_id=7"),
            *("/transfers/", "/transfers/?account_id=7"),
        ]
        values = {"middle": middle["id"], "page": page}
        values |= {name: middle[name] for name in ("sku", "slug", "name")}
        far = {f"{path} far inside": Call("GET", link) for path, link in self.far_inside.items()}
        return {path: Call("GET", path.format(**values)) for path in paths} | far | bodies

    def measure(self, call: Call) -> tuple[float, int]:
        """How many milliseconds it took, and the status."""
        started = time.perf_counter()
        response = self.client.request(call.method, call.path, json=call.body)
        return (time.perf_counter() - started) * 1000, response.status_code

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


def created(url: str) -> bool:
    """Whether there are products in the database, which is created if there is none."""
    parts = sa.make_url(url)
    driver = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
    parts = parts.set(drivername=driver.get(parts.get_backend_name(), "mysql+pymysql"))
    if parts.get_backend_name() != "sqlite":
        system = "postgres" if parts.get_backend_name() == "postgresql" else ""
        engine = sa.create_engine(parts.set(database=system), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, contextlib.suppress(sa.exc.DBAPIError):
            connection.exec_driver_sql(f"CREATE DATABASE {parts.database}")
        engine.dispose()
    engine = sa.create_engine(parts, poolclass=sa.NullPool)
    with engine.connect() as connection, contextlib.suppress(sa.exc.DBAPIError):
        return bool(connection.exec_driver_sql("SELECT 1 FROM product LIMIT 1").first())
    return False


@contextlib.contextmanager
def both(url: str) -> Iterator[list[Shop]]:
    shops: list[Shop] = []
    try:
        for name, size in SHOPS.items():
            with console.status(f"filling the {name} shop"):
                shops.append(Shop(url.format(name), size))
        yield shops
    finally:
        for shop in shops:
            shop.stop()


def measure_all(shops: list[Shop], calls: int, seconds: float) -> dict[str, list[float]]:
    """The medians of each route; fewer calls of those that take long."""
    found = {}
    columns = "{task.description:>40}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*(TextColumn(c) if isinstance(c, str) else c for c in columns)) as progress:
        names = list(shops[0].calls())
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=name)
            until, times = time.monotonic() + seconds, [list[float]() for _ in shops]
            for n in range(calls + 1):
                for shop, taken in zip(shops, times, strict=True):
                    milliseconds, status = shop.measure(shop.calls()[name])
                    if status >= 400:
                        console.print(f"{name}: {status}, {len(taken)} measured")
                    if n:  # the first one may have to read from the disk
                        taken.append(milliseconds)
                if n >= 3 and time.monotonic() > until:
                    break
            found[name] = [median(taken) for taken in times]
            progress.advance(task)
    return found


def main(
    url: Annotated[
        str, typer.Option(help="Of the databases, which are kept; {} is for small and large.")
    ] = f"sqlite:///{tempfile.gettempdir()}/growth_{{}}.db",
    calls: Annotated[int, typer.Option(help="How many there are of each route.")] = 30,
    seconds: Annotated[float, typer.Option(help="After which there are no more of it.")] = 10,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        ".bench/growth.json"
    ),
) -> None:
    """Measure each route in a shop of 1,000 products and in one of 1,000,000."""
    with both(url) as shops:
        filled_in = [shop.filled_in for shop in shops]
        found = measure_all(shops, calls, seconds)
    titles = [f"{products:,} products" for products, _, _ in SHOPS.values()]
    table = Table("route", title=f"{sa.make_url(url).get_backend_name()}, milliseconds")
    for title in (*titles, "times"):
        table.add_column(title, justify="right")
    for name, (small, large) in sorted(found.items(), key=lambda pair: pair[1][1] / pair[1][0]):
        table.add_row(name, f"{small:.1f}", f"{large:.1f}", f"{large / small:.1f}")
    console.print(table)
    figures = {"calls": calls, "filled in, seconds": filled_in, "milliseconds": found}
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(figures, indent=1))
    console.print(f"{output} has the figures.")


if __name__ == "__main__":
    typer.run(main)
