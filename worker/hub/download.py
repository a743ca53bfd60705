"""Files of a repository come into a folder. What was cut off goes on with the bytes that are here; what is here under
its own name is whole, and its hash is the hub's."""

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile

from worker.hub.choice import Found, Wanted, choose
from worker.hub.errors import CannotFetch

PARTS = ".parts"
"""The folder in it of files that are not whole, by their hashes."""
_CHUNK = 2**18
_TELL_EVERY = 0.5
_ADVICE = "Give the workers a HF_TOKEN of an account that may read it."

Say = Callable[[int, int], None]
"""Told how many bytes are here, and how many there are."""


class Repository:
    """A commit of a repository at a hub."""

    def __init__(self, endpoint: str, repo: str, revision: str, token: str | None) -> None:
        self._name = f"{repo}@{revision[:12]}"
        self._endpoint, self._repo, self._revision = endpoint, repo, revision
        self._api = HfApi(endpoint=endpoint, token=token or False, library_name="regrow")
        # What comes is to be as long as it says.
        self._headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def files(self) -> list[Found]:
        """All it holds. Raises CannotFetch."""
        with self._told():
            tree = self._api.list_repo_tree(self._repo, recursive=True, revision=self._revision)
            return [
                Found(each.path, each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
                for each in tree
                if isinstance(each, RepoFile)
            ]

    def append(self, found: Found, file: BinaryIO, here: int) -> None:
        """Write what is lacking of a file, of which so much is here, to its end. Raises CannotFetch."""
        url = hf_hub_url(self._repo, found.path, revision=self._revision, endpoint=self._endpoint)
        with self._told():
            silent: Any = _Silent
            # A hub sends large files from elsewhere; the client follows, and takes no token there.
            http_get(url, file, resume_size=here, headers=self._headers, expected_size=found.size, tqdm_class=silent)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong, in words."""
        try:
            yield
        except GatedRepoError:
            said = f"{self._repo} is gated: its terms must be accepted on its page first. {_ADVICE}"
            raise CannotFetch("gated", said) from None
        except RepositoryNotFoundError:
            said = f"There is no repository {self._repo} at {self._endpoint}, or it is private. {_ADVICE}"
            raise CannotFetch("no_repository", said) from None
        except RevisionNotFoundError:
            said = f"The repository {self._repo} has no commit {self._revision}."
            raise CannotFetch("no_revision", said) from None
        except RemoteEntryNotFoundError:
            raise CannotFetch("missing_file", f"A file that {self._name} lists is not there.") from None
        except HfHubHTTPError as error:
            raise self._refused(error.response.status_code) from None
        except httpx2.HTTPError as error:
            said = f"{self._endpoint} does not answer as it should ({type(error).__name__}). Is there a network?"
            raise CannotFetch("hub_away", said, final=False) from None
        except OSError as error:
            if error.errno is not None:
                raise
            said = f"What {self._endpoint} sent of {self._name} is not as long as it said."
            raise CannotFetch("hub_away", said, final=False) from None
        except (ValueError, KeyError, TypeError):
            said = f"{self._endpoint} answers, but not as a hub does. Is REGROW_HUB_ENDPOINT right?"
            raise CannotFetch("hub_away", said, final=False) from None

    def _refused(self, status: int) -> CannotFetch:
        if status in (401, 403):
            return CannotFetch("forbidden", f"{self._endpoint} refuses {self._repo} ({status}). {_ADVICE}")
        return CannotFetch("hub_away", f"{self._endpoint} answered {status} for {self._name}.", final=False)


def fetch(
    repository: Repository, folder: Path, room: int | None, say: Say, *, file: str | None, variant: str | None
) -> None:
    """Bring the files of a prior into `folder`.

    Args:
        room: bytes that may be taken up; None: it is not known.

    Raises:
        CannotFetch: the hub does not give them, they are no prior, or too large, or are not what the hub says they are.
        OSError: the disk is full, or away.
    """
    # So that little is lost with a process that is killed.
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    wanted = choose(repository.files(), file, variant)
    with _alone(folder):
        size = sum(each.found.size for each in wanted)
        here = sum(_here(folder, each) for each in wanted)
        if room is not None and size - here > room:
            said = f"It has {size:,} bytes, of which {here:,} are here, and {max(room, 0):,} are free. Make room."
            raise CannotFetch("insufficient-storage", said)
        with _telling(lambda: say(sum(_here(folder, each) for each in wanted), size)):
            for each in wanted:
                _bring(repository, folder, each)
        shutil.rmtree(folder / PARTS)


class _Silent:
    """What the client takes for its progress bar."""

    def __init__(self, **_: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: int) -> None: ...


def _bring(repository: Repository, folder: Path, wanted: Wanted) -> None:
    """One file."""
    target, part = folder / wanted.name, _part(folder, wanted)
    if target.is_file():
        return
    here = part.stat().st_size if part.is_file() else 0
    if here > wanted.found.size:
        part.unlink()
        here = 0

    with part.open("ab", buffering=0) as file:
        repository.append(wanted.found, file, here)
        os.fsync(file.fileno())
    if _hash(part, wanted.found) != (wanted.found.sha256 or wanted.found.blob):
        part.unlink()
        said = f"{wanted.found.path} is not what the hub says it is: its hash differs. It is fetched anew."
        raise CannotFetch("hash_mismatch", said, final=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)


def _here(folder: Path, wanted: Wanted) -> int:
    # In this order, as the part may become the whole in between.
    try:
        return min(_part(folder, wanted).stat().st_size, wanted.found.size)
    except FileNotFoundError:
        return wanted.found.size if (folder / wanted.name).is_file() else 0


def _part(folder: Path, wanted: Wanted) -> Path:
    # Files of equal contents do not share one.
    name = hashlib.sha256(f"{wanted.name} {wanted.found.sha256 or wanted.found.blob}".encode()).hexdigest()
    return folder / PARTS / name


def _hash(path: Path, found: Found) -> str:
    """As the hub has it: SHA-256, or of small files that of git."""
    with path.open("rb") as file:
        if found.sha256 is not None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha1(b"blob %d\0" % found.size + file.read(), usedforsecurity=False).hexdigest()


@contextmanager
def _telling(tell: Callable[[], None]) -> Iterator[None]:
    """Tell how far it is now and then, also while nothing comes, and at the end."""
    over = threading.Event()

    def now_and_then() -> None:
        while not over.wait(_TELL_EVERY):
            tell()

    thread = threading.Thread(target=now_and_then, daemon=True)
    tell()
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        tell()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes to the folder meanwhile. It ends with the process, so that after a crash nobody waits."""
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    with (folder / PARTS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotFetch("busy", "Another process is still at it.", final=False) from None
        yield
