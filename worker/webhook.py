"""A webhook is sent: signed, to an address that was looked up and checked, and to no other."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import httpx
import standardwebhooks

from shared import addresses, webhooks
from shared.addresses import Address
from shared.db import Sessions
from shared.models import Webhook
from shared.settings import Settings
from shared.webhooks import Message, Outcome
from worker.renewal import held

log = logging.getLogger(__name__)

SECONDS = 15.0
"""Whoever is told has so much time to answer, however slowly he does."""
_CONNECT_SECONDS = 5.0

Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> list[str]:
    """All addresses that a name stands for."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def deliver_next(settings: Settings, sessions: Sessions, resolve: Resolve = resolve) -> bool:
    """Deliver the oldest webhook whose time has come; False if there is none."""
    with sessions.write() as session:
        claim = webhooks.claim(session, settings.lease_seconds)
        message = webhooks.message(session, claim) if claim else None
    if claim is None or message is None:
        return False
    with held(sessions, Webhook, claim, settings):
        outcome = send(message, settings, resolve)
        with sessions.write() as session:
            webhooks.settle(session, claim, message, outcome)
        # Whom it goes to may be a secret.
        log.info("a webhook is delivered" if outcome.error is None else "a webhook was not taken")
    return True


def send(message: Message, settings: Settings, resolve: Resolve = resolve) -> Outcome:
    """One attempt."""
    url = message.url or settings.webhook_url
    secret = settings.webhook_secret.get_secret_value()
    if not url or not secret:
        return Outcome("REGROW_WEBHOOK_URL or REGROW_WEBHOOK_SECRET is not set any more.", final=True)
    to = addresses.parse(url)
    found = _look_up(to, settings, resolve)
    if isinstance(found, Outcome):
        return found
    try:
        status = asyncio.run(asyncio.wait_for(_post(message, url, to, found, secret), SECONDS))
    except (TimeoutError, httpx.TimeoutException):
        return Outcome(f"No answer came within {SECONDS:.0f} s.")
    except (httpx.HTTPError, OSError) as error:
        return Outcome(f"No answer came ({type(error).__name__}).")
    # 410 is how a receiver says that he wants to be told no more.
    return Outcome() if 200 <= status < 300 else Outcome(f"The answer was {status}.", final=status == httpx.codes.GONE)


def _look_up(to: Address, settings: Settings, resolve: Resolve) -> list[str] | Outcome:
    """The addresses that a name stands for now, if each may be called, as any of them may be taken. They are called and
    not the name, which may stand for another one by then."""
    try:
        found = [addresses.literal(each) for each in resolve(to.host, to.port)]
    except (OSError, UnicodeError):
        return Outcome("The host's name is not known.")
    if not all(ip is not None and addresses.may_be_called(ip, settings.webhook_allowed) for ip in found):
        return Outcome("The address is not a public one, and REGROW_WEBHOOK_NETWORKS does not allow it.", final=True)
    return [str(ip) for ip in found]


async def _post(message: Message, url: str, to: Address, ips: Sequence[str], secret: str) -> int:
    """The answer's status; of some addresses the first that takes a connection is told."""
    target = httpx.URL(url)
    headers = _headers(message, secret) | {"Host": target.netloc.decode("ascii")}
    limits = httpx.Timeout(SECONDS, connect=_CONNECT_SECONDS)
    # Neither a proxy nor a password file of the environment has a say, and no redirect is followed.
    async with httpx.AsyncClient(verify=ssl.create_default_context(), timeout=limits, trust_env=False) as client:
        for number, ip in enumerate(ips, 1):
            request = client.build_request(
                "POST",
                target.copy_with(host=ip),
                content=message.body.encode(),
                headers=headers,
                # The certificate is to be that of the name.
                extensions={"sni_hostname": to.host},
            )
            try:
                answer = await client.send(request, stream=True, follow_redirects=False)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == len(ips):
                    raise
                continue
            # What else it says is not read.
            await answer.aclose()
            return answer.status_code
    raise httpx.ConnectError("the name stands for no address")


def _headers(message: Message, secret: str) -> dict[str, str]:
    at = datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Regrow/{version('regrow')}",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(message.id, at, message.body),
    }
