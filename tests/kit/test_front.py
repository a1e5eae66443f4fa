"""Who may read an answer: of every kind, that to a fault included."""

import pytest
from conftest import ORIGIN
from tiny import get

import db
import kit
from db import Public
from kit.problems import BusyError


@pytest.fixture
def broken(bare_app: kit.Service, monkeypatch: pytest.MonkeyPatch) -> kit.Service:
    """An app that a web origin may call, with a route for each kind of fault."""
    monkeypatch.setattr(db.settings, "cors_origins", ORIGIN)

    @bare_app.get("/fault", dependencies=[Public])
    async def fault() -> str:
        raise RuntimeError("secret detail")

    @bare_app.get("/busy", dependencies=[Public])
    async def busy() -> str:
        raise BusyError("Busy")

    return bare_app


@pytest.mark.parametrize(("path", "status"), [("/fault", 500), ("/busy", 503), ("/nowhere", 404)])
def test_every_error_can_be_read_from_a_web_origin(
    broken: kit.Service, path: str, status: int
) -> None:
    answer = get(broken, path, Origin=ORIGIN)
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Vary"] == "Origin"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in answer.text
    too_much = get(broken, path, Origin=ORIGIN, X="x" * 65_536)
    assert (too_much.status_code, too_much.headers["Vary"]) == (431, "Origin")
    assert too_much.headers["Access-Control-Allow-Origin"] == ORIGIN
    other = get(broken, path, Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in other.headers
    assert other.headers["Vary"] == "Origin"


def test_a_refusal_in_open_mode_can_be_read_from_a_web_origin_too(broken: kit.Service) -> None:
    refused = get(broken, "/busy", Origin=ORIGIN, Forwarded="for=203.0.113.5")
    assert (refused.status_code, refused.headers["Vary"]) == (403, "Origin")
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
