"""What the next page says of what a form has done, from a cookie, which that page takes away."""

import re
from urllib.parse import quote, unquote

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.access import cookie, cookies_of
from kit.admin.log_in import set_cookie

LOOKS = DONE, REFUSED = "success", "danger"
LINK = re.compile("[a-z0-9-]+/details/[0-9]+")
LONGEST = 500  # characters of a sentence: a browser keeps no cookie of over 4,096 bytes


class Telling:
    """Gives a page what is to be told on it, as `request.state.told`, `told_look`, `told_link`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        sent = cookies_of(request).get(cookie(request, "told"), "")
        look, link, told = [*unquote(sent).split(" ", 2), "", ""][:3]
        request.state.told, request.state.told_look = told, look if look in LOOKS else "info"
        request.state.told_link = link if LINK.fullmatch(link) else ""
        request.state.next_told = ""

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer, headers = Response(), Headers(raw=message["headers"])
                if request.state.next_told:
                    set_cookie(request, answer, "told", quote(request.state.next_told, safe=""), 60)
                elif sent and headers.get("content-type", "").startswith("text/html"):
                    set_cookie(request, answer, "told", "", 0)
                cookies = [h for h in answer.raw_headers if h[0] == b"set-cookie"]
                message = {**message, "headers": [*message["headers"], *cookies]}
            await send(message)

        await self.app(scope, receive, send_more)


def tell(request: Request, sentence: str, link: str = "", *, refused: bool = False) -> None:
    """Have the next page say this, with a link to a row's page, such as "order/details/1"."""
    look = REFUSED if refused else DONE
    request.state.next_told = f"{look} {link} {sentence[:LONGEST]}"
