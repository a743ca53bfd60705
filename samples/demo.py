"""The main job, once, from nothing: `python -m samples.demo` serves, draws X-rays, expands them, and stops.

It leaves demo/phantoms.zip, demo/expanded.zip and demo/sheet.png.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regrow.client import Client
from regrow.errors import ClientError
from samples.phantoms import write_dataset

FOLDER = Path("demo")
IMAGES, VARIANTS = 4, 2
SIZE = 210, 256
"""Width and height: the canvas follows them, and is to be made in a minute."""
START_SECONDS, STOP_SECONDS = 120, 40


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    # A run of its own each time: what an earlier one left would only confuse.
    shutil.rmtree(FOLDER / "data", ignore_errors=True)
    phantoms, out, sheet = (FOLDER / name for name in ("phantoms.zip", "expanded.zip", "sheet.png"))
    write_dataset(phantoms, images=IMAGES, seed=0, size=SIZE)
    print(f"Drew {IMAGES} X-ray phantoms with labelled fractures: {phantoms}", flush=True)
    with _served() as server:
        options = ["--variants", str(VARIANTS), "--preset", "fast", "--sheet", str(sheet), "--server", server]
        done = subprocess.run(
            [sys.executable, "-m", "regrow", "expand", str(phantoms), "-o", str(out), *options], check=False
        )
    if done.returncode == 0:
        print(f"\nThe expanded dataset: {out.resolve()}\nThe contact sheet:    {sheet.resolve()}")
    return done.returncode


@contextmanager
def _served() -> Iterator[str]:
    """Address of a service that runs while the block does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "regrow", "serve", "--port", str(port), "--data", str(FOLDER / "data")]
    process = subprocess.Popen(command)
    try:
        address = f"http://127.0.0.1:{port}"
        _until_ready(process, address)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def _until_ready(process: subprocess.Popen[bytes], address: str) -> None:
    end = time.monotonic() + START_SECONDS
    with Client(address) as regrow:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise SystemExit(f"the service ended with exit code {process.returncode}; its words are above")
            try:
                if regrow.ready()["ready"]:
                    return
            except ClientError:
                pass  # it does not listen yet
            time.sleep(0.3)
    raise SystemExit(f"the service was not ready within {START_SECONDS} s; its logs are in {FOLDER / 'data' / 'logs'}")


if __name__ == "__main__":
    sys.exit(main())
