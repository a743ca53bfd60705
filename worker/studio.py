"""What a gpu worker's process has at hand; made by `worker.main`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.orm import Session

from shared import priors
from shared.db import Sessions
from shared.figures import Meter
from shared.settings import Settings
from shared.storage import Storage
from worker.neighbours import Neighbours
from worker.priors.cache import PriorCache


class Batches:
    """How many items are sampled at once: as many as were asked for, until that proves too many for the memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def halve(self, tried: int) -> None:
        self.limit = min(self.limit, max(1, tried // 2))


@dataclass(frozen=True)
class Studio:
    """All of it."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    name: str
    device: torch.device
    batches: Batches
    priors: PriorCache
    prior_folders: dict[str, tuple[Path, str]]
    """Folder and hash of each prior that was there when the process started, by name."""
    made_by: dict[str, Any]
    stop: Callable[[], bool]
    """Asked between steps: is this process to end, because nobody waits for it any more?"""
    meter: Meter = field(default_factory=Meter)
    neighbours: Neighbours = field(default_factory=Neighbours)

    def folders(self, session: Session) -> dict[str, Path]:
        """Where each prior that can be used at this moment lies, by its hash: also what was trained or added since."""
        found = self.prior_folders | priors.made_here(session, self.storage) | priors.added(session)
        return {sha256: folder for folder, sha256 in found.values()}
