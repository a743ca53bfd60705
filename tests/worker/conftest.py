"""A worker's bench in a folder of its own: real database, real storage, a real prior."""

import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_prior import write_tiny_prior

from samples.phantoms import write_dataset
from shared import datasets, jobs, priors
from shared.db import Sessions, make_sessions
from shared.models import Dataset, Job
from shared.reading import Reading
from shared.settings import Settings
from shared.spec import ENGINE_VERSION, ExpansionSpec
from shared.storage import Folder, upload_key
from worker.ingest import check_next
from worker.priors.cache import PriorCache
from worker.priors.diffusers import load
from worker.studio import Batches, Studio

CACHE = PriorCache(load)
FAST = {"sampler": {"steps": 3, "finish": 1}, "canvas": {"long_side": 64}, "reuse": False}
"""Enough to go through every line; what the pictures look like is another test's concern."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, threads=1, _env_file=None)


@pytest.fixture
def local(settings: Settings, new_sqlite: Callable[[Path], str]) -> Iterator[Sessions]:
    new_sqlite(settings.data / "regrow.db")
    made = make_sessions(settings.database)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def tiny_builtin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior that learned nothing, in the place of the built-in one: of the same sides, and thirty times as quick."""
    folder = tmp_path_factory.mktemp("priors") / "builtin"
    write_tiny_prior(folder, native_size=128, halvings=3)
    return folder


@pytest.fixture
def prior_folder(request: pytest.FixtureRequest, tiny_builtin: Path) -> Path:
    """Of the prior named builtin. A test that is about pictures asks for the real one: see `with_the_real_prior`."""
    folder: Path = getattr(request, "param", tiny_builtin)
    return folder


@pytest.fixture
def studio(settings: Settings, local: Sessions, storage: Folder, prior_folder: Path) -> Studio:
    torch.set_num_threads(1)
    with local.write() as session:
        builtin = priors.register(session, "builtin", prior_folder)
    return Studio(
        settings=settings,
        sessions=local,
        storage=storage,
        name="test",
        device=torch.device("cpu"),
        batches=Batches(1),
        priors=CACHE,
        prior_folders={"builtin": (prior_folder, builtin.sha256)},
        made_by={"device": "cpu", "engine": ENGINE_VERSION},
        stop=lambda: False,
    )


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of four small phantoms, three of them for training."""
    path = tmp_path_factory.mktemp("phantoms") / "phantoms.zip"
    write_dataset(path, images=4, seed=1, size=(90, 110))
    return path


@pytest.fixture
def ingest(settings: Settings, local: Sessions, storage: Folder) -> Callable[..., Dataset]:
    """Uploads an archive, has it checked as `options` (a `Reading`) say, and returns its row."""

    def run(archive: Path, **options: object) -> Dataset:
        with local.write() as session:
            reading = Reading.model_validate(options)
            dataset = datasets.create(session, "local", uuid.uuid4().hex, archive.stem, 1, reading)
            storage.write(upload_key(dataset.id), archive.read_bytes())
        assert check_next(settings, local, storage)
        with local.read() as session:
            return session.get_one(Dataset, dataset.id)

    return run


@pytest.fixture
def make_job(studio: Studio, ingest: Callable[[Path], Dataset], phantoms: Path) -> Callable[..., Job]:
    def make(archive: Path = phantoms, **spec: object) -> Job:
        dataset = ingest(archive)
        with studio.sessions.write() as session:
            wanted = ExpansionSpec.model_validate({"dataset_id": dataset.id, **FAST, **spec})
            return jobs.create(session, "local", wanted, priors.find(session, "local", "builtin"), 1000)

    return make


@pytest.fixture
def repack(tmp_path: Path, phantoms: Path) -> Callable[..., Path]:
    """The phantoms with some members replaced (bytes) or left out (None), or added."""

    def run(changes: dict[str, bytes | None]) -> Path:
        path = tmp_path / "repacked.zip"
        with zipfile.ZipFile(phantoms) as old, zipfile.ZipFile(path, "w") as new:
            members = {name: old.read(name) for name in old.namelist()} | changes
            for name, data in members.items():
                if data is not None:
                    new.writestr(name, data)
        return path

    return run
