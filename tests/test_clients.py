"""Clients are generated from the OpenAPI document, compiled and used, as docs/api.md says.

What that needs beside Node is put into .clients/ by `make test-all`. Where it is missing these
tests are skipped, or fail if CLIENTS_REQUIRED is set.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from conftest import KEY
from databases import HOME
from servers import create_user, leave_out, serving
from test_readme import blocks, section

pytestmark = [pytest.mark.system, pytest.mark.needs("orders")]

TOOLS = HOME / ".clients"
PYTHON = TOOLS / "venv" / "bin"
MYPY = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
MYPY += ["--python-executable", str(PYTHON / "python")]


def page(language: str) -> str:
    """What the page says of a client in this language."""
    typescript, python = section("Clients", "docs/api.md").split("**Python**")
    return typescript if language == "ts" else python


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{PYTHON}:{os.environ['PATH']}"
    words = ["bash", "-c", command] if isinstance(command, str) else command
    return subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )


def succeed(command: str | list[str], folder: Path) -> str:
    """What the command prints; it has to end well."""
    done = run(command, folder)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


class Generated:
    """A folder with what was generated, and the program of the page, for a service of its own."""

    def __init__(self, server: httpx2.Client, language: str, folder: Path) -> None:
        self.server, self.folder = server, folder
        (program,) = blocks(page(language), language)
        self.program = self.here(program)
        first, self.last = blocks(page(language), "sh")
        generating = run(self.here(first.splitlines()[-1]), folder)
        self.printed = generating.stdout + generating.stderr
        assert generating.returncode == 0, self.printed

    def here(self, text: str) -> str:
        return text.replace("http://127.0.0.1:8000", str(self.server.base_url).rstrip("/"))

    def write(self, name: str, old: str = "", new: str = "") -> None:
        """The program of the page, or one in which something is called otherwise."""
        assert not old or self.program.count(old) == 1, old
        (self.folder / name).write_text(self.program.replace(old, new) if old else self.program)


@pytest.fixture(scope="module")
def _tools() -> None:
    wanted = [TOOLS / "node_modules" / ".bin" / "tsc", PYTHON / "openapi-python-client"]
    missing = [str(path.relative_to(HOME)) for path in wanted if not path.exists()]
    missing += [name for name in ("node", "npx") if not shutil.which(name)]
    if missing:
        leave_out("CLIENTS_REQUIRED", f"No generators of clients: {', '.join(missing)} is missing")


def generated(language: str, folder: Path) -> Iterator[Generated]:
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    with serving(f"sqlite:///{folder}/clients_test.db") as server:
        yield Generated(server, language, folder)


@pytest.fixture(scope="module")
def typescript(_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    yield from generated("ts", tmp_path_factory.mktemp("typescript"))


@pytest.fixture(scope="module")
def python(_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    yield from generated("python", tmp_path_factory.mktemp("python"))


def test_a_client_in_typescript_compiles_and_places_an_order(typescript: Generated) -> None:
    typescript.write("order.mts")
    (answer,) = blocks(page("ts"), "text")
    assert succeed(typescript.last, typescript.folder) == f"{answer}\n"


UNKNOWN_TO_TYPESCRIPT = [
    ("total_amount", "total"),
    ("quantity: 2", "number: 2"),
    ("quantity: 2", 'quantity: "two"'),
    ("error.detail);\n}", "error.message);\n}"),
    ('"/orders/"', '"/order/"'),
]


def test_typescript_refuses_what_the_service_does_not_know(typescript: Generated) -> None:
    names = [f"wrong{n}.mts" for n in range(len(UNKNOWN_TO_TYPESCRIPT))]
    for name, change in zip(names, UNKNOWN_TO_TYPESCRIPT, strict=True):
        typescript.write(name, *change)
    compiler = typescript.last.split(" order.mts")[0]
    told = run(f"{compiler} --noEmit {' '.join(names)}", typescript.folder).stdout
    assert sorted(set(re.findall(r"^(\S+)\(", told, re.MULTILINE))) == names


def test_a_client_in_typescript_compiles_as_for_a_browser(typescript: Generated) -> None:
    typescript.write("page.mts")
    options = "--strict --exactOptionalPropertyTypes --noUncheckedIndexedAccess --noEmit"
    bundled = f"npx tsc {options} --module esnext --moduleResolution bundler --target es2022"
    assert succeed(f"{bundled} page.mts", typescript.folder) == ""


def test_a_client_in_python_passes_mypy_and_places_an_order(python: Generated) -> None:
    python.write("order.py")
    succeed([*MYPY, "order.py"], python.folder)
    (answer,) = blocks(page("python"), "text")
    assert succeed(python.last, python.folder) == f"{answer}\n"


UNKNOWN_TO_MYPY = [
    ("order.total_amount", "order.total"),
    ("quantity=2", "number=2"),
    ("quantity=2", 'quantity="two"'),
    ("problem.detail", "problem.message"),
]


def test_mypy_refuses_what_the_service_does_not_know(python: Generated) -> None:
    names = [f"wrong{n}.py" for n in range(len(UNKNOWN_TO_MYPY))]
    for name, change in zip(names, UNKNOWN_TO_MYPY, strict=True):
        python.write(name, *change)
    told = run([*MYPY, *names], python.folder).stdout
    assert sorted(set(re.findall(r"^(\S+):\d+: error", told, re.MULTILINE))) == names


def test_the_client_in_python_leaves_out_but_the_bodies_that_its_generator_does_not_know(
    python: Generated,
) -> None:
    paths = python.server.get("/openapi.json").json()["paths"]
    imports = [path for path in paths if path.endswith("/import")]
    kinds = "text/csv", "application/jsonl"
    warnings = re.findall(
        r"WARNING parsing POST (\S+) within.*?\.\s+(.*?)\n", python.printed, re.DOTALL
    )
    assert warnings == [
        (path, f"Unsupported content type {kind}") for path in imports for kind in kinds
    ]
    assert python.printed.count("WARNING") == len(warnings)
    succeed([str(PYTHON / "python"), "-m", "compileall", "-q", "shop"], python.folder)


FILE = """
from io import BytesIO
from shop import AuthenticatedClient
from shop.api.products import import_products, list_products
from shop.models import ImportCounts, ImportProductsFilesBody, Problem
from shop.types import File

shop = AuthenticatedClient("http://127.0.0.1:8000", token="any")
file = File(BytesIO(b"sku,name,price\\nPAN-1,Pan,30\\n"), file_name="products.csv")
counts = import_products.sync(client=shop, body=ImportProductsFilesBody(file=file))
assert isinstance(counts, ImportCounts), counts
products = list_products.sync(client=shop, q="pan", min_price=29.5, is_active=True)
assert isinstance(products, list), products
print(counts.created, [product.name for product in products])
problem = list_products.sync(client=shop, sort="colour")
assert isinstance(problem, Problem), problem
assert isinstance(problem.errors, list), problem
print(problem.status, problem.errors[0].loc)
"""


def test_the_client_in_python_sends_a_file_and_reads_a_list(python: Generated) -> None:
    (python.folder / "file.py").write_text(python.here(FILE))
    succeed([*MYPY, "file.py"], python.folder)
    printed = succeed("python file.py", python.folder)
    assert printed.splitlines() == ["1 ['Pan']", "422 ['query', 'sort']"]


LOG_IN = """
from shop import AuthenticatedClient, Client
from shop.api.access import create_token
from shop.api.users import read_me
from shop.models import LogIn, Token, User

url = "http://127.0.0.1:8000"
token = create_token.sync(client=Client(url), body=LogIn("ann", "Password1"))
assert isinstance(token, Token), token
me = read_me.sync(client=AuthenticatedClient(url, token=token.access_token))
assert isinstance(me, User), me
print(me.username, me.created_at.tzname(), me.full_name)
"""


def test_the_client_in_python_logs_in(python: Generated, tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/closed_test.db", SECRET_KEY=KEY) as closed:
        create_user(closed)
        program = LOG_IN.replace("http://127.0.0.1:8000", str(closed.base_url).rstrip("/"))
        (python.folder / "log_in.py").write_text(program)
        succeed([*MYPY, "log_in.py"], python.folder)
        assert succeed("python log_in.py", python.folder) == "ann UTC None\n"


def test_the_page_names_the_versions_that_are_tested() -> None:
    pinned = json.loads((HOME / "tests/clients/package.json").read_text())
    wanted = {**pinned["dependencies"], **pinned["devDependencies"]}
    assert dict(re.findall(r" ([a-z-]+)@([\d.]+)", page("ts"))) == wanted
    (generator,) = re.findall(r"pip install (\S+)", page("python"))
    assert generator in (HOME / "tests/clients/requirements.txt").read_text().split()
