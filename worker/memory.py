"""The memory of the device that priors are loaded on and images sampled in."""

import gc
import os
import sys
from pathlib import Path
from typing import Protocol

import torch


class Memory(Protocol):
    """Figures are bytes."""

    def free(self) -> int:
        """What can still be had."""

    def total(self) -> int:
        """What the device has, whoever uses it."""

    def reclaim(self) -> None:
        """Give back what nobody holds any more."""

    def watch(self) -> None:
        """Begin to note how much is taken."""

    def taken(self) -> int | None:
        """The most that was taken at once since `watch`, on top of what was then; None where nobody tells."""


class Endless:
    """Memory that nobody has looked at: never short."""

    def free(self) -> int:
        return sys.maxsize

    def total(self) -> int:
        return sys.maxsize

    def reclaim(self) -> None:
        """Nobody waits for it."""

    def watch(self) -> None:
        """Nobody counts here."""

    def taken(self) -> int | None:
        return None


class Machine(Endless):
    """A machine's own, or a container's, under `root`; where neither tells, never short."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._meminfo = root / "proc" / "meminfo"
        self._container = root / "sys" / "fs" / "cgroup"

    def free(self) -> int:
        found = [_figures(self._meminfo).get("MemAvailable:", sys.maxsize // 1024) * 1024]
        limit, used = (self._number(f"memory.{name}") for name in ("max", "current"))
        if limit is not None and used is not None:
            # Of what is counted as used, files that nobody reads at the moment make way.
            found.append(limit - used + _figures(self._container / "memory.stat").get("inactive_file", 0))
        return max(0, min(found))

    def total(self) -> int:
        limit = self._number("memory.max")
        machine = _figures(self._meminfo).get("MemTotal:")
        has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if machine is None else machine * 1024
        return has if limit is None else min(has, limit)

    def reclaim(self) -> None:
        gc.collect()

    def _number(self, name: str) -> int | None:
        try:
            text = (self._container / name).read_text().strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None  # "max": no limit


class Cuda:
    """A GPU's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._resting = 0

    def free(self) -> int:
        free, _ = torch.cuda.mem_get_info(self._device)
        # What torch has set aside and nobody holds is free for us.
        return free + torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)

    def total(self) -> int:
        return torch.cuda.mem_get_info(self._device)[1]

    def reclaim(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    def watch(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)
        self._resting = torch.cuda.memory_allocated(self._device)

    def taken(self) -> int | None:
        return torch.cuda.max_memory_allocated(self._device) - self._resting


def of(device: torch.device) -> Memory:
    """A device's."""
    return Cuda(device) if device.type == "cuda" else Machine()


def left(memory: Memory) -> str:
    """How much of it is left, as the end of a sentence; nothing where nobody knows."""
    total = memory.total()
    return f"; {memory.free():,} of {total:,} bytes are free" if total < sys.maxsize else ""


def _figures(path: Path) -> dict[str, int]:
    """The first number after each name; nothing where there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) > 1 and words[1].isdecimal()}
