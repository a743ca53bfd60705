"""Datasets that grow and forget, from the command line."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result as CliResult

from regrow import Client
from regrow.errors import ProblemError

Run = Callable[..., CliResult]


@pytest.fixture
def grown(zipped: Path, tmp_path: Path) -> Path:
    """The phantoms without their first image."""
    path = tmp_path / "grown.zip"
    with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(path, "w") as new:
        images = [name for name in old.namelist() if name.endswith((".png", ".jpg"))]
        stem = Path(images[0]).stem
        for name in old.namelist():
            if Path(name).stem != stem:
                new.writestr(name, old.read(name))
    return path


def test_an_upload_names_its_parent_and_tells_what_differs(run: Run, client: Client, grown: Path, zipped: Path) -> None:
    parent = client.wait_dataset(client.upload(zipped)["id"])["id"]
    result = run("upload", grown, "--parent", parent)
    assert result.exit_code == 0, result.stderr
    assert f"beside {parent}: 0 added, 1 removed, 0 relabelled, 0 moved, 3 unchanged" in result.stdout
    result = run("expand", grown, "--parent", parent, "-o", grown.with_name("out.zip"), "--json")
    assert json.loads(result.stdout)["dataset"]["parent"] == parent
    refused = run("upload", grown, "--parent", "0" * 32)
    assert refused.exit_code == 4
    assert "parent: There is no dataset" in refused.stderr


def test_images_are_forgotten_and_the_receipt_is_printed(run: Run, client: Client, zipped: Path) -> None:
    dataset = client.wait_dataset(client.upload(zipped)["id"])["id"]
    first = next(iter(client.images(dataset)))
    name = Path(first["path"]).name
    looked = run("forget", dataset, "--match", name, "--dry-run")
    assert looked.exit_code == 0, looked.stderr
    assert "1 images and 0 variants would go" in looked.stdout
    assert first["sha256"] in looked.stdout
    assert len(list(client.images(dataset))) == 4

    result = run("forget", dataset, "--match", name, "--yes")
    assert result.exit_code == 0, result.stderr
    assert "1 images and 0 variants are gone" in result.stdout
    assert first["path"] not in [image["path"] for image in client.images(dataset)]
    found = re.search(r"Receipt  ([0-9a-f]{32})", result.stdout)
    assert found
    assert found[1] in run("receipts").stdout
    assert first["sha256"] in run("receipts", found[1]).stdout
    assert json.loads(run("receipts", found[1], "--json").stdout)["match"] == name

    again = run("forget", dataset, "--match", name, "--yes")
    assert (again.exit_code, again.stdout) == (0, f"Nothing of dataset {dataset} is meant by that.\n")
    assert len([each for each in client.receipts() if each["dataset"] == dataset]) == 1


def test_nothing_is_forgotten_unless_it_is_confirmed(run: Run, client: Client, zipped: Path) -> None:
    dataset = client.wait_dataset(client.upload(zipped)["id"])["id"]
    result = run("forget", dataset, "--match", "*")
    assert result.exit_code == 1
    assert "4 images and 0 variants would go" in result.stderr
    assert len(list(client.images(dataset))) == 4


def test_what_is_to_be_forgotten_must_be_said(run: Run, client: Client) -> None:
    assert run("forget", "0" * 32).exit_code == 2
    assert run("forget", "0" * 32, "--match", "a", "--group", "b").exit_code == 2
    assert run("forget", "0" * 32, "--match", "a", "--yes").exit_code == 4
    with pytest.raises(ProblemError, match="no receipt"):
        client.receipt("0" * 32)
