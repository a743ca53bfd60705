"""Who is told that a job is over. There is a row for its end, until whoever is told has said that he knows, or does not
for days: it is written with the end itself, and delivered by a worker, so that nothing is forgotten."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session, joinedload

from shared import addresses, items, leases
from shared.db import now
from shared.errors import Fault, Invalid
from shared.leases import Claim
from shared.models import Archive, Job, Webhook
from shared.settings import Settings
from shared.states import ArchiveState, WebhookState, job_state

PAUSES = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds before the second attempt and those after it, as Standard Webhooks proposes; then it is given up."""
INSTALLATION = ""
"""The address of a webhook that goes to where the settings say."""
_building = (
    select(Archive.job_id).where(Archive.job_id == Webhook.job_id, Archive.state == ArchiveState.BUILDING).exists()
)
# Not before the archive is there: whoever is told wants to fetch it.
TODO = (Webhook.state == WebhookState.PENDING) & (Webhook.next_at <= now()) & ~_building


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be sent; every attempt sends the same."""

    id: str
    url: str
    body: str
    attempts: int
    """Those that failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: nothing is wrong, or `error` says in a sentence what is."""

    error: str | None = None
    final: bool = False
    """Whether another attempt would end like this one."""


def check(url: str, settings: Settings) -> None:
    """See that a job may name this address. What its name stands for is looked up when it is called.

    Raises:
        Invalid: this installation signs nothing, or the address is not public.
    """
    if not settings.webhook_secret.get_secret_value():
        detail = "This installation sends no webhooks: its operator has not set REGROW_WEBHOOK_SECRET."
        raise Invalid(detail, [Fault("body.webhook", detail)])
    ip = addresses.literal(addresses.parse(url).host)
    if ip is not None and not addresses.may_be_called(ip, settings.webhook_allowed):
        detail = "The webhook's address is not a public one, and this installation does not allow it."
        raise Invalid(detail, [Fault("body.webhook", detail)])


def order(session: Session, job_ids: Sequence[str]) -> None:
    """Have the ends of some jobs told to whom they name."""
    told = select(Job.id, Job.webhook).where(Job.id.in_(job_ids), Job.webhook.is_not(None))
    for job_id, url in session.execute(told).all():
        session.add(Webhook(job_id=job_id, url=url))


def withdraw(session: Session, job_id: str) -> None:
    """The job goes on: what was not delivered of its end is no longer true, and another will come."""
    session.execute(delete(Webhook).where(Webhook.job_id == job_id))


def claim(session: Session, lease: float) -> Claim | None:
    """Take the oldest that waits to be delivered; the claim's id is its job's."""
    return leases.claim(session, Webhook, TODO, lease)


def message(session: Session, claim: Claim) -> Message:
    """What is to be sent. It is written down the first time, so that it stays the same whatever becomes of the job."""
    row = session.get_one(Webhook, claim.id)
    if row.body is None:
        row.body = _body(session, session.get_one(Job, claim.id, options=[joinedload(Job.archive)]))
    return Message(row.id, row.url, row.body, row.attempts)


def settle(session: Session, claim: Claim, message: Message, outcome: Outcome) -> bool:
    """Note what came of an attempt; False if the claim was lost meanwhile."""
    if outcome.error is None:
        done = {"state": WebhookState.DELIVERED, "delivered_at": now(), "error": None}
        return leases.settle(session, Webhook, claim, **done, attempts=message.attempts + 1)
    over = outcome.final or message.attempts >= len(PAUSES)
    values: dict[str, Any] = {"error": outcome.error, "attempts": message.attempts + 1}
    if over:
        values["state"] = WebhookState.FAILED
    else:
        values["next_at"] = now() + PAUSES[message.attempts]
    return leases.settle(session, Webhook, claim, **values)


def waiting(session: Session) -> bool:
    """Whether one waits to be delivered and nobody does."""
    return leases.waiting(session, Webhook, TODO)


def sweep(session: Session) -> int:
    """Give up on those that end their workers; returns how many."""
    pending: ColumnElement[bool] = Webhook.state == WebhookState.PENDING
    return leases.give_up(session, Webhook, pending, state=WebhookState.FAILED, error=leases.GIVEN_UP)


def _body(session: Session, job: Job) -> str:
    """No names: who asks for the job with a key of its project learns them."""
    counts = items.counts(session, job.id)
    state = job_state(counts, paused=job.paused_at is not None, cancel_requested=job.cancelled_at is not None)
    archive = job.archive
    data = {
        "job": job.id,
        "path": f"/v1/jobs/{job.id}",
        "dataset": job.dataset_id,
        "state": state,
        "counts": {str(each): number for each, number in sorted(counts.items())},
        "archive": {"state": archive.state, "bytes": archive.size, "sha256": archive.sha256} if archive else None,
    }
    at = datetime.fromtimestamp(job.finished_at or 0.0, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": f"job.{state}", "timestamp": at, "data": data})
