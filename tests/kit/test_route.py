"""A route that says nothing about access stops the start, wherever it is defined."""

from decimal import Decimal
from typing import Any

import fastapi
import pytest
from sqlmodel import Session, SQLModel, StaticPool, create_engine, select
from tiny import get, start

import kit
from db import Anyone, Owner, Read, Superuser, access, read_session
from models import Item


def open_door() -> str:
    return "open"


def count(session: Read) -> int:
    return len(session.exec(select(Item)).all())


ROUTERS = [fastapi.APIRouter, kit.APIRouter]
REFUSED = "open_door has to say once who may call it: dependencies=\\[Anyone\\]"


@pytest.mark.parametrize("router", ROUTERS)
def test_a_route_that_does_not_say_who_may_call_it_stops_the_start(
    bare_app: kit.Service, router: Any
) -> None:
    doors = router(prefix="/doors")
    doors.get("/{id}")(open_door)
    bare_app.include_router(doors)
    with pytest.raises(RuntimeError, match=REFUSED):
        start(bare_app)
    assert get(bare_app, "/doors/1").status_code == 500


def test_a_websocket_or_a_mount_stops_the_start_too(bare_app: kit.Service) -> None:
    bare_app.mount("/other", fastapi.FastAPI())
    with pytest.raises(RuntimeError, match="has to say once who may call it"):
        start(bare_app)
    sockets = fastapi.APIRouter()
    sockets.websocket("/socket")(open_door)
    with pytest.raises(TypeError, match="has to say once who may call it"):
        bare_app.include_router(sockets)


@pytest.mark.parametrize("router", ROUTERS)
def test_included_routers_work_as_fastapi_says(bare_app: kit.Service, router: Any) -> None:
    inner, outer = router(tags=["inner"]), router(prefix="/outer", responses={418: {}})
    inner.get("/items/count", dependencies=[Anyone])(count)
    outer.include_router(inner, prefix="/inner")
    bare_app.include_router(outer, prefix="/v2", tags=["v2"], dependencies=[Anyone])
    start(bare_app)
    assert get(bare_app, "/v2/outer/inner/items/count").json() == 0
    told = bare_app.openapi()["paths"]["/v2/outer/inner/items/count"]["get"]
    assert told["tags"] == ["v2", "inner"]
    assert {"418", "503"} <= told["responses"].keys()
    assert get(bare_app, "/v2/outer/inner/items/count?x=1").status_code == 422


def test_a_router_can_say_for_its_routes_who_may_call_them(bare_app: kit.Service) -> None:
    for name, of_router, of_route in (
        ("router", [Owner], []),
        ("stricter", [Owner], [Superuser]),
        ("never_weaker", [Superuser], [Anyone]),
    ):
        router = fastapi.APIRouter(prefix=f"/{name}", dependencies=of_router)
        router.get("/", dependencies=of_route)(count)
        bare_app.include_router(router)
    who = {r.path: r.who for r in bare_app.routes if isinstance(r, kit.Route)}
    assert who == {"/router/": "owner", "/stricter/": "superuser", "/never_weaker/": "superuser"}
    assert access.is_open()
    start(bare_app)


def test_an_override_reaches_the_session(bare_app: kit.Service) -> None:
    bare_app.get("/count", dependencies=[Anyone])(count)
    assert get(bare_app, "/count").json() == 0
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    SQLModel.metadata.create_all(engine, tables=[SQLModel.metadata.tables["item"]])
    with Session(engine) as own:
        own.add(Item(title="Lamp", price=Decimal(1)))
        bare_app.dependency_overrides[read_session] = lambda: own
        assert get(bare_app, "/count").json() == 1
        bare_app.dependency_overrides.clear()
    assert get(bare_app, "/count").json() == 0
