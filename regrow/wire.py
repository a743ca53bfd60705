"""HTTP as the client needs it: safe requests are tried again for a while, error answers become exceptions."""

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, cast

import httpx

from regrow.answers import Fault
from regrow.errors import ProblemError, Unreachable

PATIENCE = 2.0
"""Seconds for which a safe request is tried again before it counts as failed."""
WAITING_PATIENCE = 120.0
"""The same while something is waited for: a server that is started again must not end a wait of hours."""
STORING_SECONDS = 600.0
"""For the server to bring what was sent where it belongs, which may be a bucket, and to answer."""

_PAGE = 200
_BUSY = frozenset({429, 502, 503, 504})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Wire:
    """Requests to one server, over kept connections."""

    def __init__(self, base_url: str, timeout: float, key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=self.base_url,
            timeout=timeout,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            # A proxy from the environment cannot reach this machine's own loopback.
            trust_env=not _loopback(self.base_url),
            # Reading the certificates takes a tenth of a second, which plain HTTP need not wait for.
            verify=self.base_url.startswith("https:"),
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, *, headers: Mapping[str, str] | None = None, patience: float = PATIENCE) -> httpx.Response:
        """GET, tried again for `patience` seconds while the server is away or says that it is busy."""
        return self._again(lambda: self._http.get(path, headers=headers), patience)

    def post_once(self, path: str, *, patience: float = PATIENCE, **body: Any) -> httpx.Response:
        """POST of what does no more when it is sent twice, so that it is tried again as `get` is."""
        return self._again(lambda: self._http.post(path, **body), patience)

    def delete(self, path: str) -> httpx.Response:
        """DELETE, once: a second one would say that nothing is there."""
        with self.speaking():
            return checked(self._http.delete(path))

    def post(self, path: str, *, read_timeout: float | None = None, **body: Any) -> httpx.Response:
        """POST, once: whether a lost one was carried out, nobody knows."""
        if read_timeout is not None:
            body["timeout"] = httpx.Timeout(self._timeout, read=read_timeout)
        with self.speaking():
            return checked(self._http.post(path, **body))

    def tus(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: Iterator[bytes] | None = None,
        read_timeout: float | None = None,
    ) -> httpx.Response:
        """A request of a resumable upload, once: after a failure one asks how much has come."""
        timeout = httpx.Timeout(self._timeout, read=read_timeout or self._timeout)
        with self.speaking():
            sent = {"Tus-Resumable": "1.0.0", **(headers or {})}
            return checked(self._http.request(method, path, headers=sent, content=content, timeout=timeout))

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """GET whose body is read by the caller, piece by piece. An error answer raises, a broken connection too.

        Where the server sends us elsewhere for the bytes, to its bucket, its own ETag still holds.
        """
        plain = {"Accept-Encoding": "identity", **headers}
        with self.speaking(), self._http.stream("GET", path, headers=plain) as response:
            if response.status_code >= 400:
                response.read()
            if response.status_code != httpx.codes.TEMPORARY_REDIRECT:
                yield checked(response)
                return
        with self.speaking(), self._elsewhere(response, plain) as found:
            yield found

    @contextmanager
    def _elsewhere(self, sent: httpx.Response, headers: dict[str, str]) -> Iterator[httpx.Response]:
        location, etag = sent.headers["Location"], sent.headers["ETag"]
        # Of our ETags a bucket knows nothing; whether the file is still the same is told by the server's.
        if headers.pop("If-Range", etag) != etag:
            del headers["Range"]
        # Not by the client: what is for the server is nobody else's.
        trust_env = not _loopback(location)
        with httpx.stream("GET", location, headers=headers, timeout=self._timeout, trust_env=trust_env) as response:
            if response.status_code >= 400:
                raise Unreachable(location.partition("?")[0], f"it answered {response.status_code}")
            response.headers["ETag"] = etag
            yield response

    def pages(self, path: str, query: str = "") -> Iterator[Any]:
        """The entries of a list, page by page; `query` begins with an ampersand."""
        cursor = ""
        while True:
            page = parsed(self.get(f"{path}?limit={_PAGE}{query}{cursor}"))
            yield from page["items"]
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"

    def poll(self, path: str, over: Callable[[Any], bool], on_poll: Callable[[Any], None] | None) -> Any:
        """Ask again and again, at the pace the server names, until the answer says that it is over.

        `on_poll` is called with each answer that differs from the one before.
        """
        etag = ""
        while True:
            headers = {"If-None-Match": etag} if etag else {}
            response = self.get(path, headers=headers, patience=WAITING_PATIENCE)
            if response.status_code != 304:
                etag, answer = response.headers.get("ETag", ""), parsed(response)
                if on_poll:
                    on_poll(answer)
                if over(answer):
                    return answer
            time.sleep(retry_after(response, default=1.0))

    def probe(self, path: str) -> httpx.Response:
        """GET, once, and every status is an answer."""
        with self.speaking():
            return self._http.get(path)

    def _again(self, send: Callable[[], httpx.Response], patience: float) -> httpx.Response:
        pauses = Pauses(patience)
        while True:
            try:
                with self.speaking():
                    response = send()
            except Unreachable:
                if not pauses.wait():
                    raise
                continue
            if response.status_code in _BUSY and pauses.wait(retry_after(response)):
                continue
            return checked(response)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Turns what httpx raises into Unreachable."""
        try:
            yield
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(self.base_url, str(error) or type(error).__name__) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pauses:
    """Growing pauses, until they would add up to more than `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self._end = time.monotonic() + patience
        self._pause = _FIRST_PAUSE

    def wait(self, at_least: float = 0.0) -> bool:
        """Sleep, or return False when that would take too long."""
        pause = max(self._pause, at_least)
        if time.monotonic() + pause > self._end:
            return False
        time.sleep(pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return True


def retry_after(response: httpx.Response, default: float = 0.0) -> float:
    """The seconds a response asks to wait; `default` where it does not say, or says a date."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", default)))
    except ValueError:
        return default


def checked(response: httpx.Response) -> httpx.Response:
    """The response, unless it is an error."""
    if response.status_code < 400:
        return response
    try:
        problem = response.json()
        errors = cast(list[Fault], problem.get("errors") or [])
        raise ProblemError(response.status_code, problem["type"], problem["title"], problem.get("detail", ""), errors)
    except (ValueError, KeyError, AttributeError):
        raise foreign(response) from None


def parsed(response: httpx.Response) -> Any:
    """The JSON of a response."""
    try:
        return response.json()
    except ValueError:
        raise foreign(response) from None


def foreign(response: httpx.Response) -> ProblemError:
    """That something answered, but no Regrow."""
    return ProblemError(
        response.status_code,
        "about:blank",
        response.reason_phrase,
        f"{response.request.url} answered {response.status_code} {response.reason_phrase}, but not as Regrow does. "
        "Is that the server's address, and nothing between that answers in its place?",
    )


def _loopback(base_url: str) -> bool:
    host = httpx.URL(base_url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
