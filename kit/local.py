"""Open mode: as long as there is no SECRET_KEY, only clients on this machine are let in."""

import functools
import re
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from kit.settings import Settings


class OnlyHere:
    """What holds before all else, as long as SECRET_KEY is not set: nobody else is let in."""

    def __init__(self, app: ASGIApp, settings: Settings, refusal: ASGIApp) -> None:
        self.app, self.settings, self.refusal = app, settings, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.settings.secret_key or scope["type"] != "http" or is_on_this_machine(scope):
            await self.app(scope, receive, send)
        else:
            await self.refusal(scope, receive, send)


ONLY_HERE = (
    "As long as SECRET_KEY is not set, only clients on this machine are let in, at an address such"
    " as http://127.0.0.1 or http://localhost. To let others in, set SECRET_KEY (at least 32"
    " characters), which asks them to log in"
)
# How the names of headers end in which proxies say for whom they ask: X-Forwarded-For, X-Real-IP,
# Client-IP, X-Azure-ClientIP, CF-Connecting-IPv6, X-Remote-Addr, X-Envoy-External-Address...
CLIENT = (
    *(b"-for", b"-ip", b"-ipv6", b"clientip", b"socketip", b"-addr", b"-address"),
    *(b"x-client", b"x-forwarded"),
)
# The pairs of name and value in RFC 7239's Forwarded (its section 4).
PAIR = r'[ \t]*([\w-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]+)[ \t]*'
PAIRS = re.compile(rf"{PAIR}(?:[;,]{PAIR})*")


def is_on_this_machine(scope: Scope) -> bool:
    """Whether a request comes from here, by all that is said of it.

    The address of the connection first, so that nobody else's headers are read; it may be what a
    proxy has said that the server trusts. A Host that is not a name of this machine has been made
    to lead here by somebody else ("DNS rebinding").
    """
    client = (scope.get("client") or ("",))[0]
    if client != "testclient" and not is_loopback(client):  # Starlette's, in this process
        return False
    addresses, names = list[str](), list[str]()
    for name, raw in scope["headers"]:
        value = raw.decode("latin-1")
        if name.endswith(CLIENT):
            addresses += value.split(",")
        elif name == b"host" or name.endswith(b"-host"):
            names += value.split(",")
        elif name == b"forwarded":
            pairs = re.findall(PAIR, value) if PAIRS.fullmatch(value) else []
            addresses += [v for k, v in pairs if k.lower() == "for"] or ["unknown"]
            names += [v for k, v in pairs if k.lower() == "host"]
    return all(map(is_loopback, addresses)) and all(map(is_name_of_this_machine, names))


def comes_through_a_proxy(scope: Scope) -> bool:
    """Whether a header says for whom a proxy asks."""
    return any(name.endswith(CLIENT) or name == b"forwarded" for name, _ in scope["headers"])


@functools.lru_cache(100)
def is_loopback(text: str) -> bool:
    try:
        address = ip_address(without_port(text))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback  # ::ffff:127.0.0.1


@functools.lru_cache(100)
def is_name_of_this_machine(text: str) -> bool:
    """Whether it is a loopback address, or a name that no network leads elsewhere (RFC 6761)."""
    name = without_port(text).removesuffix(".").lower()
    is_local = name in ("localhost", "testserver") or name.endswith((".localhost", ".test"))
    return is_local or is_loopback(name)


def without_port(text: str) -> str:
    """127.0.0.1 of "127.0.0.1:8000", ::1 of "[::1]:8000"; the quotes of a header are left out."""
    text = text.strip().strip('"')
    found = re.fullmatch(r"\[([^\[\]]*)\](?::\w*)?|([^:]*):\w*", text)
    return (found[1] or found[2] or "") if found else text
