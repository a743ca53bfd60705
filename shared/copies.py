"""Local copies of folders that lie in a bucket: for torch and diffusers, which read files."""

import shutil
import threading
from pathlib import Path

from shared.objects import Objects
from shared.storage import check_key

_WHOLE = ".whole"
"""Is written last into a folder that was kept: what was only half stored has none."""
_CHUNK = 2**20


class Copies:
    """Folders below `root` and in a bucket, by their keys. Raises what `Objects` raises."""

    def __init__(self, objects: Objects, root: Path) -> None:
        self._objects = objects
        self._root = root
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[int, int]] = {}
        """Size and time of each file as it was last stored, or fetched, by this process."""

    def folder(self, key: str) -> Path:
        """A copy that stays, fetched if it is not there yet; see `Folder.folder`."""
        folder = self._folder(key)
        with self._lock:
            if not folder.is_dir() and self._objects.exists(f"{key}{_WHOLE}"):
                partial = folder.with_name(f".{folder.name}.part")
                self._fetch(key, partial)
                partial.replace(folder)
        return folder

    def fetch(self, key: str) -> Path:
        """A copy of what is there now; an empty folder if nothing is."""
        folder = self._folder(key)
        self._fetch(key, folder)
        return folder

    def keep(self, key: str) -> None:
        """Store what has changed, in the order in which it was written; see `Folder.keep`."""
        folder = self._folder(key)
        files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
            as_it_is = _state(path)
            if self._kept.get(path) != as_it_is:
                with path.open("rb") as file, self._objects.writing(_key(key, path, folder), {}) as stored:
                    shutil.copyfileobj(file, stored, _CHUNK)
                self._kept[path] = as_it_is
        self._objects.put(f"{key}{_WHOLE}", b"")

    def forget(self, key: str) -> None:
        """Remove the copy."""
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self._root / check_key(key)

    def _fetch(self, key: str, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for found in self._objects.keys(key):
            if found != f"{key}{_WHOLE}":
                path = folder / found.removeprefix(key)
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._objects.open(found) as stored, path.open("xb") as file:
                    shutil.copyfileobj(stored, file, 16 * _CHUNK)
                self._kept[path] = _state(path)


def _key(key: str, path: Path, folder: Path) -> str:
    return key + path.relative_to(folder).as_posix()


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
