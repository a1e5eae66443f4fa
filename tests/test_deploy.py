"""The Dockerfile, compose.yaml, and the systemd unit of docs/operations.md.

There may be no container engine here. So what the Dockerfile says is done in a sandbox (bubblewrap)
on this machine's own Python: its files are copied and its commands run, by its user, on a file
system that cannot be written to. Its base image and the build of its packages are left out.

Without the programs the tests are skipped, or fail if DEPLOY_REQUIRED is set.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import sqlalchemy as sa
from conftest import KEY, another_database
from databases import HOME
from servers import TIMEOUT, Process, Proxy, leave_out, running, wait_for
from test_readme import blocks, section

import db

pytestmark = pytest.mark.system

STAGES = [
    [line.split(maxsplit=1) for line in stage.replace("\\\n", "").splitlines() if line[:1] != "#"]
    for stage in re.split(r"^(?=FROM )", (HOME / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
]
# Where the programs and libraries of the base image would be.
SYSTEM = ["/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr", sys.base_prefix]
# Python may be in somebody's home, into which the user of the image could not look.
ABOVE = [str(folder) for folder in (*reversed(Path(sys.base_prefix).parents),)[1:]]
PATH = "/usr/local/bin:/usr/bin:/bin"


def program(name: str) -> str:
    """The path of a program; without it the test is skipped."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        leave_out("DEPLOY_REQUIRED", f"There is no {name}")
    return found


def said(instruction: str, stage: int = -1) -> list[str]:
    """What stands after each such instruction of a stage."""
    return [line[1] for line in STAGES[stage] if line and line[0] == instruction]


class Image:
    """What the last stage makes, in a folder; each command runs in a new sandbox."""

    def __init__(self, folder: Path) -> None:
        self.app, self.data = folder / "app", folder / "data"
        self.user, (self.home,) = said("USER")[0], said("WORKDIR")
        self.env = dict(re.findall(r"(\w+)=(\S+)", " ".join(said("ENV"))))
        self.env["PATH"] = self.env["PATH"].replace("$PATH", PATH)
        self.app.mkdir()
        self.data.mkdir()
        for *sources, to in (line.split() for line in said("COPY") if "--from" not in line):
            for source in sources:
                if (HOME / source).is_dir():
                    copied = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(HOME / source, self.app / to, ignore=copied)
                else:
                    shutil.copy2(HOME / source, self.app / to)
        for command in said("RUN"):
            may_write = self.sandbox("--bind", self.app, self.home, *self.as_builder())
            subprocess.run([*may_write, "sh", "-c", command], check=True)

    def sandbox(self, *more: str | Path) -> list[str | Path]:
        system = [part for folder in ABOVE for part in ("--dir", folder)]
        system += [part for folder in SYSTEM for part in ("--ro-bind-try", folder, folder)]
        return [
            *(program("bwrap"), "--die-with-parent", "--unshare-pid", "--as-pid-1", *system),
            *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"),
            *("--ro-bind", sys.prefix, "/venv", "--ro-bind", self.app, self.home),
            *("--bind", self.data, "/data", "--chdir", self.home),
            *("--clearenv", "--setenv", "PATH", self.env["PATH"], *more, "--remount-ro", "/"),
        ]

    def command(self, *command: str, **settings: str) -> list[str | Path]:
        """The command in a sandbox, by the user of the image, who gets no capability."""
        uid, gid = self.user.split(":")
        options, become = self.as_builder(), list[str]()
        if os.geteuid() == 0:
            options = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
            become = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
        for name, value in {**self.env, **settings}.items():
            options += ["--setenv", name, value]
        return [*self.sandbox(*options), *become, *command]

    def as_builder(self) -> list[str]:
        """Root builds, or who runs the tests, by the number of the image's user."""
        uid, gid = self.user.split(":")
        is_root = os.geteuid() == 0
        return ["--cap-add", "ALL"] if is_root else ["--unshare-user", "--uid", uid, "--gid", gid]

    def start(self) -> list[str]:
        """CMD, whose shell hands on the port that `Process` names at its end."""
        *shell, script = json.loads(said("CMD")[0])
        return [*shell, f'{script} "$0" "$@"']

    def is_healthy(self, port: int) -> bool:
        check = json.loads(said("HEALTHCHECK")[0].partition("CMD ")[2])
        there = [part.replace("8000", str(port)) for part in check]
        done = subprocess.run(self.command(*there), capture_output=True, check=False)
        assert done.returncode in (0, 1)  # Docker knows no others
        return done.returncode == 0


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def stop(process: Process) -> int:
    """Tell the first process of the sandbox to stop, as an engine does; how it ends."""
    pid = process.process.pid
    first = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(first[0]), signal.SIGTERM)
    return process.process.wait(timeout=20)


# The Dockerfile


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, HOME / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_docker_is_sent_what_is_copied_and_nothing_else() -> None:
    every, *others = (HOME / ".dockerignore").read_text().splitlines()[1:]
    sent = {line[1:] for line in others if line.startswith("!")}
    copied = {
        source
        for stage in range(len(STAGES))
        for line in said("COPY", stage)
        if "--from" not in line
        for source in line.split()[:-1]
    }
    assert every == "*"
    assert sent == copied


def test_the_packages_can_be_installed_from_the_files_that_are_copied(tmp_path: Path) -> None:
    (pattern,) = (line.split()[0] for line in said("COPY", 0))
    for file in HOME.glob(pattern):
        shutil.copy(file, tmp_path)
    arguments = said("RUN", 0)[0].partition("/venv/bin/pip ")[2].split()
    # They are here already, so nothing is loaded.
    pip = [sys.executable, "-m", "pip", *arguments, "--dry-run", "--no-index", "--quiet"]
    done = subprocess.run(pip, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("settings", [{}, {"SECRET_KEY": ""}], ids=["none", "an empty one"])
def test_without_a_key_the_container_says_so_and_ends(
    image: Image, settings: dict[str, str]
) -> None:
    command = image.command(*image.start(), **settings)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode not in (0, 1)  # 1 would be a Python that had started
    assert "SECRET_KEY: has to be set, to at least 32 characters" in done.stderr
    assert list(image.data.iterdir()) == []


def test_the_user_of_the_container_can_write_its_data_and_little_else(image: Image) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.user)
    script = 'id -u; for d in / /app /venv /usr /tmp /data; do touch "$d/x" && echo "$d"; done'
    done = subprocess.run(
        image.command("sh", "-c", script), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [image.user.split(":")[0], "/tmp", "/data"]


def test_the_container_serves_on_a_file_system_that_it_cannot_write_to(image: Image) -> None:
    with running("", *image.command(*image.start(), SECRET_KEY=KEY)) as process:
        for path in ("/", "/docs", "/admin/login", "/openapi.json", "/favicon.ico"):
            assert process.client.get(path, headers={"Accept": "*/*"}).status_code == 200, path
        assert image.is_healthy(process.port)
        ann = {"username": "ann", "email": "ann@example.com", "password": "Password1"}
        assert process.client.post("/users/", json=ann).status_code == 201
        assert stop(process) == 0
        assert "Traceback" not in process.logged(), process.logged()
    with closing(sqlite3.connect(image.data / "shop.db")) as stored:
        assert stored.execute('SELECT username FROM "user"').fetchall() == [("ann",)]
    assert [file.name for file in image.data.iterdir()] == ["shop.db"]


@pytest.mark.needs("products")
def test_the_container_takes_files(image: Image) -> None:
    superuser = ["--username", "boss", "--email", "boss@example.com", "--password", "Password1"]
    create = ("python", "main.py", "createsuperuser", *superuser)
    subprocess.run(image.command(*create), capture_output=True, check=True)
    with running("", *image.command(*image.start(), SECRET_KEY=KEY)) as process:
        log_in = {"username": "boss", "password": "Password1"}
        token = process.client.post("/token", data=log_in).json()["access_token"]
        answer = process.client.post(
            "/products/import",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "text/csv"},
            content="sku,name,price,stock_quantity\nL-1,Lamp,10,1\n",
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["created"] == 1


def test_the_health_check_fails_while_the_database_is_away(
    image: Image, server_url: str, tmp_path: Path
) -> None:
    url = sa.make_url(another_database(server_url, tmp_path, "contained"))
    ports = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
    proxy = Proxy(url.host or "127.0.0.1", url.port or ports[url.get_backend_name()])
    url = url.set(host="127.0.0.1", port=proxy.port)
    settings = {
        "SECRET_KEY": KEY,
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "DB_POOL_TIMEOUT": str(TIMEOUT),
    }
    with running("", *image.command(*image.start(), **settings)) as process:
        assert image.is_healthy(process.port)
        proxy.cut()
        assert not image.is_healthy(process.port)
        proxy.up()
        wait_for(lambda: image.is_healthy(process.port))
        assert stop(process) == 0
    proxy.cut()


# compose.yaml


COMPOSE = (HOME / "compose.yaml").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:-|:\?)([^}]*)\}")


def test_compose_starts_nothing_without_the_secrets() -> None:
    needed = {name for name, sign, _ in VARIABLE.findall(COMPOSE) if sign == ":?"}
    assert needed == {"SECRET_KEY", "POSTGRES_PASSWORD"}
    assert "$" not in VARIABLE.sub("", COMPOSE)


def test_compose_is_valid_and_gives_the_service_settings_that_it_takes() -> None:
    known = {"SECRET_KEY": KEY, "POSTGRES_PASSWORD": "a1"}
    file = compose_spec.PyCompose.from_yaml(VARIABLE.sub(lambda v: known.get(v[1], v[3]), COMPOSE))
    file.validate()
    services: Any = file.to_dict()["services"]
    env, server = services["shop"]["environment"], services["db"]["environment"]
    url = sa.make_url(db.Settings.usual_url(env["DATABASE_URL"]) or "")
    assert (url.username, url.password, url.host) == (server["POSTGRES_USER"], "a1", "db")
    assert url.database == server["POSTGRES_USER"]  # which is what the image names its database
    (network,) = file.to_dict()["networks"]["default"]["ipam"]["config"]
    assert env["FORWARDED_ALLOW_IPS"] == network["gateway"]


# systemd


def test_the_unit_is_one_that_systemd_takes_and_that_may_do_little(tmp_path: Path) -> None:
    (text,) = blocks(section("With systemd", "docs/operations.md"), "ini")
    assert text.count("/opt/shop/.venv/bin/python") == 1
    unit = tmp_path / "shop.service"
    unit.write_text(text.replace("/opt/shop/.venv/bin/python", sys.executable))
    for check in (["verify"], ["security", "--offline=true", "--threshold=15"]):  # 1.5 of 10
        command = [program("systemd-analyze"), *check, str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
