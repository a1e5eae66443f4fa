"""What people and tools look for in a repository is there, and says what is so."""

import configparser
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from databases import HOME

import main

NAMING = ("AGENTS.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")


def text(name: str) -> str:
    return (HOME / name).read_text()


PROJECT: dict[str, Any] = tomllib.loads(text("pyproject.toml"))["project"]


def test_the_newest_release_of_the_changelog_is_the_version_of_the_service() -> None:
    unreleased, *released = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert unreleased == "[Unreleased]"
    newest = re.fullmatch(r"\[([\d.]+)\] - \d{4}-\d\d-\d\d", released[0])
    assert newest
    assert newest[1] == PROJECT["version"] == main.app.version


@pytest.mark.parametrize("page", NAMING)
def test_the_files_and_make_targets_that_a_page_names_are_there(page: str) -> None:
    targets = set(re.findall(r"^(\S+):", text("Makefile"), re.MULTILINE))
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", text(page), re.DOTALL))
    made = {name for names in re.findall(r"\bmake ([\w./ -]+)", code) for name in names.split()}
    files = set(re.findall(r"(?<![\w./-])[\w./-]+\.(?:py|txt|lock|md)\b|\.ci/\w+", code))
    assert made <= targets
    missing = {name for name in files if not (HOME / name).exists()}
    assert missing <= {"tests/test_brands.py"}  # the example


def test_the_page_for_agents_is_short() -> None:
    assert len(text("AGENTS.md").splitlines()) <= 60


def test_two_pages_say_alike_how_long_the_commands_take() -> None:
    row = r"^\| `(make \S+)` \| .+ \| (.+) \|$"
    short, long = (
        dict(re.findall(row, text(page), re.MULTILINE))
        for page in ("AGENTS.md", "docs/development.md")
    )
    told = {command: long[command] for command in ("make test", "make check", "make test-all")}
    assert short | told == short


def test_the_workflow_runs_ci_run_with_the_databases_that_it_asks_for() -> None:
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    assert {"run": "bash .ci/run"} in jobs["everything"]["steps"]
    servers = jobs["everything"]["services"].values()
    used = set(re.findall(r"@127\.0\.0\.1:(\d+)/", text(".ci/run")))
    assert {port for server in servers for port in server["ports"]} == {f"{p}:{p}" for p in used}
    told = re.findall(r"docker run .* -e (\w+)=(\w+) (\S+)`", text("docs/operations.md"))
    for server in servers:
        ((name, value),) = server["env"].items()
        assert (name, str(value), server["image"]) in told


def test_the_workflow_begins_with_the_oldest_python_that_is_allowed() -> None:
    job = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["python"]
    assert PROJECT["requires-python"] == f">={job['strategy']['matrix']['python'][0]}"


def test_the_hooks_of_git_are_tools_that_are_pinned_elsewhere() -> None:
    repos = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    for hook in repos[0]["hooks"]:
        program, argument, *_ = hook["entry"].split()
        if program == "make":
            assert f"\n{argument}:" in text("Makefile")
        else:
            assert program.startswith(".venv/bin/")
            assert f"\n{Path(program).name}==" in text("tests/requirements.txt")


def rules_of(name: str) -> dict[str, str]:
    """What .editorconfig says of a file: the later sections that match it win."""
    config = configparser.ConfigParser()
    config.read_string(f"[top]\n{text('.editorconfig')}")
    rules: dict[str, str] = {}
    for pattern in config.sections():
        before, _, rest = pattern.partition("{")
        endings, _, after = rest.partition("}")
        if any(fnmatch(name, f"{before}{ending}{after}") for ending in endings.split(",")):
            rules |= config[pattern]
    return rules


def test_every_text_keeps_to_the_editorconfig() -> None:
    listed = subprocess.run(
        ["sh", "-c", "git ls-files -z"], cwd=HOME, capture_output=True, text=True, check=False
    )
    if not listed.stdout:
        pytest.skip("which files belong to the repository, git alone knows")
    wrong = []
    for path in [HOME / name for name in listed.stdout.split("\0") if (HOME / name).is_file()]:
        rules, content = rules_of(path.name), path.read_bytes()
        if not content or b"\0" in content:
            continue
        assert (rules["charset"], rules["end_of_line"]) == ("utf-8", "lf")
        lines = content.decode().split("\n")
        indent = {"space": r" *\t", "tab": r"\t* +\t| {2}"}[rules["indent_style"]]
        if lines.pop() or any(re.match(rf"{indent}|.*\s$", line) for line in lines):
            wrong.append(path.name)
    assert not wrong
