"""A folder is sent as it lies there, but for what is no part of a dataset."""

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regrow import cli
from regrow.errors import FolderError
from regrow.folder import zipped as as_zip


@pytest.fixture
def folder(zipped: Path, tmp_path: Path) -> Path:
    """The phantoms, unpacked, among other things."""
    made = tmp_path / "my set"
    zipfile.ZipFile(zipped).extractall(made)
    for name in (".git/HEAD.txt", "runs/weights.pt", "notes.docx", ".DS_Store"):
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_bytes(b"x")
    (made / "images/train/link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    return made


def test_images_and_labels_are_packed_and_nothing_else(folder: Path, zipped: Path) -> None:
    with as_zip(folder) as path, zipfile.ZipFile(path) as archive, zipfile.ZipFile(zipped) as source:
        assert sorted(archive.namelist()) == sorted(source.namelist())
        assert all(archive.read(name) == source.read(name) for name in source.namelist())
    assert not path.exists()


def test_a_zip_is_left_as_it_is(zipped: Path) -> None:
    with as_zip(zipped) as path:
        assert path == zipped
    assert zipped.exists()


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").touch()
    with pytest.raises(FolderError, match="holds no image"), as_zip(tmp_path):
        pass
    ran = CliRunner().invoke(cli.app, ["upload", str(tmp_path)])
    assert (ran.exit_code, "holds no image" in ran.stderr) == (2, True)


def test_a_folder_is_uploaded_under_its_name(run, folder: Path) -> None:
    answer = json.loads(run("upload", folder, "--json").stdout)
    assert (answer["state"], answer["name"], answer["counts"]["images"]) == (
        "ready",
        "my set",
        {"train": 3, "valid": 1},
    )


def test_a_folder_is_expanded(run, folder: Path, tmp_path: Path) -> None:
    ran = run("expand", folder, "-o", tmp_path / "more.zip", "--variants", 1)
    assert ran.exit_code == 0, ran.output
    assert "3 of 3 images" in ran.stdout
