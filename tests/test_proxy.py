"""A real nginx in front of the service, with the lines of docs/operations.md.

It is started here, from the machine's own program. Where there is none these tests are skipped, or
fail if DEPLOY_REQUIRED is set.
"""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
import sqlalchemy as sa
from conftest import KEY, another_database, log_in
from databases import SQLITE
from servers import (
    Process,
    create_order,
    create_product,
    create_user,
    free_port,
    running,
    wait_for,
)
from test_deploy import program
from test_events import Listener
from test_readme import blocks, section

from kit.front import FILE_LIMIT

pytestmark = pytest.mark.system

AT_ROOT, SERVERS, BELOW = blocks(section("Behind a proxy", "docs/operations.md"), "nginx")
LINES = AT_ROOT.partition("proxy_pass http://127.0.0.1:8000;\n")[2].removesuffix("}")
BELOW = BELOW.replace("    # ... and the lines above\n", LINES)
PLACES = {  # where the service is: the prefix, and the lines for it
    "at the root": ("", AT_ROOT),
    "below": ("/shop", BELOW),
    "below, taken off by the service": ("/shop", BELOW.replace(":8000/;", ":8000;")),
}
CONFIGURATION = """
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    gzip on;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    {servers}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, servers: str, port: int) -> Iterator[None]:
    """nginx with these servers, once it answers at the port."""
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, servers=servers))
    process = subprocess.Popen([program("nginx"), "-e", "stderr", "-p", folder, "-c", file])

    def answers() -> bool:
        assert process.poll() is None, "nginx does not start"
        with contextlib.suppress(httpx2.TransportError):
            return bool(httpx2.get(f"http://127.0.0.1:{port}/"))
        return False

    try:
        wait_for(answers)
        yield
    finally:
        process.terminate()
        process.wait(timeout=15)


class Shop(NamedTuple):
    prefix: str
    process: Process
    client: httpx2.Client  # by way of nginx
    root: dict[str, str]  # the headers of a superuser


@contextlib.contextmanager
def shop_behind(prefix: str, folder: Path, base_url: str) -> Iterator[Shop]:
    url = another_database(SQLITE, folder, "proxied")
    with (
        running(url, SECRET_KEY=KEY, ROOT_PATH=prefix, LOG_FORMAT="json") as process,
        httpx2.Client(base_url=base_url, timeout=60, verify=False) as client,
    ):
        create_user(process.client, "root")
        with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
            connection.execute(sa.text('UPDATE "user" SET is_superuser = true'))
        yield Shop(prefix, process, client, log_in(process.client, "root"))


@pytest.fixture(scope="module", params=PLACES)
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    (prefix, lines), port = PLACES[request.param], free_port()
    folder = tmp_path_factory.mktemp("nginx")
    with shop_behind(prefix, folder, f"http://127.0.0.1:{port}{prefix}") as shop:
        lines = lines.replace("127.0.0.1:8000", f"127.0.0.1:{shop.process.port}")
        with nginx(folder, f"server {{ listen 127.0.0.1:{port}; {lines} }}", port):
            yield shop


def log_in_to_admin(shop: Shop) -> httpx2.Response:
    page = shop.client.get("/admin/login")
    token = re.findall('name="csrf_token" value="(.*?)"', page.text)[0]
    fields = {"username": "root", "password": "Password1", "csrf_token": token}
    headers = {"Origin": str(shop.client.base_url.copy_with(path="")).rstrip("/")}  # as browsers do
    return shop.client.post("/admin/login", data=fields, headers=headers)


def test_links_and_redirects_lead_back_through_nginx(shop: Shop) -> None:
    without_slash = httpx2.get(str(shop.client.base_url).removesuffix("/"), follow_redirects=True)
    assert (without_slash.url, without_slash.status_code) == (shop.client.base_url, 200)
    assert shop.client.get("/").json()["docs"] == f"{shop.prefix}/docs"
    moved = shop.client.get("/items?limit=1")
    assert moved.headers["Location"] == f"{shop.prefix}/items/?limit=1"
    item = {"title": "Lamp", "price": 1}
    created = shop.client.post("/items/", json=item, headers=shop.root)
    assert created.headers["Location"] == f"{shop.prefix}/items/1"


def test_the_admin_keeps_its_cookie_through_nginx(shop: Shop) -> None:
    answer = log_in_to_admin(shop)
    assert answer.headers["Location"] == f"{shop.prefix}/admin/"
    (cookie,) = shop.client.cookies.jar
    assert cookie.path == (shop.prefix or "/")
    assert shop.client.get("/admin/item/list").status_code == 200
    shop.client.cookies.clear()
    assert shop.client.get("/admin/item/list").is_redirect


@pytest.mark.needs("orders", "notifications")
def test_an_event_comes_at_once_through_nginx(shop: Shop) -> None:
    with Listener(shop.client, user=shop.root) as listener:
        assert "gzip" not in listener.response.headers.get("Content-Encoding", "")
        with httpx2.Client(base_url=shop.client.base_url, headers=shop.root) as client:
            create_product(client, 1, 10)
            placed = create_order(client)
        assert f'"order_id":{placed["id"]},' in listener.event()["data"]


@pytest.mark.needs("products")
def test_a_file_of_the_full_size_reaches_the_service(shop: Shop) -> None:
    headers = {**shop.root, "Content-Type": "text/csv"}
    whole = shop.client.post("/products/import", content=b"x" * FILE_LIMIT, headers=headers)
    assert whole.status_code == 422, whole.text
    assert whole.headers["Content-Type"] == "application/problem+json"
    over = shop.client.post("/products/import", content=b"x" * (FILE_LIMIT + 1), headers=headers)
    assert over.status_code == 413


def test_failures_count_for_the_client_of_nginx_whatever_it_says_of_itself(shop: Shop) -> None:
    def fail(address: str, n: int) -> int:
        transport = httpx2.HTTPTransport(local_address=address)
        with httpx2.Client(transport=transport, base_url=shop.client.base_url) as client:
            data = {"username": f"user{n}", "password": "Wrong1"}
            said = {"X-Forwarded-For": f"198.51.100.{n}", "X-Real-IP": f"198.51.100.{n}"}
            return client.post("/token", data=data, headers=said).status_code

    assert [fail("127.0.0.2", n) for n in range(11)] == [401] * 10 + [429]
    assert fail("127.0.0.3", 20) == 401


def test_nginx_speaks_http_1_1_with_the_service(shop: Shop) -> None:
    shop.client.get("/health", headers={"X-Request-ID": "by-nginx"})
    found = re.compile(r'"request_id": "by-nginx".*"http_version": "(.*?)"')
    wait_for(lambda: bool(found.search(shop.process.logged())))
    assert found.findall(shop.process.logged()) == ["1.1"]


def test_https_gives_secure_cookies_and_is_kept_to(tmp_path: Path) -> None:
    port, tls_port = free_port(), free_port()
    certificate, key = f"{tmp_path}/certificate.pem", f"{tmp_path}/key.pem"
    for_an_hour = ["-days", "1", "-subj", "/CN=shop.example", "-keyout", key, "-out", certificate]
    make = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *for_an_hour]
    subprocess.run(make, capture_output=True, check=True)
    with shop_behind("", tmp_path, f"https://127.0.0.1:{tls_port}") as shop:
        servers = SERVERS.replace("    # ... and the location\n", AT_ROOT)
        for told, here in {
            "listen 443": f"listen 127.0.0.1:{tls_port}",
            "listen 80": f"listen 127.0.0.1:{port}",
            "/etc/ssl/shop.example.pem": certificate,
            "/etc/ssl/shop.example.key": key,
            "127.0.0.1:8000": f"127.0.0.1:{shop.process.port}",
        }.items():
            assert servers.count(told) == 1
            servers = servers.replace(told, here)
        with nginx(tmp_path, servers, port):
            moved = httpx2.get(f"http://127.0.0.1:{port}/items/?a=1", headers={"Host": "a.example"})
            assert (moved.status_code, moved.headers["Location"]) == (
                301,
                "https://a.example/items/?a=1",
            )
            answer = log_in_to_admin(shop)
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            (cookie,) = shop.client.cookies.jar
            assert cookie.secure
            assert shop.client.get("/admin/item/list").status_code == 200
