"""A plain route takes a shorter way than FastAPI's own, and comes to the same."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.testclient import TestClient

from db import Read
from kit import handler

numbers = count()


class Paging(BaseModel):
    skip: Annotated[int, Field(ge=0)] = 0
    limit: int = 20


class Thing(BaseModel):
    name: Annotated[str, Field(max_length=5)]
    size: int | None = None


class Sized(BaseModel):
    sizes: list[int] = []


def one(session: Read, id: int, answer: Response) -> Thing:
    answer.headers["X-Id"] = str(id)
    return Thing(name=f"n{id}")


def many(
    session: Read,
    asked: Request,
    paging: Annotated[Paging, Query()],
    q: str | None = None,
    *,
    flag: bool = False,
    kind: Annotated[str, Query(alias="of-kind", pattern="^[a-z]+$")] = "any",
) -> list[Any]:
    return [paging.skip, paging.limit, q, flag, kind, asked.url.path]


def new(session: Read, data: Thing, trace: Annotated[str | None, Header()] = None) -> Thing:
    return Thing(name=data.name, size=len(trace or ""))


def gone(session: Read, id: int) -> None:
    return None


def refused(session: Read, id: Annotated[int, Field(le=9)], need: int) -> Any:
    return {"id": id, "need": need}


def listed(session: Read, tag: Annotated[list[str], Query()] = []) -> list[str]:  # noqa: B006
    return tag


def sizes(session: Read, sized: Annotated[Sized, Query()]) -> list[int]:
    return sized.sizes


def counted(session: Read, n: Annotated[int, Query(default_factory=lambda: next(numbers))]) -> int:
    return n


def sparse(session: Read) -> Thing:
    return Thing(name="x")


def app_of(route_class: type[APIRoute]) -> FastAPI:
    app = FastAPI()
    app.router.route_class = route_class
    app.get("/one/{id}")(one)
    app.get("/many")(many)
    app.post("/new", status_code=201)(new)
    app.delete("/gone/{id}", status_code=204)(gone)
    app.get("/refused/{id}", response_model=dict[str, int])(refused)
    app.get("/listed")(listed)
    app.get("/sizes")(sizes)
    app.get("/counted")(counted)
    app.get("/sparse", response_model_exclude_none=True)(sparse)
    return app


@pytest.fixture(scope="module")
def apps() -> Iterator[list[TestClient]]:
    with (
        TestClient(app_of(handler.TransactionRoute)) as ours,
        TestClient(app_of(APIRoute)) as theirs,
    ):
        yield [ours, theirs]


JSON = {"Content-Type": "application/json"}
Call = Callable[[TestClient], Any]


def get(path: str) -> Any:
    return pytest.param(lambda client: client.get(path), id=path)


def post(content: str | bytes, headers: dict[str, str]) -> Any:
    return pytest.param(
        lambda client: client.post("/new", content=content, headers=headers),
        id=f"{content!r} {headers}",
    )


@pytest.mark.parametrize(
    "call",
    [
        *map(get, ("/one/1", "/one/x", "/one/1.5", "/one/%31", "/one/", "/refused/5?need=1")),
        *map(get, ("/refused/10?need=1", "/refused/1", "/refused/1?need=", "/refused/x?need=y")),
        *map(get, ("/many", "/many?skip=3&limit=4", "/many?skip=-1", "/many?limit=x&flag=maybe")),
        *map(
            get, ("/many?q=", "/many?q=a&q=b", "/many?flag=true", "/many?of-kind=A", "/many?kind=a")
        ),
        *map(get, ("/many?of-kind=abc&skip=&limit=5", "/many?q=%F0%9F%8D%95%00", "/many?")),
        *map(
            get,
            (
                "/listed",
                "/listed?tag=a&tag=b",
                "/listed?tag=",
                "/sizes?sizes=1&sizes=2",
                "/sizes?sizes=x",
            ),
        ),
        *map(get, ("/sparse", "/nothing")),
        post('{"name": "a", "size": 2}', JSON),
        post('{"name": "a"}', JSON | {"Trace": "abc"}),
        post('{"name": "a"}', {"Content-Type": "application/vnd.x+json; charset=utf-8"}),
        post('{"name": "a"}', {"Content-Type": "APPLICATION/JSON"}),
        post('{"name": "too long"}', JSON),
        post('{"name": 1, "size": "x"}', JSON),
        post("[1]", JSON),
        post("null", JSON),
        post("", JSON),
        post("{", JSON),
        post('{"name": "a"}', {"Content-Type": "text/plain"}),
        post('{"name": "a"}', {}),
        pytest.param(lambda client: client.delete("/gone/1"), id="delete"),
        pytest.param(lambda client: client.put("/one/1"), id="put"),
    ],
)
def test_a_plain_route_answers_as_fastapis_own(apps: list[TestClient], call: Call) -> None:
    ours, theirs = (told(call(client)) for client in apps)
    assert ours == theirs


def told(response: Any) -> Any:
    """What a client learns; of what is wrong not the input again, as no client of ours does."""
    body: Any = response.json() if response.content else None
    headers = dict(response.headers)
    if response.status_code == 422:
        body = [(e["loc"], e["msg"], e["type"]) for e in body["detail"]]
        del headers["content-length"]
    if response.status_code == 204:  # FastAPI says of nothing that it is JSON
        headers.pop("content-type", None)
    return response.status_code, body, headers


def test_a_default_that_is_made_is_made_anew_for_each_request(apps: list[TestClient]) -> None:
    for client in apps:
        assert client.get("/counted").json() != client.get("/counted").json()


def test_what_can_be_plain_is_plain() -> None:
    routes = {r.path: r for r in app_of(handler.TransactionRoute).routes if isinstance(r, APIRoute)}
    plain = {path for path, route in routes.items() if getattr(route, "is_plain", False)}
    assert set(routes) - plain == {"/sizes", "/counted", "/sparse"}
