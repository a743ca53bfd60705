"""Which device the sampler runs on. `python -m worker.device` prints it, or says why there is none (exit code 3)."""

import os
import sys

import torch

from shared.errors import NotConfigured
from shared.settings import Settings


def choose(wanted: str) -> torch.device:
    """The device for `wanted`: `auto` takes the first GPU or else the CPU, everything else is meant as it is said.

    Raises:
        NotConfigured: it is not there. A job meant for a GPU would run a hundred times longer on a CPU, so that is
            never done silently.
    """
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


def threads(wanted: int) -> int:
    """CPU threads of the sampler; 0 asks for one a core."""
    return wanted or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else wanted or os.cpu_count() or 1


def describe(device: torch.device, thread_count: int) -> str:
    """A few words for people: `cpu, 2 threads` or `cuda:0, NVIDIA H200`."""
    if device.type == "cuda":
        return f"cuda:{device.index or 0}, {torch.cuda.get_device_name(device)}"
    return f"{device.type}, {thread_count} thread{'s' if thread_count > 1 else ''}"


def main() -> int:
    settings = Settings()
    try:
        device = choose(settings.device)
    except NotConfigured as error:
        print(error.detail, file=sys.stderr)  # noqa: T201  (a command's answer)
        return 3
    print(describe(device, threads(settings.threads)))  # noqa: T201  (a command's answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
