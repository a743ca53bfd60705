"""The part of the client that has priors trained."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import quote

from regrow.answers import Prior, Priors, Training
from regrow.wire import Wire, parsed


class Learning:
    """Priors and trainings, for `regrow.Client`."""

    _wire: Wire

    def priors(self) -> Priors:
        """The installed priors, and what is being trained or fetched."""
        return cast(Priors, parsed(self._wire.get("/v1/priors")))

    def prior(self, name: str) -> Prior:
        return cast(Prior, parsed(self._wire.get(f"/v1/priors/{quote(name, safe='')}")))

    def prior_facts(self, name: str) -> dict[str, Any]:
        """The card of a prior that was trained here, in numbers, as docs/priors.md explains them."""
        return cast(dict[str, Any], parsed(self._wire.get(f"/v1/priors/{quote(name, safe='')}/facts")))

    def prior_samples(self, name: str) -> bytes:
        """A PNG of what a prior that was trained here drew when it was done."""
        return self._wire.get(f"/v1/priors/{quote(name, safe='')}/samples").content

    def train_prior(self, spec: dict[str, Any], key: str | None = None) -> Training:
        """Start to train a prior. `spec` says `dataset_id`, `name`, and what is to differ from the defaults: `recipe`,
        `init`, `licence`, steps and sizes, as `/docs` lists them. `key` as for `create_job`."""
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return cast(Training, parsed(self._wire.post_once("/v1/priors", json=spec, headers=headers)))

    def delete_prior(self, name: str) -> None:
        """Remove a prior that was trained or fetched here, which no job that is not over may need."""
        self._wire.delete(f"/v1/priors/{quote(name, safe='')}")

    def trainings(self) -> Iterator[Training]:
        """All trainings, newest first, page by page."""
        return self._wire.pages("/v1/trainings")

    def training(self, training_id: str) -> Training:
        return cast(Training, parsed(self._wire.get(f"/v1/trainings/{training_id}")))

    def wait_training(self, training_id: str, on_poll: Callable[[Training], None] | None = None) -> Training:
        """The training, once it is `done`, `failed` or `cancelled`. `on_poll` as for `wait_job`."""
        answer = self._wire.poll(
            f"/v1/trainings/{training_id}", lambda training: training["state"] not in ("pending", "running"), on_poll
        )
        return cast(Training, answer)

    def training_preview(self, training_id: str) -> bytes:
        """A PNG of samples of what a training has learned so far."""
        return self._wire.get(f"/v1/trainings/{training_id}/preview").content

    def training_history(self, training_id: str) -> list[dict[str, Any]]:
        """How well a training did so far on images held out from it: {"stage", "step", "held_out"} each."""
        return cast(list[dict[str, Any]], parsed(self._wire.get(f"/v1/trainings/{training_id}/history"))["points"])

    def cancel_training(self, training_id: str) -> Training:
        """End a training; `retry_training` goes on from its last checkpoint."""
        return cast(Training, parsed(self._wire.post_once(f"/v1/trainings/{training_id}/cancel")))

    def retry_training(self, training_id: str) -> Training:
        """Go on with a training that failed or was cancelled."""
        return cast(Training, parsed(self._wire.post_once(f"/v1/trainings/{training_id}/retry")))

    def delete_training(self, training_id: str) -> None:
        """Remove a training with its checkpoints, in whatever state it is; the prior it has made stays."""
        self._wire.delete(f"/v1/trainings/{training_id}")
