"""Workers with faults to order: `celery -A faulty worker`. All else of them is as in earnest.

A test says what is to happen in a JSON file (see `Orders`), which is read again before each step. `FAULTY_BATCH` is
how many items are claimed at once, `FAULTY_CLOCK` how many seconds this process's clock is ahead.
"""

import dataclasses
import errno
import json
import os
import signal
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from shared.settings import Settings
from shared.storage import Folder
from worker import main

if TYPE_CHECKING:
    from worker.studio import Studio


class Orders:
    """What is to go wrong: `step` is how many seconds each takes, `storage` names the errno that it gives, `faults`
    are those of items by their seeds, and with `dawdle` the next process that has stored an image waits until it is
    ordered otherwise, its number in `dawdler`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.dawdler = file.with_name("dawdler")

    def give(
        self, *, step: float = 0.0, storage: str = "", faults: dict[int, str] | None = None, dawdle: bool = False
    ) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"step": step, "storage": storage, "faults": faults or {}, "dawdle": dawdle}))
        new.replace(self._file)

    def read(self) -> Any:
        return json.loads(self._file.read_text())


class FaultyFolder(Folder):
    """Storage that is full, read-only, broken or slow when it is ordered so."""

    def write(self, key: str, data: bytes) -> None:
        super().write(key, data)
        orders = _orders()
        if key.startswith("jobs/") and orders.read()["dawdle"]:
            with suppress(FileExistsError), orders.dawdler.open("x") as file:
                file.write(str(os.getpid()))
                file.flush()
                while orders.read()["dawdle"]:
                    time.sleep(0.02)

    def _make_root(self) -> None:
        ordered = _orders().read()["storage"]
        if ordered:
            number = getattr(errno, ordered)
            raise OSError(number, os.strerror(number), str(self.root))
        super()._make_root()


class FaultyPrior:
    """A prior that is slow, and fails on some items, which it knows by the noise that they must start from."""

    def __init__(self, prior: Any) -> None:
        self._prior = prior

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def eps(self, z: Any, t: Any) -> Any:
        import torch

        orders = _orders().read()
        time.sleep(orders["step"])
        for seed, fault in orders["faults"].items():
            start = torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(int(seed)))
            if any(torch.equal(row, start) for row in z.detach()):
                z = FAULTS[fault](z)
        return self._prior.eps(z, t)


def _crowded(z: Any) -> Any:
    return _full(z) if len(z) > 1 else z


def _full(_z: Any) -> NoReturn:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory, says the test")


def _nan(z: Any) -> Any:
    return z * float("nan")


def _kill(_z: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(_z: Any) -> None:
    time.sleep(1e6)


def _broken(_z: Any) -> NoReturn:
    import torch

    raise torch.AcceleratorError("CUDA error: an illegal memory access, says the test")


FAULTS = {"crowded": _crowded, "full": _full, "nan": _nan, "kill": _kill, "hang": _hang, "broken": _broken}

_plain_bench, _plain_studio = main.bench, main.studio


@lru_cache
def _orders() -> Orders:
    return Orders(Path(os.environ["FAULTY_ORDERS"]))


@lru_cache
def bench() -> main.Bench:
    plain = _plain_bench()
    return dataclasses.replace(plain, storage=FaultyFolder(plain.storage.root, may_make=False))


@lru_cache
def studio() -> "Studio":
    from worker.priors.cache import PriorCache
    from worker.priors.diffusers import load
    from worker.studio import Batches

    return dataclasses.replace(
        _plain_studio(),
        batches=Batches(int(os.environ.get("FAULTY_BATCH", "1"))),
        priors=PriorCache(lambda folder, device: FaultyPrior(load(folder, device))),
    )


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    app = main.create_worker(Settings())
    # The pool's child, a process started afresh, imports what is named here, and that before the tasks.
    app.conf.imports = ["faulty"]
    return app


main.bench, main.studio = bench, studio
_ahead, _now = float(os.environ.get("FAULTY_CLOCK", "0")), time.time
if _ahead:
    time.time = lambda: _now() + _ahead
