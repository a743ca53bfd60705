"""Which device the sampler runs on. `python -m worker.device` prints it, or says why there is none (exit code 3)."""

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import NotConfigured
from shared.settings import Settings

if TYPE_CHECKING:
    import torch

    from worker.priors.arithmetic import Arithmetic


def choose(wanted: str) -> "torch.device":
    """The device for `wanted`: `auto` takes the first GPU or else the CPU, everything else is meant as it is said.

    Raises:
        NotConfigured: it is not there. A job meant for a GPU would run a hundred times longer on a CPU, so that is
            never done silently.
    """
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise NotConfigured(f"REGROW_DEVICE={wanted!r} is no device; use auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotConfigured(
            f"REGROW_DEVICE={wanted}, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices. "
            "Check the driver (nvidia-smi) and that torch is a CUDA build, or set REGROW_DEVICE=cpu."
        )
    return device


def samplers(kind: str, wanted: int) -> int:
    """How many samplers to run at once; 0 asks for what suits the kind of device.

    On a CPU that is one a core: small models gain little from a second thread (docs/benchmarks.md).
    """
    if wanted:
        return wanted
    if kind != "cpu":
        return 1
    return min(cores(), 8)


def threads_for_training(least: int) -> int:
    """All cores, where that is no risk, or else `least`.

    Threads that wait actively would make it a hundred times slower beside a busy neighbour; and OMP_NUM_THREADS is
    somebody's word on how many there are to be.
    """
    passive = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    return max(least, cores()) if passive and "OMP_NUM_THREADS" not in os.environ else least


def cores() -> int:
    """The cores this process may use, where the system tells: a container may have fewer than the machine."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1


def arithmetic(device: "torch.device", settings: Settings) -> "Arithmetic":
    """How networks compute on the device."""
    import torch

    from worker.priors.arithmetic import PRECISIONS, Arithmetic

    on_gpu = device.type == "cuda"
    wanted = settings.precision
    if wanted == "auto":
        # Before Ampere bfloat16 is emulated, and slow.
        able = on_gpu and torch.cuda.get_device_capability(device) >= (8, 0)
        wanted = "bfloat16" if able else "float32"
    return Arithmetic(PRECISIONS[wanted], channels_last=on_gpu, compiler="inductor" if settings.compile else None)


def describe(device: "torch.device") -> str:
    """A few words for people: `cpu`, or `cuda:0, NVIDIA H200`."""
    if device.type == "cuda":
        import torch

        return f"cuda:{device.index or 0}, {torch.cuda.get_device_name(device)}"
    return device.type


def memory(device: "torch.device") -> tuple[int, int]:
    """Bytes in use on the device, by whomever, and bytes it has; on a CPU those of this process, and of the machine."""
    if device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        used = int(Path("/proc/self/statm").read_text().split()[1]) * page
    except OSError:
        # macOS tells its peak only.
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used, os.sysconf("SC_PHYS_PAGES") * page


def main() -> int:
    """Print the device, and on a second line how many samplers suit it."""
    settings = Settings()
    if settings.device == "cpu":
        # The answer is known without torch, which takes seconds to import.
        words, kind = "cpu", "cpu"
    else:
        try:
            device = choose(settings.device)
        except NotConfigured as error:
            sys.stderr.write(f"{error.detail}\n")
            return 3
        words, kind = describe(device), device.type
    sys.stdout.write(f"{words}\n{samplers(kind, settings.samplers)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
