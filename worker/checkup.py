"""What `regrow doctor` cannot see without torch; `python -m worker.checkup` prints it as JSON."""

import json
import shutil
import subprocess
import sys

import torch

from shared import priors
from shared.errors import NotConfigured
from shared.settings import Settings
from worker import device
from worker.priors.check import check
from worker.priors.diffusers import BUILTIN, BadPrior


def checkup(settings: Settings) -> dict[str, object]:
    """The device that would be used or why there is none, what the driver says of itself, and each prior, loaded."""
    found: dict[str, object] = {"torch": torch.__version__, "cuda": torch.version.cuda, "driver": _driver()}
    try:
        chosen = device.choose(settings.device)
    except NotConfigured as error:
        found["no_device"] = error.detail
    else:
        used, there = device.memory(chosen)
        found |= {"device": device.describe(chosen), "memory": there, "memory_used": used}
    try:
        folders = {**priors.installed(settings.priors), priors.BUILTIN: BUILTIN}
    except NotConfigured as error:
        return found | {"priors": {"": {"fault": error.detail}}}
    known: dict[str, dict[str, str]] = {}
    for name, folder in folders.items():
        try:
            # On the CPU: a device in use may have no room for another.
            check(folder)
            known[name] = {"sha256": priors.describe(name, folder).sha256}
        except BadPrior as error:
            known[name] = {"fault": str(error)}
        except NotConfigured as error:
            known[name] = {"fault": error.detail}
    return found | {"priors": known}


def _driver() -> str | None:
    """The version of the NVIDIA driver and what it drives; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    return told.stdout.strip() if told.returncode == 0 else f"nvidia-smi: {told.stdout.strip() or told.stderr.strip()}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(checkup(Settings())))
