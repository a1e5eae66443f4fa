"""The documentation and the admin in a real browser: what their pages load, and using them.

Where there is no Chromium these tests are skipped, or fail if BROWSER_REQUIRED is set.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import httpx2
import pytest
from conftest import KEY, Json, log_in
from databases import HOME, SCRATCH
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    Request,
    Response,
    StorageState,
    expect,
    sync_playwright,
)
from servers import create_user, leave_out, serving

pytestmark = pytest.mark.system

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
expect.set_options(timeout=30_000)  # milliseconds: the machine may be busy
WHEN_IDLE = "() => new Promise(done => requestIdleCallback(() => done()))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        leave_out("BROWSER_REQUIRED", f"No browser: none of {', '.join(NAMES)} is on the PATH")
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
    return troubles_of(page, shop[0])


def troubles_of(page: Page, address: str) -> list[str]:
    """What has gone wrong on the page so far, or has been asked of another machine.

    What the browser gives up when a page is left is none of it: a stream of events, an icon.
    """
    heard = list[str]()

    def on_console(message: ConsoleMessage) -> None:
        told_below = message.text.startswith("Failed to load resource")
        if message.type in ("warning", "error") and not told_below:
            heard.append(message.text)

    def on_error(error: Error) -> None:
        heard.append(f"error: {error}")

    def on_request(request: Request) -> None:
        here = f"{address}/", f"blob:{address}/", "data:"
        if not request.url.startswith(here):
            heard.append(f"elsewhere: {request.url}")

    def on_failure(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":
            heard.append(f"failed: {request.url}: {request.failure}")

    def on_response(response: Response) -> None:
        if response.status >= 400:
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


# The admin, in a shop of demo.

SUPERUSER, PASSWORD = "root", "Password1"
WHO_LOGS_OUT = "second_root"  # which ends all tokens of a user
EVENTS = "**/notifications/events"


@pytest.fixture(scope="module")
def demo_shop(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A client of a server with a shop of demo, where one has to log in, and a superuser."""
    url = f"sqlite:///{tmp_path_factory.mktemp('admin')}/admin_test.db"
    options = [
        ["--username", name, "--email", f"{name}@example.com", "--password", PASSWORD]
        for name in (SUPERUSER, WHO_LOGS_OUT)
    ]
    for command in (["demo"], *(["createsuperuser", *each] for each in options)):
        subprocess.run(
            [sys.executable, HOME / "main.py", *command],
            env={**os.environ, "DATABASE_URL": url},
            cwd=SCRATCH,
            capture_output=True,
            check=True,
        )
    with serving(url, SECRET_KEY=KEY) as server:
        server.headers |= log_in(server, SUPERUSER, PASSWORD)
        yield server


@pytest.fixture(scope="module")
def address(demo_shop: httpx2.Client) -> str:
    return str(demo_shop.base_url).rstrip("/")


@pytest.fixture(scope="module")
def logged_in(browser: Browser, address: str) -> StorageState:
    """The cookies of who has logged in."""
    with browser.new_page(base_url=address) as page:
        fill_log_in(page, PASSWORD)
        expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
        return page.context.storage_state()


@pytest.fixture
def admin(browser: Browser, address: str, logged_in: StorageState) -> Iterator[Page]:
    with browser.new_page(base_url=address, storage_state=logged_in) as page:
        yield page


@pytest.fixture
def admin_troubles(admin: Page, address: str) -> list[str]:
    return troubles_of(admin, address)


@pytest.fixture
def order(demo_shop: httpx2.Client) -> Json:
    return place_order(demo_shop)


def place_order(shop: httpx2.Client) -> Json:
    products = shop.get("/products/", params={"is_active": True, "limit": 50}).json()
    plenty = max(products, key=lambda product: product["stock_quantity"])
    body = {"user_id": 1, "items": [{"product_id": plenty["id"], "quantity": 1}]}
    response = shop.post("/orders/", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def fill_log_in(page: Page, password: str, name: str = SUPERUSER) -> None:
    page.goto("/admin/")
    page.get_by_label("Username or e-mail").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def fill_product(page: Page, sku: str, price: str) -> None:
    page.goto("/admin/product/create")
    page.get_by_label("Name", exact=True).fill(f"Lamp {sku}")
    page.get_by_label("SKU").fill(sku)
    page.get_by_label("Price").fill(price)


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_a_superuser_logs_in_through_the_form_and_out_again(browser: Browser, address: str) -> None:
    with browser.new_page(base_url=address) as page:
        troubles = troubles_of(page, address)
        fill_log_in(page, "Password2", WHO_LOGS_OUT)
        expect(page.get_by_text("Wrong name or password")).to_be_visible()
        fill_log_in(page, PASSWORD, WHO_LOGS_OUT)
        expect(page).to_have_url(f"{address}/admin/")
        expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
        page.get_by_role("button", name="Logout").click()
        expect(page).to_have_url(f"{address}/admin/login")
        page.goto("/admin/product/list")
        expect(page).to_have_url(re.compile(f"{address}/admin/login"))
        assert troubles == ["400 /admin/login"]


@pytest.mark.needs("products")
def test_a_product_is_created_edited_and_deleted_in_the_admin(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    fill_product(admin, "LAMP-1", "12.50")
    save(admin)
    row = admin.locator("tbody tr", has_text="LAMP-1")
    expect(row).to_contain_text("12.50")

    row.locator("[href*='/edit/']").click()
    expect(admin.get_by_label("Name", exact=True)).to_have_value("Lamp LAMP-1")
    admin.get_by_label("Price").fill("13.75")
    save(admin)
    expect(row).to_contain_text("13.75")

    row.locator("[data-bs-target='#modal-delete']").click()
    dialog = admin.locator("#modal-delete")
    expect(dialog.locator("#modal-delete-text")).to_have_text(re.compile("Product .* be deleted"))
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog).to_be_hidden()
    expect(admin.locator("tbody tr").first).to_be_visible()
    expect(row).to_have_count(0)
    assert demo_shop.get("/products/", params={"q": "LAMP-1"}).json() == []
    assert admin_troubles == []


@pytest.mark.needs("accounts", "tags")
def test_a_deletion_that_is_refused_says_why_where_it_was_asked_for(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    admin.goto("/admin/user/list")
    button = admin.get_by_role("button", name="Actions")
    dialog = admin.locator("#modal-delete")
    text = dialog.locator("#modal-delete-text")

    def ask_for_all() -> None:
        button.click()
        admin.get_by_text("Delete selected items").click()

    ask_for_all()
    expect(text).to_have_text("No row is selected.")
    expect(dialog.get_by_role("button", name="Delete")).to_be_disabled()
    dialog.get_by_text("Cancel").click()
    expect(dialog).to_be_hidden()
    for box in admin.get_by_label("Select item").all()[-2:]:
        box.check()
    ask_for_all()
    expect(text).to_have_text("2 rows will be deleted.")
    dialog.get_by_role("button", name="Delete").click()
    expect(text).to_contain_text("still refers to it")
    assert admin_troubles == ["409 /admin/user/delete?pks=34,33"]

    tag = demo_shop.post("/tags/", json={"name": "Short-lived"}).json()
    admin.goto(f"/admin/tag/details/{tag['id']}")
    admin.get_by_role("link", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(admin).to_have_url(re.compile("/admin/tag/list$"))
    assert demo_shop.get(f"/tags/{tag['id']}").status_code == 404


@pytest.mark.needs("products")
def test_what_is_wrong_with_a_product_is_told_at_its_field(
    admin: Page, admin_troubles: list[str]
) -> None:
    fill_product(admin, "LAMP-2", "-2")
    save(admin)
    told = admin.locator(".form-group", has=admin.get_by_label("Price"))
    expect(told.locator(".invalid-feedback")).to_have_text("Has to be above 0")
    expect(told.locator(".invalid-feedback")).to_be_visible()
    expect(admin.locator(".invalid-feedback")).to_have_count(1)
    expect(admin.get_by_label("Price")).to_have_value("-2")
    assert admin_troubles == ["400 /admin/product/create"]


@pytest.mark.needs("products")
def test_a_category_is_chosen_by_typing_some_of_its_name(
    admin: Page, admin_troubles: list[str]
) -> None:
    fill_product(admin, "LAMP-3", "3")
    admin.locator(".select2-selection").click()
    admin.locator(".select2-search__field").fill("gard")
    admin.get_by_role("option", name="Garden", exact=True).click()
    expect(admin.locator(".select2-selection")).to_contain_text("Garden")
    save(admin)
    expect(admin.locator("tbody tr", has_text="LAMP-3")).to_contain_text("Garden")
    assert admin_troubles == []


@pytest.mark.needs("tags")
def test_a_list_is_exported_and_imported_with_its_buttons(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    admin.goto("/admin/tag/list")
    with admin.expect_download() as download:
        admin.get_by_role("link", name="Export").click()
    assert download.value.suggested_filename == "tags.csv"
    files = [
        {"name": "tags.csv", "mimeType": "", "buffer": text.encode()}
        for text in ("slug,name\nimported,Imported\n", "slug,name\nNo slug,x\n")
    ]
    button, told = admin.locator("#import"), admin.locator("#told")
    expect(told).to_be_hidden()
    button.set_input_files(files[:1])  # type: ignore[arg-type]
    admin.get_by_role("button", name="Apply").click()
    expect(told).to_have_text("1 created, 0 changed, 0 unchanged")
    expect(admin.locator("tbody tr", has_text="imported")).to_be_visible()
    assert is_within_the_screen(admin)
    button.set_input_files(files[1:])  # type: ignore[arg-type]
    expect(admin.get_by_role("dialog")).to_contain_text("lines are wrong")
    assert admin_troubles == []
    admin.goto("/admin/tag/list")
    expect(told).to_be_hidden()


@pytest.mark.needs("orders")
def test_the_dashboard_draws_its_charts(admin: Page, admin_troubles: list[str]) -> None:
    admin.goto("/admin/")
    charts = admin.locator(".chart svg")
    expect(charts).to_have_count(3)
    for chart in charts.all():
        expect(chart).to_be_visible()
        boxes = [bar.bounding_box() for bar in chart.locator("rect.bar").all()]
        assert any(box and box["height"] > 0 and box["width"] > 0 for box in boxes)
    assert admin_troubles == []


@pytest.mark.needs("orders")
def test_an_order_shows_on_the_dashboard_by_itself(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    with admin.expect_response(EVENTS):
        admin.goto("/admin/")
    newest = admin.locator(".card", has_text="Newest orders")
    expect(newest).to_be_visible()
    admin.evaluate("() => { window.isTheSame = true }")
    number = place_order(demo_shop)["order_number"]
    expect(newest.locator("tbody tr").first).to_contain_text(number)
    assert admin.evaluate("() => window.isTheSame") is True
    assert admin_troubles == []


@pytest.fixture
def dashboards(browser: Browser, address: str, logged_in: StorageState) -> Iterator[BrowserContext]:
    """A browser in which nine tabs can be opened, each with the dashboard."""
    with browser.new_context(base_url=address, storage_state=logged_in) as context:
        yield context


def open_dashboards(context: BrowserContext, count: int) -> list[str]:
    """Open so many; the streams of events that are asked for by then, and from then on."""
    asked = list[str]()
    context.on("request", lambda r: asked.append(r.url) if r.url.endswith("/events") else None)
    for _ in range(count):
        context.new_page().goto("/admin/")
    return asked


def expect_on(context: BrowserContext, number: str) -> None:
    for page in context.pages:
        newest = page.locator(".card", has_text="Newest orders")
        expect(newest.locator("tbody tr").first).to_contain_text(number)


@pytest.mark.needs("orders")
def test_nine_tabs_with_the_dashboard_share_one_stream(
    dashboards: BrowserContext, demo_shop: httpx2.Client
) -> None:
    asked = open_dashboards(dashboards, 9)
    expect_on(dashboards, place_order(demo_shop)["order_number"])
    assert len(asked) == 1
    dashboards.pages[0].goto("/admin/product/list")  # another one has to listen now
    expect(dashboards.pages[0].locator("tbody tr").first).to_be_visible()
    dashboards.pages[0].close()
    expect_on(dashboards, place_order(demo_shop)["order_number"])
    assert len(asked) == 2


HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true})
    document.dispatchEvent(new Event("visibilitychange"))
}"""


@pytest.mark.needs("orders")
def test_where_tabs_cannot_share_a_stream_those_that_are_hidden_have_none(
    dashboards: BrowserContext, demo_shop: httpx2.Client
) -> None:
    dashboards.add_init_script("delete Navigator.prototype.locks")  # as without HTTPS
    for _ in range(9):
        with dashboards.expect_event("response", lambda r: r.url.endswith("/events")):
            page = dashboards.new_page()
            page.goto("/admin/")
        page.evaluate(HIDE, True)
    number = place_order(demo_shop)["order_number"]
    for page in dashboards.pages:
        page.evaluate(HIDE, False)
        newest = page.locator(".card", has_text="Newest orders")
        expect(newest.locator("tbody tr").first).to_contain_text(number)
        page.evaluate(HIDE, True)


@pytest.mark.needs("orders")
def test_a_dashboard_without_a_stream_asks_again(
    dashboards: BrowserContext, demo_shop: httpx2.Client
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):  # as many as a user may have
            stack.enter_context(demo_shop.stream("GET", "/notifications/events"))
        with dashboards.expect_event("response", lambda r: r.url.endswith("/events")) as refused:
            open_dashboards(dashboards, 1)
        assert refused.value.status == 429
        expect_on(dashboards, place_order(demo_shop)["order_number"])
    with dashboards.expect_event("response", lambda r: r.url.endswith("/events")) as taken:
        pass
    assert taken.value.status == 200


@pytest.mark.needs("orders")
def test_the_status_of_an_order_is_changed_in_its_form(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client, order: Json
) -> None:
    admin.goto(f"/admin/order/edit/{order['id']}")
    admin.get_by_label("Status").select_option("confirmed")
    save(admin)
    row = admin.locator("tbody tr", has_text=order["order_number"])
    expect(row).to_contain_text("confirmed")
    assert demo_shop.get(f"/orders/{order['id']}").json()["status"] == "confirmed"
    assert admin_troubles == []


@pytest.mark.needs("orders")
def test_an_order_is_found_by_its_customer_confirmed_and_cancelled_by_buttons(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client, order: Json
) -> None:
    asked, answers = list[str](), iter([False, True])

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        (dialog.accept if next(answers) else dialog.dismiss)()

    def status() -> str:
        return str(demo_shop.get(f"/orders/{order['id']}").json()["status"])

    admin.on("dialog", answer)
    email = demo_shop.get("/users/1").json()["email"]
    admin.goto(f"/admin/order/list?search={email}")
    admin.get_by_role("link", name=order["order_number"]).click()
    admin.get_by_role("button", name="Confirm").click()
    expect(admin.locator("#told")).to_have_text(f"Confirm: Order {order['order_number']}")
    assert status() == "confirmed"
    cancel = admin.get_by_role("button", name="Cancel", exact=True)
    cancel.click()
    assert (len(asked), status()) == (1, "confirmed")
    cancel.click()
    expect(admin.locator("#told")).to_have_text(f"Cancel: Order {order['order_number']}")
    expect(cancel).to_have_count(0)
    assert (len(asked), status()) == (2, "cancelled")
    assert admin_troubles == []


@pytest.mark.needs("orders")
def test_several_orders_are_shipped_at_once_from_the_list(
    admin: Page, admin_troubles: list[str], demo_shop: httpx2.Client
) -> None:
    ids = [place_order(demo_shop)["id"] for _ in range(3)]
    for id in ids:
        demo_shop.patch(f"/orders/{id}/status?new_status=confirmed").raise_for_status()
    admin.goto("/admin/order/list?pageSize=100")
    admin.get_by_role("link", name="confirmed").click()
    admin.get_by_role("button", name="Actions").click()
    ship = admin.get_by_role("button", name="Ship", exact=True)
    ship.click()
    expect(admin.locator("#told")).to_have_text("No row is selected.")
    admin.get_by_label("Select all").check()
    chosen = admin.locator(".select-box:checked").count()
    admin.get_by_role("button", name="Actions").click()
    ship.click()
    expect(admin.locator("#told")).to_have_text(f"Ship: {chosen} orders")
    assert {demo_shop.get(f"/orders/{id}").json()["status"] for id in ids} == {"shipped"}
    assert admin_troubles == []


@pytest.mark.needs("posts", "payments")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pages_of_the_admin_fit_the_screen(
    admin: Page,
    admin_troubles: list[str],
    order: Json,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    admin.set_viewport_size({"width": width, "height": 900})
    admin.emulate_media(color_scheme=scheme)
    admin.goto("/admin/")
    menu = admin.locator(".navbar-nav .nav-link")
    lists = [str(link.get_attribute("href")) for link in menu.all()]
    assert len(lists) == 13
    more = [
        f"/admin/order/details/{order['id']}",
        f"/admin/order/edit/{order['id']}",
        "/admin/order/create",
        "/admin/post/details/1",
        "/admin/post/edit/1",
        "/admin/product/create",
        "/admin/product/details/1",
        "/admin/product/edit/1",
        "/admin/product/list?search=plain&sortBy=price&sort=asc&page=2",
        "/admin/product/list?search=nothing-like-it",
        "/admin/user/details/1",
        "/admin/",
    ]
    for path in lists + more:
        admin.goto(path)
        expect(admin.locator(".card").first).to_be_visible()
        assert admin.locator("html").get_attribute("data-bs-theme") == scheme
        assert is_within_the_screen(admin), path
    assert admin_troubles == []


def is_within_the_screen(page: Page) -> bool:
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.needs("products")
def test_the_menu_opens_on_a_phone(admin: Page, admin_troubles: list[str]) -> None:
    admin.set_viewport_size({"width": 390, "height": 900})
    admin.goto("/admin/")
    link = admin.get_by_role("link", name="Products")
    expect(link).to_be_hidden()
    admin.get_by_role("button", name="Toggle navigation").click()
    expect(link).to_be_visible()
    assert is_within_the_screen(admin)
    link.click()
    expect(admin).to_have_url(re.compile("/admin/product/list$"))
    assert admin_troubles == []


@pytest.mark.needs("orders")
def test_the_example_of_an_order_can_be_sent_as_it_is(browser: Browser, address: str) -> None:
    with browser.new_page(base_url=address) as page:
        troubles = troubles_of(page, address)
        page.goto("/docs")
        page.get_by_role("button", name="Authorize", exact=True).click()
        dialog = page.locator(".dialog-ux")
        dialog.get_by_label("username:").fill(SUPERUSER)
        dialog.get_by_label("password:").fill(PASSWORD)
        dialog.get_by_text("Authorize", exact=True).click()
        expect(dialog.get_by_text("Logout")).to_be_visible()
        dialog.get_by_text("Close", exact=True).click()

        route = page.locator("#operations-orders-create_order")
        route.locator(".opblock-summary-control").click()
        route.get_by_role("button", name="Try it out").click()
        route.get_by_role("button", name="Execute").click()
        status = route.locator(".live-responses-table tbody .response-col_status")
        expect(status).to_have_text("201")
        assert troubles == []
