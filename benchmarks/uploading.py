"""Large files on their way in: how fast, and how much memory the API takes for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import psutil

import migrations
from benchmarks import ground
from benchmarks.tables import table
from regrow import Client, pieces

_MB = 2**20


def measure(gigabytes: float) -> None:
    """Sends a file of so many gigabytes (10^9 bytes) in pieces, and as a form."""
    size = int(gigabytes * 1e9)
    with TemporaryDirectory(prefix="regrow-bench-") as home:
        folder = Path(home)
        url = f"sqlite:///{folder / 'regrow.db'}"
        with ground.sessions(url) as sessions:
            migrations.upgrade(sessions.engine)
        path = folder / "large.zip"
        with path.open("wb") as file:
            file.truncate(size)
        rows = [("nothing", *_sent(folder, url, None)), ("in pieces", *_sent(folder, url, path))]
        rows.append(("as a form", *_sent(folder, url, path, in_pieces=False)))
    table(("sent", "GB", "s", "MB/s", "peak memory of the API, MB"), rows)


def _sent(folder: Path, url: str, path: Path | None, *, in_pieces: bool = True) -> tuple[str, str, str, str]:
    with ground.api(url, folder) as (host, port), Client(f"http://{host}:{port}", timeout=600) as client:
        # What is loaded for any upload is no cost of a large one.
        client.ready()
        with _watched() as peak:
            started = time.perf_counter()
            if path is not None:
                pieces.LARGE = 0 if in_pieces else path.stat().st_size + 1
                dataset = client.upload(path)
                if dataset["upload_bytes"] != path.stat().st_size:
                    raise RuntimeError("the dataset is not of the file's size")
            wall = time.perf_counter() - started
        if path is None:
            return "0", "-", "-", f"{peak[0] / _MB:.0f}"
        size = path.stat().st_size
        client.delete_dataset(dataset["id"])
    for stored in folder.glob("storage/uploads/*"):
        stored.unlink()
    return f"{size / 1e9:g}", f"{wall:.1f}", f"{size / 1e6 / wall:.0f}", f"{peak[0] / _MB:.0f}"


@contextmanager
def _watched() -> Iterator[list[int]]:
    """The most memory (resident, in bytes) that the API had meanwhile."""
    (api,) = (child for child in psutil.Process().children() if "uvicorn" in child.cmdline())
    peak, over = [0], Event()

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], api.memory_info().rss)
            if over.wait(0.02):
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
