"""What `make bench` found, as tables and as charts."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from chart import grouped_bars
from contenders import CONTENDERS
from rich import box
from rich.table import Table

OPERATIONS = {
    "get": "GET one",
    "list": "list of 20",
    "create": "create",
    "patch": "patch",
    "order": "3-line order",
}
CHARTS = {"reads": ("get", "list"), "writes": ("create", "patch", "order")}
CLIENTS = 16, 64, 256
NO_PEERS = "ceiling", "no_database"  # which are no services, but what one could reach


class Result(NamedTuple):
    database: str
    operation: str
    clients: int
    contender: str
    requests_per_second: float  # that were answered with success
    p99: float  # milliseconds
    failed: int  # answers that are no success, time-outs, lost connections


OfAll = dict[str, Result]  # by contender
Found = dict[tuple[str, str, int], OfAll]  # by database, operation and clients


def middle(results: list[Result]) -> Found:
    """Of the rounds of each, the medians, and all that failed."""
    rounds: dict[tuple[str, str, int, str], list[Result]] = {}
    for result in results:
        rounds.setdefault(result[:4], []).append(result)
    found: Found = {}
    for key, several in rounds.items():
        rate = median(r.requests_per_second for r in several)
        p99 = median(r.p99 for r in several)
        one = Result(*key, rate, p99, sum(r.failed for r in several))
        found.setdefault(key[:3], {})[one.contender] = one
    return found


def peers(found: Found) -> list[str]:
    """Who was measured, in the order of all, without what is no service."""
    measured = {name for results in found.values() for name in results}
    return [name for name in CONTENDERS if name in measured and name not in NO_PEERS]


def first(results: OfAll) -> str:
    """Who answers the most; nobody, where nobody does."""
    rates = {name: r.requests_per_second for name, r in results.items() if name not in NO_PEERS}
    best = max(rates, key=lambda name: rates[name], default="")
    return best if best and rates[best] else ""


def lead(results: OfAll) -> str:
    """How many times as much as the best of the others the service answers."""
    best = first({name: result for name, result in results.items() if name != "service"})
    if not best or "service" not in results:
        return ""
    return f"{results['service'].requests_per_second / results[best].requests_per_second:.2f}"


def rate(result: Result | None) -> str:
    if result is None:
        return "-"
    return f"{result.requests_per_second:,.0f}" if result.requests_per_second else "still"


def slowest(result: Result | None) -> str:
    return f"{result.p99:,.0f}" if result and result.requests_per_second else rate(result)


def tables(found: Found) -> list[Table]:
    """Of each database, how many requests each answers, and how long the slow ones take."""
    more: dict[str, Callable[[OfAll], str]] = {
        "first": first,
        "lead": lead,
    }
    if any("ceiling" in results for results in found.values()):
        more["ceiling"] = lambda results: rate(results.get("ceiling"))
    shown = []
    for database in dict.fromkeys(key[0] for key in found if key[0]):
        shown.append(table(f"{database}: requests per second", found, database, rate, more))
        title = f"{database}: milliseconds that the slowest hundredth exceeds"
        shown.append(table(title, found, database, slowest, {}))
    return shown


def table(
    title: str,
    found: Found,
    database: str,
    cell: Callable[[Result | None], str],
    more: dict[str, Callable[[OfAll], str]],
) -> Table:
    shown = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    contenders = peers(found)
    for name in ("", "clients", *contenders, *more):
        shown.add_column(name, justify="right" if name else "left", no_wrap=True)
    for (on, operation, clients), results in found.items():
        if on == database:
            cells = [cell(results.get(name)) for name in contenders]
            cells += [column(results) for column in more.values()]
            last = clients == CLIENTS[-1]
            shown.add_row(OPERATIONS[operation], str(clients), *cells, end_section=last)
    return shown


def charts(found: Found) -> dict[str, str]:
    """One of reads and one of writes, each at the two smaller numbers of clients."""
    contenders = peers(found)
    drawn = {}
    for name, operations in CHARTS.items():
        panels: dict[str, dict[str, list[float | None]]] = {}
        for (database, operation, clients), results in found.items():
            if database and operation in operations and clients in CLIENTS[:2]:
                values = [
                    results[c].requests_per_second if c in results else None for c in contenders
                ]
                row = f"{OPERATIONS[operation]}, {clients} clients"
                panels.setdefault(database, {})[row] = values
        if panels:
            title = f"{name.capitalize()}: requests per second, one process each"
            titles = [CONTENDERS[name].title for name in contenders]
            drawn[name] = grouped_bars(title, titles, panels)
    return drawn
