"""The part of the client that has priors fetched from a hub."""

from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import quote

from regrow.answers import Fetch
from regrow.wire import Wire, parsed


class Fetching:
    """Fetches, for `regrow.Client`."""

    _wire: Wire

    def fetch_prior(self, name: str, spec: dict[str, Any]) -> Fetch:
        """Have a prior fetched from a hub. `spec` says `repo` (`org/name`), `revision` (a commit), and where needed
        `file`, `architecture` and `variant`. Said again it goes on with what failed or was cancelled."""
        return cast(Fetch, parsed(self._wire.post_once(f"/v1/priors/{quote(name, safe='')}/fetch", json=spec)))

    def fetches(self) -> Iterator[Fetch]:
        """All fetches, newest first, page by page."""
        return self._wire.pages("/v1/fetches")

    def fetch(self, fetch_id: str) -> Fetch:
        return cast(Fetch, parsed(self._wire.get(f"/v1/fetches/{fetch_id}")))

    def wait_fetch(self, fetch_id: str, on_poll: Callable[[Fetch], None] | None = None) -> Fetch:
        """The fetch, once it is `done`, `failed` or `cancelled`. `on_poll` as for `wait_job`."""
        answer = self._wire.poll(
            f"/v1/fetches/{fetch_id}", lambda fetch: fetch["state"] not in ("pending", "running"), on_poll
        )
        return cast(Fetch, answer)

    def cancel_fetch(self, fetch_id: str) -> Fetch:
        """End a fetch; `fetch_prior`, said again, goes on with the bytes that are there."""
        return cast(Fetch, parsed(self._wire.post_once(f"/v1/fetches/{fetch_id}/cancel")))

    def delete_fetch(self, fetch_id: str) -> None:
        """Remove a fetch with what came of it so far, in whatever state it is; the prior it has brought stays."""
        self._wire.delete(f"/v1/fetches/{fetch_id}")
