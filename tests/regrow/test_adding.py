"""`regrow priors add`: the real command, on tiny models in the form they have on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny_prior import write_tiny_prior
from tiny_single_file import write_single_file
from tiny_stable_diffusion import write_tiny_stable_diffusion
from typer.testing import CliRunner, Result

from regrow import cli
from shared import priors
from shared.db import make_sessions
from shared.models import Prior
from shared.settings import Settings
from shared.storage import Folder


@pytest.fixture
def add(tmp_path: Path) -> Any:
    def command(*arguments: object) -> Result:
        words = ["priors", "add", *map(str, arguments), "--data", str(tmp_path / "data")]
        return CliRunner().invoke(cli.app, words, env={"COLUMNS": "300"})

    return command


def rows(tmp_path: Path) -> dict[str, Prior]:
    sessions = make_sessions(Settings(data=tmp_path / "data", _env_file=None).database)
    try:
        with sessions.read() as session:
            return {row.name: row for row in session.query(Prior)}
    finally:
        sessions.dispose()


def test_a_folder_and_a_file_are_added_where_they_are(add: Any, tmp_path: Path) -> None:
    folder, file = tmp_path / "models" / "sd", tmp_path / "models" / "sd.safetensors"
    folder.mkdir(parents=True)
    write_tiny_stable_diffusion(folder)
    write_single_file(folder, file)
    ran = add(folder, "--name", "sd15")
    assert ran.exit_code == 0, ran.output
    assert "sd15: 16 px, takes prompts" in ran.stdout
    ran = add(file, "--name", "sd15-file", "--config", folder)
    assert ran.exit_code == 0, ran.output
    found = rows(tmp_path)
    assert found["sd15"].path == str(folder)
    assert (found["sd15"].prompts, found["sd15"].channels, found["sd15"].factor) == (True, 4, 2)
    laid_out = Path(found["sd15-file"].path or "")
    assert laid_out == tmp_path / "data" / "priors" / "sd15-file"
    assert (laid_out / priors.WHOLE).resolve() == file
    sessions = make_sessions(Settings(data=tmp_path / "data", _env_file=None).database)
    with sessions.read() as session:
        assert priors.added(session).keys() == {"sd15", "sd15-file"}
        assert priors.made_here(session, Folder(tmp_path / "storage")) == {}
    with sessions.write() as session:
        priors.delete(session, "local", "sd15")
    sessions.dispose()
    assert folder.is_dir()


def test_what_cannot_be_used_is_refused_before_anything_is_written(add: Any, tmp_path: Path) -> None:
    broken, pickled, other = tmp_path / "broken", tmp_path / "model.ckpt", tmp_path / "other"
    write_tiny_prior(broken)
    path = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"][0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    pickled.write_bytes(b"PK")
    write_tiny_prior(other)
    (other / "card.json").write_text(
        json.dumps({"about": {}, "weights": {"unet/diffusion_pytorch_model.safetensors": "0" * 64}})
    )
    for given, message in (
        ([broken, "--name", "mine"], "conv_in.weight are not finite"),
        ([other, "--name", "mine"], "is the card of other weights than unet/diffusion_pytorch_model.safetensors"),
        ([pickled, "--name", "mine"], "Take the .safetensors of the same model"),
        ([broken, "--name", "Mine!"], "is no name of a prior"),
        ([broken, "--name", "builtin"], "There is a prior named 'builtin' already"),
        ([broken, "--name", "mine", "--architecture", "sd1"], "for a single file"),
    ):
        ran = add(*given)
        assert (ran.exit_code, message in " ".join(ran.stderr.split())) == (4, True), ran.output
    assert rows(tmp_path) == {}
    assert not list((tmp_path / "data" / "priors").glob("*"))
