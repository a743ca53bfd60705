"""The rows, a noun a module. Times are seconds since 1970 by the database's clock (`db.now`), sizes are bytes, shares
are 0..1.

Whoever imports one has all of them, so that the metadata is whole.
"""

from shared.models.audit import AuditEntry
from shared.models.datasets import Dataset, Image, Upload, white_of
from shared.models.deletions import Receipt, Trash
from shared.models.items import Item, Review, Verdict
from shared.models.jobs import Archive, IdempotencyKey, Job, Webhook
from shared.models.keys import ApiKey, SignIn
from shared.models.priors import Fetch, Prior, Training
from shared.models.workers import Worker

__all__ = [
    "ApiKey",
    "Archive",
    "AuditEntry",
    "Dataset",
    "Fetch",
    "IdempotencyKey",
    "Image",
    "Item",
    "Job",
    "Prior",
    "Receipt",
    "Review",
    "SignIn",
    "Training",
    "Trash",
    "Upload",
    "Verdict",
    "Webhook",
    "Worker",
    "white_of",
]
