"""Every page as a picture, to be looked at: `python -m tests.web.screenshots`.

Starts a service of its own, or takes `--server URL`, draws phantoms, makes small jobs, a pilot and a training of them,
and leaves each page in docs/pages (or `--out FOLDER`): wide, narrow and dark. No real image is ever on one.
"""

import argparse
import io
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from regrow import Client
from regrow.errors import ClientError
from samples.phantoms import write_dataset

Scheme = Literal["light", "dark"]
WAYS: dict[str, tuple[int, int, Scheme]] = {
    "wide": (1200, 900, "light"),
    "narrow": (390, 300, "light"),
    "dark": (1200, 900, "dark"),
}
"""Width of the window, that of the picture, and the colours."""
TALLEST = 1600
"""Pixels of the window; what comes below is cut off."""
LESSONS: dict[str, Any] = {
    "crop": 16,
    "image_side": 48,
    "denoiser_side": 32,
    "autoencoder_steps": 60,
    "denoiser_steps": 60,
    "checkpoint_every": 5,
    "sample_every": 10,
    "samples": 16,
}
START_SECONDS = 180.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--server", help="a service that runs; left out: one is started")
    parser.add_argument("--out", type=Path, default=Path("docs/pages"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        served(asked.server, Path(folder)) as server,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with Client(server) as client:
            if not any(client.datasets()):
                take(browser, server, {"empty": "/datasets", "no-jobs": "/jobs"}, asked.out)
            paths = prepare(client, server, Path(folder))
        take(browser, server, paths, asked.out)
        browser.close()


@contextmanager
def served(server: str | None, folder: Path) -> Iterator[str]:
    """The address of a service, started for the block unless there is one."""
    if server:
        yield server
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "regrow", "serve", "--port", str(port), "--data", str(folder / "data")]
    process = subprocess.Popen(command)
    try:
        _until_ready(address := f"http://127.0.0.1:{port}")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def take(browser: Browser, server: str, paths: Mapping[str, str], out: Path) -> None:
    """Take pictures of some pages, given by name and path, in all ways."""
    for way, (window, width, scheme) in WAYS.items():
        context = browser.new_context(
            base_url=server, viewport={"width": window, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        )
        page = context.new_page()
        for name, path in paths.items():
            page.goto(path)
            page.wait_for_timeout(1500)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
            shown = picture.crop((0, 0, picture.width, min(picture.height, TALLEST)))
            small = shown.resize((width, round(shown.height * width / window)), Image.Resampling.LANCZOS)
            small.save(out / f"{name}-{way}.webp", quality=50, method=6)
        context.close()


def prepare(client: Client, server: str, folder: Path) -> dict[str, str]:
    """Make something to be seen; gives each page's name and path."""
    archive, lessons, holiday = (folder / f"{name}.zip" for name in ("phantoms", "lessons", "holiday"))
    write_dataset(archive, images=12, seed=0)
    dataset = client.wait_dataset(client.upload(archive, "Wrists and knees")["id"])["id"]
    holiday.write_bytes(b"no zip")
    rejected = client.wait_dataset(client.upload(holiday)["id"])["id"]
    write_dataset(lessons, images=28, seed=3, size=(96, 96))
    learned = client.wait_dataset(client.upload(lessons, "To learn from")["id"])["id"]
    training = client.train_prior({"dataset_id": learned, "name": "wrists", "licence": "CC0", **LESSONS})["id"]
    client.wait_training(training)
    wanted: dict[str, Any] = {"dataset_id": dataset, "variants": 1, "sampler": {"preset": "fast"}}
    few = {"max_images": 2, "name": "Pilot: fast"}
    pilot = [client.create_job(wanted | few)["id"]]
    wider = {"operator": {"mask": {"sigma": 0.6}}, "name": "Pilot: fast, sigma 0.6"}
    pilot.append(client.create_job(wanted | few | wider)["id"])
    job = client.create_job(wanted | {"name": "One more of each", "max_images": 4})["id"]
    for each in (*pilot, job):
        client.wait_job(each)
    item = next(client.items(job))["id"]
    running = client.create_job(wanted | {"name": "Under way", "variants": 40, "seed": 1})["id"]
    return {
        "datasets": "/datasets",
        "dataset": f"/datasets/{dataset}",
        "rejected": f"/datasets/{rejected}",
        "expand": f"/datasets/{dataset}/expand",
        "jobs": "/jobs",
        "job": f"/jobs/{job}",
        "running": f"/jobs/{running}",
        "items": f"/jobs/{job}/items",
        "item": f"/jobs/{job}/items/{item}",
        "mask": f"/jobs/{job}/items/{item}?view=mask",
        "difference": f"/jobs/{job}/items/{item}?view=difference",
        "review": f"/jobs/{job}/review",
        "filters": f"/jobs/{job}/filters",
        "blind": f"/jobs/{job}/blind",
        "card": review(server, job, seed=0),
        "score": review(server, job, seed=1, answer="real"),
        "pilot": "/pilots?" + "&".join(f"job={each}" for each in pilot),
        "priors": "/priors",
        "training": f"/trainings/{training}",
        "sign-in": "/sign-in",
        "missing": f"/datasets/{'0' * 32}",
    }


def review(server: str, job: str, *, seed: int, answer: str = "") -> str:
    """The path of a blinded review in which each card has that answer, if one is given."""
    with httpx.Client(base_url=f"{server}/v1/jobs/{job}", trust_env=False) as api:
        made = api.post("/reviews", json={"count": 6, "seed": seed}).raise_for_status().json()
        if answer:
            said = [{"card": card["id"], "answer": answer} for card in made["cards"]]
            api.post(f"/reviews/{made['id']}/answers", json=said).raise_for_status()
    return f"/jobs/{job}/blind/{made['id']}"


def _until_ready(address: str) -> None:
    end = time.monotonic() + START_SECONDS
    with Client(address) as client:
        while time.monotonic() < end:
            try:
                if client.ready()["ready"]:
                    return
            except ClientError:
                pass  # it does not listen yet
            time.sleep(0.3)
    raise SystemExit(f"the service was not ready within {START_SECONDS:.0f} s")


if __name__ == "__main__":
    main()
