"""What `python -m worker.device` says to whoever starts workers."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_cpu_that_was_asked_for_is_known_without_torch() -> None:
    told = "import sys; from worker import device; device.main(); print('torch' in sys.modules)"
    env = os.environ | {"REGROW_DEVICE": "cpu", "REGROW_SAMPLERS": "3"}
    ran = subprocess.run([sys.executable, "-c", told], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["cpu", "3", "False"]
