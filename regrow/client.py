"""A client of the REST API, for scripts.

with Client() as regrow:
    dataset = regrow.wait_dataset(regrow.upload("fractures.zip")["id"])
    job = regrow.wait_job(regrow.create_job({"dataset_id": dataset["id"], "variants": 4})["id"])
    regrow.download(job["id"], "fractures_x5.zip")
"""

import io
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast
from urllib.parse import urlencode

from regrow import DEFAULT_URL, pieces
from regrow.answers import (
    AuditEntry,
    Dataset,
    Estimate,
    Filter,
    Forgotten,
    Image,
    Item,
    ItemState,
    Job,
    Readiness,
    Reading,
    Who,
)
from regrow.download import download, download_unsized
from regrow.errors import ProblemError
from regrow.events import Event, listen
from regrow.fetching import Fetching
from regrow.folder import zipped
from regrow.judging import Judging
from regrow.learning import Learning
from regrow.looking import Looking
from regrow.wire import STORING_SECONDS, WAITING_PATIENCE, Wire, parsed

_FINAL = frozenset({"succeeded", "completed_with_errors", "failed", "cancelled"})
_NOT_YET = 409


class Client(Looking, Judging, Learning, Fetching):
    """Speaks to one server; every method raises `Unreachable` or `ProblemError` (see `regrow.errors`).

    What only reads is tried again for two seconds, or while waiting for two minutes, before it counts as failed.

    Args:
        base_url: the server's address.
        timeout: seconds without a sign of life after which a request has failed.
        key: as `regrow keys create` has told it; left out, only the server's own machine may be let in.
    """

    def __init__(self, base_url: str = DEFAULT_URL, timeout: float = 30.0, key: str | None = None) -> None:
        self._wire = Wire(base_url, timeout, key)
        self.base_url = self._wire.base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    def ready(self) -> Readiness:
        """Whether the service can do its work, and what is missing if not."""
        return cast(Readiness, parsed(self._wire.probe("/readyz")))

    def who(self) -> Who:
        """The project and the name that the key stands for."""
        return cast(Who, parsed(self._wire.get("/v1/session")))

    def upload(
        self,
        path: str | Path,
        name: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        reading: Reading | None = None,
    ) -> Dataset:
        """Send a zip, or a folder, which is zipped first. The dataset is `checking` then; `wait_dataset` waits until it
        was checked.

        A large one is sent in pieces: an interrupted upload goes on where it stopped, also in a later call.
        `on_progress` is called with the bytes sent and the bytes there are. `reading` says what is not to be found out
        from the files. Raises FolderError if a folder holds no image.
        """
        path = Path(path)
        wishes = {"name": name, **(reading or {})}
        fields = {key: str(wish) for key, wish in wishes.items() if wish is not None}
        sent_as = f"{path.resolve().name}.zip" if path.is_dir() else path.name
        with zipped(path) as archive:
            if archive.stat().st_size >= pieces.LARGE:
                made = pieces.send(self._wire, archive, {"filename": sent_as, **fields}, on_progress)
                return cast(Dataset, parsed(self._wire.get(made)))
            return self._send_whole(archive, sent_as, fields, on_progress)

    def _send_whole(
        self, path: Path, sent_as: str, fields: dict[str, str], on_progress: Callable[[int, int], None] | None
    ) -> Dataset:
        with _Sent(path, on_progress) as file:
            files = {"file": (sent_as, file, "application/zip")}
            response = self._wire.post("/v1/datasets", data=fields, files=files, read_timeout=STORING_SECONDS)
        return cast(Dataset, parsed(response))

    def datasets(self) -> Iterator[Dataset]:
        """All datasets, newest first, page by page."""
        return self._wire.pages("/v1/datasets")

    def dataset(self, dataset_id: str) -> Dataset:
        return cast(Dataset, parsed(self._wire.get(f"/v1/datasets/{dataset_id}")))

    def wait_dataset(self, dataset_id: str, on_poll: Callable[[Dataset], None] | None = None) -> Dataset:
        """The dataset, once it is `ready` or `rejected`. `on_poll` is called with each answer on the way."""
        answer = self._wire.poll(f"/v1/datasets/{dataset_id}", lambda dataset: dataset["state"] != "checking", on_poll)
        return cast(Dataset, answer)

    def images(self, dataset_id: str) -> Iterator[Image]:
        """All images of a dataset, page by page."""
        return self._wire.pages(f"/v1/datasets/{dataset_id}/images")

    def estimate_job(self, spec: dict[str, Any]) -> Estimate:
        """What a job of this spec would take: seconds and whether they were measured, bytes, warnings."""
        return cast(Estimate, parsed(self._wire.post_once("/v1/jobs/estimate", json=spec)))

    def create_job(self, spec: dict[str, Any], key: str | None = None) -> Job:
        """Start a job. `spec` is an ExpansionSpec: `dataset_id`, and what is to differ from the defaults.

        The same spec under the same `key` makes no second job, also in a later call. Without one a fresh key is used,
        so that a request whose answer is lost can be sent again.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return cast(Job, parsed(self._wire.post_once("/v1/jobs", json=spec, headers=headers)))

    def jobs(self) -> Iterator[Job]:
        """All jobs, page by page."""
        return self._wire.pages("/v1/jobs")

    def job(self, job_id: str) -> Job:
        return cast(Job, parsed(self._wire.get(f"/v1/jobs/{job_id}")))

    def wait_job(self, job_id: str, on_poll: Callable[[Job], None] | None = None) -> Job:
        """The job, once it is over and its archive is built, or cannot be.

        `on_poll` is called with each answer that differs from the one before.
        """
        return cast(Job, self._wire.poll(f"/v1/jobs/{job_id}", over, on_poll))

    def events(self, job_id: str) -> Iterator[Event]:
        """What happens to a job, as it happens: first `Progress` with the job as it is now, then an event for each
        change and each item that is settled, until the job is over and its archive is built, or cannot be.

        A connection that breaks is made again and goes on where it was; an item may then be told of twice.
        """
        return listen(self._wire, f"/v1/jobs/{job_id}/events", over, WAITING_PATIENCE)

    def cancel(self, job_id: str) -> Job:
        """End a job. What is done stays; it does no harm to a job that is over."""
        return self._tell(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Let workers take nothing more of a job; what they are at is finished."""
        return self._tell(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Let a paused job go on."""
        return self._tell(job_id, "resume")

    def retry(self, job_id: str) -> Job:
        """Have failed and cancelled items tried again."""
        return self._tell(job_id, "retry")

    def upgrade(self, job_id: str, done: Literal["keep", "remake"]) -> Job:
        """Go on with a new engine or prior: what an earlier one has made is kept, or made again."""
        return self._tell(job_id, "upgrade", json={"done": done})

    def delete_job(self, job_id: str) -> None:
        """Remove a job with its items, images and archive, in whatever state it is."""
        self._wire.delete(f"/v1/jobs/{job_id}")

    def delete_dataset(self, dataset_id: str) -> None:
        """Remove a dataset and all jobs that were made of it, which must be over."""
        self._wire.delete(f"/v1/datasets/{dataset_id}")

    def forget(
        self,
        dataset_id: str,
        match: str | None = None,
        *,
        group: str | None = None,
        everywhere: bool = False,
        dry_run: bool = False,
    ) -> Forgotten:
        """Remove images of a dataset and all that came from them; the answer is the receipt.

        They are those whose path fits `match` (`*` and `?`; without a slash, the name of the file), or those of a
        `group`. `everywhere` removes copies of the same bytes too, in all datasets. `dry_run` only tells.
        """
        body = {"match": match, "group": group, "everywhere": everywhere, "dry_run": dry_run}
        # A second time there is nothing left to forget, and no receipt: the first one's is in `receipts`.
        return cast(Forgotten, parsed(self._wire.post_once(f"/v1/datasets/{dataset_id}/forget", json=body)))

    def receipts(self) -> Iterator[Forgotten]:
        """What was forgotten so far, newest first, page by page."""
        return self._wire.pages("/v1/receipts")

    def receipt(self, receipt_id: str) -> Forgotten:
        return cast(Forgotten, parsed(self._wire.get(f"/v1/receipts/{receipt_id}")))

    def audit(self, thing: str | None = None, actions: Iterable[str] = ()) -> Iterator[AuditEntry]:
        """Who did what, newest first, page by page: of all things or of one and what is in it, given by its path as
        `/v1/jobs/ID`; all actions or some."""
        asked = [*([("object", thing)] if thing else []), *(("action", action) for action in actions)]
        return self._wire.pages("/v1/audit", f"&{urlencode(asked)}" if asked else "")

    def items(self, job_id: str, state: ItemState | None = None) -> Iterator[Item]:
        """The items of a job, or those in one state, page by page."""
        return self._wire.pages(f"/v1/jobs/{job_id}/items", f"&state={state}" if state else "")

    def pack(self, job_id: str, filters: Sequence[Filter] = ()) -> Job:
        """Have the archive of a job that is over built anew, without what was rejected or does not pass the filters."""
        self._wire.post_once(f"/v1/jobs/{job_id}/archive", json={"filters": list(filters)})
        return self.job(job_id)

    def download(
        self,
        job_id: str,
        path: str | Path,
        on_progress: Callable[[int, int], None] | None = None,
        *,
        partial: bool = False,
    ) -> Path:
        """Fetch a job's archive to `path`, replacing what is there once all of it has come and its SHA-256 is right.

        An interrupted download goes on where it stopped, also in a later call. An archive that was removed to save
        space is built again first. `on_progress` is called with the
        bytes that are here and the bytes there are.

        With `partial`, and while the archive is not there yet, it is a zip of what is done so far. That has no hash and
        is begun anew after an interruption, and the bytes there are are 0, not known.

        Raises:
            Damaged: the bytes are not those the server announced.
        """
        url = f"/v1/jobs/{job_id}/archive"
        job = self.job(job_id)
        if job["archive"] and job["archive"]["state"] == "pruned":
            self._order_archive(job_id)
        elif partial and not _has_archive(job):
            return download_unsized(self._wire, f"{url}?partial=1", Path(path), on_progress)
        return download(self._wire, url, Path(path), on_progress)

    def _order_archive(self, job_id: str) -> None:
        """Ask for an archive that was removed to save space, and wait until it is built again."""
        try:
            self._wire.get(f"/v1/jobs/{job_id}/archive", headers={"Range": "bytes=0-0"})
        except ProblemError as error:
            if error.status != _NOT_YET:
                raise
        self.wait_job(job_id)

    def _tell(self, job_id: str, what: str, **body: Any) -> Job:
        # Each of these does no more when it is sent twice.
        return cast(Job, parsed(self._wire.post_once(f"/v1/jobs/{job_id}/{what}", **body)))


def over(job: Job) -> bool:
    """Whether nothing about a job will change any more: its last item has ended and its archive is built.

    Its state is final a moment before its archive is ordered; `finished_at` is set together with that order.
    """
    archive = job["archive"]
    return (
        job["state"] in _FINAL
        and job["finished_at"] is not None
        and (archive is None or archive["state"] != "building")
    )


class _Sent(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, on_progress: Callable[[int, int], None] | None) -> None:
        super().__init__(path)
        self._on_progress = on_progress
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size)
        if self._on_progress:
            self._on_progress(self.tell(), self._size)
        return data or b""


def _has_archive(job: Job) -> bool:
    return job["archive"] is not None and job["archive"]["state"] == "ready"
