"""Find patterns whose time grows faster than what they read: `python tests/patterns.py`.

A pattern that can match the same text in two ways makes Python try them all. So each is read as
an automaton, and its loops are looked at as Weideman et al. do ("Analyzing Matching Time Behavior
of Backtracking Regular Expression Matchers by Using Ambiguity of NFA", 2016): two ways from a
state back to it with the same text take exponential time; a loop, another one and a way between
them, all with the same text, take quadratic time.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from re import _parser
from types import ModuleType
from typing import Any

HOME = Path(__file__).parent.parent
CATEGORIES = {"SPACE": r"\s", "DIGIT": r"\d", "WORD": r"\w"}
Part = tuple[int, list[int], list[int]]  # ways to be empty, states to begin and to end in


class Automaton:
    """The states of a pattern, one for each character in it, and which may follow which.

    A state that follows another in two ways is there twice.
    """

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.alphabet = frozenset(range(256)) | {ord(c) for c in pattern} | {0x10FFFF}
        self.flags = flags
        self.reads = list[frozenset[int]]()
        self.follow = list[list[int]]()
        self.sequence(_parser.parse(pattern, flags))

    def sequence(self, items: Iterable[Any]) -> Part:
        whole: Part = (1, [], [])
        for item in items:
            whole = self.join(whole, self.part(*item))
        return whole

    def join(self, one: Part, two: Part) -> Part:
        for state in one[2]:
            self.follow[state] += two[1]
        return one[0] * two[0], one[1] + two[1] * one[0], two[2] + one[2] * two[0]

    def part(self, op: Any, data: Any) -> Part:
        match str(op):
            case "SUBPATTERN":
                return self.sequence(data[3])
            case "BRANCH":
                parts = [self.sequence(branch) for branch in data[1]]
                begin = [state for part in parts for state in part[1]]
                end = [state for part in parts for state in part[2]]
                return sum(part[0] for part in parts), begin, end
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self.repeat(*data)
            case "AT":
                return 1, [], []
            case "ASSERT" | "ASSERT_NOT":
                self.sequence(data[1])  # states of its own
                return 1, [], []
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "RANGE" | "CATEGORY":
                self.reads.append(frozenset(self.characters(str(op), data)))
                self.follow.append([])
                state = len(self.reads) - 1
                return 0, [state], [state]
        raise NotImplementedError(f"{op} is not known here")

    def repeat(self, least: int, most: Any, items: Any) -> Part:
        whole = self.sequence([*items] * least)
        if str(most) == "MAXREPEAT":
            _, begin, end = self.sequence(items)
            self.join((1, begin, end), (1, begin, end))
            return self.join(whole, (1, begin, end))
        for _ in range(most - least):
            _, begin, end = self.sequence(items)
            whole = self.join(whole, (1, begin, end))
        return whole

    def characters(self, op: str, data: Any) -> set[int]:
        """Those of the alphabet that an item reads."""
        found = set[int]()
        match op:
            case "LITERAL":
                found = {data}
            case "NOT_LITERAL":
                found = {*self.alphabet} - {data}
            case "ANY":
                found = {*self.alphabet} - ({10} if not self.flags & re.DOTALL else set())
            case "RANGE":
                found = {c for c in self.alphabet if data[0] <= c <= data[1]}
            case "CATEGORY":
                _, _, name = str(data).partition("_")
                kind = CATEGORIES[name.removeprefix("NOT_")]
                kind = kind.upper() if name.startswith("NOT_") else kind
                found = {c for c in self.alphabet if re.match(kind, chr(c), self.flags)}
            case "IN":
                for each, value in data:
                    if str(each) != "NEGATE":
                        found |= self.characters(str(each), value)
                if str(data[0][0]) == "NEGATE":
                    found = {*self.alphabet} - found
        if self.flags & re.IGNORECASE:
            lower = {chr(c).lower() for c in found}
            found = {c for c in self.alphabet if chr(c).lower() in lower}
        return found

    def is_exponential(self) -> bool:
        """Whether two different ways lead from a state back to it with the same text."""
        for state in range(len(self.reads)):
            seen, waiting = {(state, state, False)}, [(state, state, False)]
            while waiting:
                one, two, apart = waiting.pop()
                for (i, a), (j, b) in product(
                    enumerate(self.follow[one]), enumerate(self.follow[two])
                ):
                    if self.reads[a] & self.reads[b]:
                        reached = a, b, apart or one != two or i != j
                        if reached == (state, state, True):
                            return True
                        if reached not in seen:
                            seen.add(reached)
                            waiting.append(reached)
        return False

    def is_quadratic(self) -> bool:
        """Whether the same text leads from a state to it, to another, and from that to that."""
        reach = [self.reachable(state) for state in range(len(self.reads))]
        loops = [state for state in range(len(self.reads)) if state in reach[state]]
        for p, q in product(loops, loops):
            if p == q or q not in reach[p]:
                continue
            seen, waiting = {(p, p, q)}, [(p, p, q)]
            while waiting:
                for a, b, c in product(*(self.follow[state] for state in waiting.pop())):
                    is_useful = p in reach[a] | {a} and q in reach[b] | {b} and q in reach[c] | {c}
                    if is_useful and self.reads[a] & self.reads[b] & self.reads[c]:
                        if (a, b, c) == (p, q, q):
                            return True
                        if (a, b, c) not in seen:
                            seen.add((a, b, c))
                            waiting.append((a, b, c))
        return False

    def reachable(self, state: int) -> set[int]:
        found, waiting = set[int](), [state]
        while waiting:
            new = set(self.follow[waiting.pop()]) - found
            found |= new
            waiting += new
        return found


def fault(pattern: str, flags: int = 0) -> str:
    """How the time of a pattern grows that is not linear; nothing for one that is."""
    automaton = Automaton(pattern, flags)
    if automaton.is_exponential():
        return "exponential"
    return "quadratic" if automaton.is_quadratic() else ""


def in_code(module: ModuleType) -> Iterator[tuple[str, int]]:
    """The patterns that a module gives to `re`, with their flags."""
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
        match node:
            case ast.Call(ast.Attribute(ast.Name("re")), [pattern, *others], keywords):
                given = [*others, *(keyword.value for keyword in keywords)]
                flags = [ast.unparse(each) for each in given if ast.unparse(each).startswith("re.")]
                names = vars(module)
                yield eval(ast.unparse(pattern), names), eval(" | ".join(flags) or "0", names)


def in_document(part: Any) -> Iterator[tuple[str, int]]:
    """The patterns in an OpenAPI document: those of parameters and bodies."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part):
        if name == "pattern" and isinstance(value, str):
            yield value, 0
        elif isinstance(value, dict | list):
            yield from in_document(value)


def patterns() -> list[tuple[str, int]]:
    """Every pattern of the service that input meets."""
    import main

    ours = ("main", "models", "db", "kit")
    loaded = {name: m for name, m in sys.modules.items() if name.split(".")[0] in ours}
    loaded.pop("kit.alterations", None)  # it reads SQL of the database's, while it migrates
    modules = [*loaded.values()]
    code = (pattern for module in modules for pattern in in_code(module))
    return list(dict.fromkeys([*code, *in_document(main.app.openapi())]))


if __name__ == "__main__":
    sys.path.insert(0, str(HOME))
    faults = {pattern: found for pattern, flags in patterns() if (found := fault(pattern, flags))}
    for pattern, found in faults.items():
        print(f"{found} time: {pattern}")
    sys.exit(bool(faults))
