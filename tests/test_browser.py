"""The documentation in a real browser: what its pages load, and logging in with its button.

Where there is no Chromium these tests are skipped, or fail if BROWSER_REQUIRED is set.
"""

import json
import os
import shutil
from collections.abc import Iterator

import pytest
from conftest import KEY, Json, create_user, serving
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"  # ReDoc wants it, and cannot be told not to
WHEN_IDLE = "() => new Promise(done => requestIdleCallback(() => done()))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        stop = pytest.fail if os.environ.get("BROWSER_REQUIRED") else pytest.skip
        stop(f"No browser: none of {', '.join(NAMES)} is on the PATH")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=found, args=ARGUMENTS) as browser,
    ):
        yield browser


@pytest.fixture(scope="module")
def shop(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Json]]:
    """The address of a server where one has to log in, and a user who can."""
    url = f"sqlite:///{tmp_path_factory.mktemp('browser')}/browser_test.db"
    with serving(url, SECRET_KEY=KEY) as server:
        yield str(server.base_url).rstrip("/"), create_user(server)


@pytest.fixture
def page(browser: Browser, shop: tuple[str, Json]) -> Iterator[Page]:
    with browser.new_page(base_url=shop[0]) as page:
        yield page


@pytest.fixture
def troubles(page: Page, shop: tuple[str, Json]) -> list[str]:
    """What has gone wrong on the page so far, or has been asked of another machine.

    ReDoc's logo is none of it as long as the Content-Security-Policy stops it.
    """
    address, heard = shop[0], list[str]()

    def on_console(message: ConsoleMessage) -> None:
        stopped = LOGO in message.text and "violates" in message.text
        told_below = message.text.startswith("Failed to load resource")
        if message.type in ("warning", "error") and not stopped and not told_below:
            heard.append(message.text)

    def on_error(error: Error) -> None:
        heard.append(f"error: {error}")

    def on_request(request: Request) -> None:
        here = f"{address}/", f"blob:{address}/", "data:"
        if request.url != LOGO and not request.url.startswith(here):
            heard.append(f"elsewhere: {request.url}")

    def on_failure(request: Request) -> None:
        if (request.url, request.failure) != (LOGO, "csp"):
            heard.append(f"failed: {request.url}: {request.failure}")

    def on_response(response: Response) -> None:
        if not response.ok or response.url == LOGO:
            heard.append(f"{response.status} {response.url.removeprefix(address)}")

    page.on("console", on_console)
    page.on("pageerror", on_error)
    page.on("request", on_request)
    page.on("requestfailed", on_failure)
    page.on("response", on_response)
    return heard


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/docs", ".opblock"),
        ("/api/v1/docs", ".opblock"),
        ("/redoc", "[id*='/operation/']"),
        ("/api/v1/redoc", "[id*='/operation/']"),
    ],
)
def test_the_documentation_draws_every_route_with_what_comes_from_here(
    page: Page, troubles: list[str], path: str, route: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path)
    expect(page.get_by_role("heading", name="Cornershop API")).to_be_visible()
    paths = page.request.get("/openapi.json").json()["paths"]
    expect(page.locator(route)).to_have_count(sum(map(len, paths.values())))
    page.evaluate(WHEN_IDLE)
    assert troubles == []


@pytest.mark.parametrize("server", ["/", "/api/v1"])
def test_the_authorize_button_logs_in_whichever_server_is_selected(
    page: Page, shop: tuple[str, Json], troubles: list[str], server: str
) -> None:
    page.goto("/docs")
    page.locator(".servers select").select_option(server)
    me = page.locator("#operations-users-read_me")
    status = me.locator(".live-responses-table tbody .response-col_status")
    me.get_by_text("/users/me").click()
    me.get_by_role("button", name="Try it out").click()
    me.get_by_role("button", name="Execute").click()
    expect(status).to_have_text("401")

    page.get_by_role("button", name="Authorize", exact=True).click()
    dialog = page.locator(".dialog-ux")
    dialog.get_by_label("username:").fill("ann")
    dialog.get_by_label("password:").fill("Password2")
    dialog.get_by_text("Authorize", exact=True).click()
    expect(dialog.locator(".errors")).to_contain_text("Unauthorized")

    dialog.get_by_label("password:").fill("Password1")
    dialog.get_by_text("Authorize", exact=True).click()
    expect(dialog.get_by_text("Logout")).to_be_visible()
    expect(dialog.locator(".errors")).to_have_count(0)
    dialog.get_by_text("Close", exact=True).click()
    expect(dialog).to_have_count(0)

    me.get_by_role("button", name="Execute").click()
    expect(status).to_have_text("200")
    body = me.locator(".live-responses-table .highlight-code").first.inner_text()
    assert json.loads(body[body.index("{") : body.rindex("}") + 1]) == shop[1]
    prefix = server.rstrip("/")
    assert troubles == [f"401 {prefix}/users/me", "401 /token"]
