"""Passwords: Argon2id with the parameters of OWASP's Password Storage Cheat Sheet.

19 MiB of memory, 2 passes. At most on half of the processors at once, in each process, so that
other requests get their turn. New passwords wait in a queue of their own, and come from there one
by one: so a log-in waits for one of them at most.
"""

import asyncio
import functools
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from kit.problems import BusyError

R = TypeVar("R")

hasher = PasswordHash([Argon2Hasher(memory_cost=19 * 1024, time_cost=2, parallelism=1)])
hashing = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2), "hashing")
storing = ThreadPoolExecutor(1, "storing")


async def hash_in_turn(
    seconds: float, threads: ThreadPoolExecutor, work: Callable[..., R], *arguments: Sequence[Any]
) -> list[R]:
    """Do work that hashes, with each of these arguments, when it is its turn in the threads.

    Raises BusyError when not all is done in so many seconds.
    """
    run = asyncio.get_running_loop().run_in_executor
    try:
        async with asyncio.timeout(max(0, seconds)):
            return await asyncio.gather(*(run(threads, work, *each) for each in arguments))
    except TimeoutError:
        raise BusyError("Too many passwords are waiting. Please try again.") from None


def hash_to_store(password: str) -> str:
    return hashing.submit(hasher.hash, password).result()


def is_right(password: str, password_hash: str) -> bool:
    """Whether it is the password; in the same time where there is none, the hash being empty."""
    hash_instead = hash_of_nobody()
    try:
        return hasher.verify(password, password_hash or hash_instead) and bool(password_hash)
    except PwdlibError:  # a hash that some other program has made
        return False


@functools.cache
def hash_of_nobody() -> str:
    return hasher.hash(secrets.token_urlsafe())
