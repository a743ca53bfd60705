"""`regrow datasets` and `regrow pilot` against the real API."""

import json
import re
from pathlib import Path

from PIL import Image


def test_datasets_are_listed_shown_and_deleted(run, zipped) -> None:
    sent = json.loads(run("upload", zipped, "--name", "wrists", "--json").stdout)
    listed = run("datasets").stdout
    assert re.search(rf"{sent['id']}  ready  +yolo  +\d+  +wrists", listed)
    assert sent["id"] in {each["id"] for each in json.loads(run("datasets", "--json").stdout)}
    assert "wrists: ready" in run("datasets", "show", sent["id"]).stdout
    assert json.loads(run("datasets", "delete", sent["id"], "--yes", "--json").stdout) == {"deleted": sent["id"]}
    assert run("datasets", "show", sent["id"]).exit_code == 4


def test_a_pilot_has_a_column_for_each_preset_and_the_whole_job_takes_it_over(run, zipped, tmp_path: Path) -> None:
    sheet = tmp_path / "pilot.png"
    asked = ("--preset", "fast", "--preset", "balanced", "--images", 2, "--seed", 7, "--json")
    told = json.loads(run("pilot", zipped, "-o", sheet, *asked).stdout)
    assert [job["spec"]["sampler"]["preset"] for job in told["jobs"]] == ["fast", "balanced"]
    assert [(job["total"], job["spec"]["max_images"]) for job in told["jobs"]] == [(2, 2)] * 2
    columns, cell, margin = 4, 256, 12
    with Image.open(sheet) as drawn:
        assert drawn.width == margin + columns * (cell + margin)
    again = run("pilot", told["dataset"]["id"], "-o", sheet, *asked)
    assert [job["reused"] for job in json.loads(again.stdout)["jobs"]] == [2, 2]
    whole = ("expand", zipped, "-o", tmp_path / "out.zip", "--variants", 1, "--seed", 7, "--preset", "fast", "--json")
    assert json.loads(run(*whole).stdout)["job"]["reused"] == 2


def test_what_is_neither_a_file_nor_a_dataset_is_refused(run, tmp_path: Path) -> None:
    ran = run("pilot", "nothing.zip", "-o", tmp_path / "pilot.png")
    assert ran.exit_code == 2
    assert "nothing.zip is no file, no folder, and no id of a dataset" in ran.output
