"""Large datasets: how fast they are checked and packed, with what memory, and whether time grows as rows do."""

import base64
import hashlib
import io
import json
import multiprocessing
import resource
import shutil
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import ParamSpec, TypeVar

import numpy as np
from PIL import Image as Picture
from starlette.testclient import TestClient

import migrations
from api.main import create_app
from benchmarks import ground
from benchmarks.tables import table
from shared import datasets, jobs, packing
from shared.datasets import Contents, NewImage
from shared.formats.samples import Entry, Output
from shared.models import Dataset, Prior
from shared.settings import Settings
from shared.spec import ExpansionSpec
from shared.states import DatasetState
from shared.storage import Folder, sha256, source_key, upload_key
from worker.ingest import check_next
from worker.parallel import in_order, usable_threads

P = ParamSpec("P")
T = TypeVar("T")

_BOXES = 5


def ingest(images: int) -> None:
    """Checks sets of `images` and twice as many 640 x 480 JPEGs, each in a process of its own, and decodes the same."""
    with TemporaryDirectory(prefix="regrow-bench-") as home:
        rows = []
        for count in (images, 2 * images):
            path = Path(home) / f"{count}.zip"
            _write_set(path, count)
            bare, _ = _apart(_decode, path)
            wall, peak = _apart(_ingest, path)
            rows.append(
                (f"{count:,}", *(f"{count / s:.0f}" for s in (bare, wall)), f"{bare / wall:.2f}", f"{peak:.0f}")
            )
            path.unlink()
    table(("images", "decoded a second", "checked a second", "ratio", "peak memory, MB"), rows)


def pack(megabytes: int) -> None:
    """Packs so many megabytes of stored images of 1 MB, and copies a file of that size to beside it."""
    with TemporaryDirectory(prefix="regrow-bench-") as home:
        storage, data, keys = Folder(Path(home)), np.random.default_rng(0).bytes(1_000_000), []
        with storage.together() as together:
            for number in range(megabytes):
                piece = number.to_bytes(8, "big") + data[8:]
                keys.append(source_key(sha256(piece)))
                together.store(keys[-1], piece)
        entries = [Entry(f"images/train/{n:06}.jpg", "train", None, None, f"{n}") for n in range(megabytes)]
        output = Output("images/{split}", ("fracture",), ("train",), None, entries)
        pictures = tuple(packing.Picture(entry, key, None) for entry, key in zip(entries, keys, strict=True))
        contents = packing.Contents("yolo", output, pictures)
        started, digest = time.perf_counter(), hashlib.sha256()
        with storage.writing("archives/first.zip") as file:
            for part in packing.pack(contents, storage):
                digest.update(part)
                file.write(part)
        packed = time.perf_counter() - started
        started = time.perf_counter()
        with storage.open("archives/first.zip") as source, storage.writing("archives/copy.zip") as file:
            shutil.copyfileobj(source, file, 2**20)
        copied = time.perf_counter() - started
    rates = [f"{megabytes / seconds:.0f}" for seconds in (copied, packed)]
    table(("MB", "copied, MB/s", "packed, MB/s", "ratio"), [(megabytes, *rates, f"{copied / packed:.2f}")])


def scale(images: int, server: str | None, *, on_postgres: bool) -> None:
    """Writes the rows of sets of an eighth, a quarter, half and all of `images`, asks for last pages, makes a job."""
    rows = [(f"{count:,}", *_scaled(count, server, on_postgres=on_postgres)) for count in _steps(images)]
    header = ("images", "boxes", "accepted, s", "last page of images, ms", "job made, s", "last page of items, ms")
    table((*header, "peak memory, MB", "of it before, MB"), rows)


def _steps(images: int) -> Iterator[int]:
    yield from (images // part for part in (8, 4, 2, 1))


def _scaled(count: int, server: str | None, *, on_postgres: bool) -> tuple[str, ...]:
    if on_postgres:
        with ground.postgres(server) as url:
            return _apart(_rows, url, count)
    with TemporaryDirectory(prefix="regrow-bench-") as home:
        url = f"sqlite:///{Path(home) / 'regrow.db'}"
        with ground.sessions(url) as sessions:
            migrations.upgrade(sessions.engine)
        return _apart(_rows, url, count)


def _rows(url: str, count: int) -> tuple[str, ...]:
    with ground.sessions(url) as sessions, TemporaryDirectory(prefix="regrow-bench-") as home:
        with sessions.write() as session:
            prior = Prior(name="builtin", sha256=ground.PRIOR, native_size=128, multiple=16, size=1, card="")
            session.add(prior)
            session.add(dataset := Dataset(owner="local", name="bench"))
            session.flush()
            claim = datasets.claim(session, 3600)
        if claim is None:
            raise RuntimeError("the dataset just made is not there")
        contents = Contents(
            "yolo", "images/{split}", None, ("fracture",), ("train",), (), 255, [_image(n) for n in range(count)]
        )
        before = _peak()
        with _timed() as accepted, sessions.write() as session:
            datasets.accept(session, claim, contents)
        spec = ExpansionSpec(dataset_id=dataset.id, variants=1)
        with _timed() as made, sessions.write() as session:
            job = jobs.create(session, "local", spec, prior, count)
        settings = Settings(data=Path(home), _env_file=None)
        app = create_app(settings, sessions, Folder(Path(home)), lambda _: None, lambda: None)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            pages = [_last_page(client, of, count) for of in (f"datasets/{dataset.id}/images", f"jobs/{job.id}/items")]
    figures = f"{accepted[0]:.2f}", f"{pages[0]:.1f}", f"{made[0]:.2f}", f"{pages[1]:.1f}"
    return f"{count * _BOXES:,}", *figures, f"{_peak():.0f}", f"{before:.0f}"


def _last_page(client: TestClient, of: str, count: int) -> float:
    """Milliseconds, the median of a few."""
    cursor = base64.urlsafe_b64encode(json.dumps([count - 100]).encode()).decode().rstrip("=")
    taken = []
    for _ in range(11):
        with _timed() as seconds:
            answer = client.get(f"/v1/{of}?limit=100&cursor={cursor}")
        page = answer.raise_for_status().json()
        if len(page["items"]) != 100 or page["next"] is not None:
            raise RuntimeError("that was not the last page")
        taken.append(1e3 * seconds[0])
    return median(taken)


def _image(number: int) -> NewImage:
    digest = f"{number:064x}"
    return NewImage(
        path=f"images/train/{number:06}.jpg",
        split="train",
        sha256=digest,
        format="JPEG",
        mode="L",
        width=640,
        height=480,
        size=100_000,
        boxes=[[0.0, 0.1 * k, 0.25, 0.1 * k + 0.07, 0.5] for k in range(_BOXES)],
        label_path=f"labels/train/{number:06}.txt",
        label=b"0 .375 .375 .25 .25\n" * _BOXES,
        label_sha256=digest,
    )


def _ingest(path: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB."""
    home = path.with_suffix("")
    settings, storage = Settings(data=home, _env_file=None), Folder(home / "storage")
    with ground.sessions(settings.database) as sessions:
        migrations.upgrade(sessions.engine)
        with sessions.write() as session:
            dataset = datasets.create(session, "local", uuid.uuid4().hex, "bench", path.stat().st_size)
        with path.open("rb") as source, storage.writing(upload_key(dataset.id)) as file:
            shutil.copyfileobj(source, file, 2**20)
        with _timed() as seconds:
            check_next(settings, sessions, storage)
        with sessions.read() as session:
            state = datasets.get(session, "local", dataset.id).state
    if state != DatasetState.READY:
        raise RuntimeError(f"the set is {state}")
    shutil.rmtree(home)
    return seconds[0], _peak()


def _decode(path: Path) -> tuple[float, float]:
    """The same, of nothing but decoding, on as many threads."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]

        def decode(data: bytes) -> None:
            Picture.open(io.BytesIO(data)).load()

        with _timed() as seconds:
            for _ in in_order(decode, map(archive.read, names), usable_threads()):
                pass
    return seconds[0], _peak()


def _write_set(path: Path, images: int) -> None:
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 256, (60, 80), dtype=np.uint8)
    smooth = np.asarray(Picture.fromarray(coarse).resize((640, 480), Picture.Resampling.BICUBIC)).astype(np.float32)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("data.yaml", "names: [fracture]\n")
        for number in range(images):
            pixels = np.roll(smooth, number, 1) + chance.normal(0, 4, (480, 640))
            out = io.BytesIO()
            grey = Picture.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            grey.convert("RGB").save(out, "JPEG", quality=90)
            archive.writestr(f"images/train/{number:06}.jpg", out.getvalue())
            archive.writestr(f"labels/train/{number:06}.txt", "0 .375 .375 .25 .25\n" * _BOXES)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """A list that holds the block's seconds when that has ended."""
    seconds: list[float] = []
    started = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - started)


def _apart(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """`work`, in a process of its own: its peak memory is that of nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given, **named).result()


def _peak() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
