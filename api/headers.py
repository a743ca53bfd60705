"""What every answer tells a browser: what a page of ours may load and do, and that nobody else's page may use it."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Icons lie in style sheets as data, pictures that a script has made are blobs.
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Nothing but files of this service: no script or style within a page, no other site, no frame."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # For browsers that do not know frame-ancestors.
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with that a form of our own page is sent with the Origin `null`, which is refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """Puts them into every answer, errors among them, as it is sent; nothing is held back.

    Over TLS a browser is also told to come by TLS only, for `hsts` seconds; 0: it is not told.
    """

    def __init__(self, app: ASGIApp, hsts: int) -> None:
        self.app = app
        self.hsts = hsts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = HEADERS
        if scope["scheme"] == "https" and self.hsts:
            told = HEADERS | {"Strict-Transport-Security": f"max-age={self.hsts}"}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # A page that is whole in itself, as a report is, knows better what it needs: a style of its own.
                own = {"Content-Security-Policy": headers.get("Content-Security-Policy", POLICY)}
                headers.update(told | own)
            await send(message)

        await self.app(scope, receive, with_headers)
