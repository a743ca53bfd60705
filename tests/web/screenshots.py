"""Every page as a picture, to be looked at: `python -m tests.web.screenshots --server URL --out FOLDER`.

Draws phantoms, makes a small job and a pilot of them on a service that runs, and leaves each page wide and narrow,
light and dark. No real image is ever on one.
"""

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from regrow import Client
from samples.phantoms import write_dataset

WIDTHS = {"wide": 1200, "narrow": 390}
SCHEMES = ("light", "dark")
TALLEST = 1600
"""Pixels; what comes below is cut off."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=Path("shots"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with Client(asked.server) as client, tempfile.TemporaryDirectory() as folder:
        paths = prepare(client, Path(folder))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width, pixels in WIDTHS.items():
            for scheme in SCHEMES:
                context = browser.new_context(
                    base_url=asked.server,
                    viewport={"width": pixels, "height": 800},
                    color_scheme=scheme,  # type: ignore[arg-type]
                    reduced_motion="reduce",
                )
                page = context.new_page()
                for name, path in paths.items():
                    page.goto(path)
                    page.wait_for_timeout(1500)
                    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
                    shown = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, TALLEST)))
                    shown.save(asked.out / f"{name}-{width}-{scheme}.webp", quality=60, method=6)
                context.close()
        browser.close()


def prepare(client: Client, folder: Path) -> dict[str, str]:
    """Make something to be seen; gives each page's name and path."""
    archive = folder / "phantoms.zip"
    write_dataset(archive, images=12, seed=0)
    dataset = client.wait_dataset(client.upload(archive, "Wrists and knees")["id"])["id"]
    (folder / "holiday.zip").write_bytes(b"no zip")
    rejected = client.wait_dataset(client.upload(folder / "holiday.zip")["id"])["id"]
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
        "difference": f"/jobs/{job}/items/{item}?view=difference",
        "review": f"/jobs/{job}/review",
        "filters": f"/jobs/{job}/filters",
        "blind": f"/jobs/{job}/blind",
        "pilot": "/pilots?" + "&".join(f"job={each}" for each in pilot),
        "priors": "/priors",
        "sign-in": "/sign-in",
    }


if __name__ == "__main__":
    main()
