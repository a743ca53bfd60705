"""The `regrow` command against the real API."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from regrow import cli, pictures
from shared.formats import FORMATS
from shared.models import Job
from shared.reading import Kind
from shared.spec import ExpansionSpec

ROOT = Path(cli.__file__).parents[1]


def process(*arguments, **environ):
    command = [sys.executable, "-m", "regrow", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, **pipes)


def test_expand_does_it_all_in_one_command(run, zipped, tmp_path):
    out, sheet = tmp_path / "more.zip", tmp_path / "sheet.png"
    ran = run("expand", zipped, "-o", out, "--variants", 1, "--name", "wrists", "--sheet", sheet)
    assert ran.exit_code == 0, ran.output
    assert str(out) in ran.stdout
    assert str(sheet) in ran.stdout
    assert "3 of 3 images" in ran.stdout
    with zipfile.ZipFile(out) as archive:
        new = [name for name in archive.namelist() if name.endswith("_rg1.jpg")]
    assert sorted(new) == [f"images/train/phantom_{number:04d}_rg1.jpg" for number in range(3)]
    assert size(sheet)[1] > 3 * 200


def test_every_option_of_expand_reaches_the_job_and_what_is_left_out_is_the_servers(run, zipped, tmp_path):
    out = tmp_path / "out.zip"
    wishes = "--variants 3 --seed 5 --steps 7 --preset exact --split train --split valid --max-images 1 --blend none"
    more = "--no-originals --image-format png --name all --priority 3 --no-reuse --long-side 144 --output-format coco"
    job = json.loads(run("expand", zipped, "-o", out, "--json", *wishes.split(), *more.split()).stdout)["job"]
    wanted = {
        "name": "all",
        "priority": 3,
        "canvas": {"long_side": 144},
        "reuse": False,
        "variants": 3,
        "seed": 5,
        "splits": ["train", "valid"],
        "max_images": 1,
        "blend": "none",
        "sampler": {"preset": "exact", "steps": 7},
        "output": {"include_originals": False, "image_format": "png", "format": "coco"},
    }
    default = ExpansionSpec(dataset_id=job["dataset_id"])
    assert job["spec"] == ExpansionSpec(dataset_id=job["dataset_id"], **wanted).model_dump(mode="json")
    plain = json.loads(run("expand", zipped, "-o", out, "--json").stdout)["job"]
    assert plain["spec"] == default.model_copy(update={"dataset_id": plain["dataset_id"]}).model_dump(mode="json")


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("preset", "sampler.preset"),
        ("blend", "blend"),
        ("unlabelled", "unlabelled"),
        ("image_format", "output.image_format"),
        ("output_format", "output.format"),
    ],
)
def test_the_choices_offered_are_those_the_service_has(option, path):
    offered = get_args(get_args(get_args(cli.expand.__annotations__[option])[0])[0])
    model = ExpansionSpec
    *outer, last = path.split(".")
    for name in outer:
        model = model.model_fields[name].annotation
    assert offered == get_args(model.model_fields[last].annotation)


def test_expand_in_json_is_json_and_nothing_else(run, zipped, tmp_path):
    ran = run("expand", zipped, "-o", tmp_path / "o.zip", "--json")
    answer = json.loads(ran.stdout)
    assert answer["job"]["state"] == "succeeded"
    assert answer["archive"] == str(tmp_path / "o.zip")
    assert answer["sheet"] is None


def test_the_formats_offered_for_an_upload_are_those_the_service_reads():
    offered = get_args(get_args(get_args(cli.expand.__annotations__["format"])[0])[0])
    assert set(offered) == set(FORMATS) == set(get_args(Kind))


def test_how_a_dataset_is_to_be_read_is_sent_with_it(run, zipped):
    told = ["--format", "yolo", "--group-pattern", "_(0+)", "--skip-bad-images", "--no-labels"]
    answer = json.loads(run("upload", zipped, "--json", *told).stdout)
    assert answer["reading"] == {
        "format": "yolo", "labels": "none", "on_bad_image": "skip", "group_pattern": "_(0+)",
        "parent": None,
    }  # fmt: skip
    said = run("upload", zipped, *told).stdout
    assert "groups: 2, in several splits: 1" in said
    assert "YOLO, as was asked for." in said
    refused = run("upload", zipped, "--group-pattern", "no group")
    assert (refused.exit_code, "body.group_pattern" in refused.stderr) == (4, True)


def test_upload_prints_the_id_and_what_was_found(run, zipped):
    ran = run("upload", zipped)
    assert ran.exit_code == 0
    assert re.search(r"[0-9a-f]{32}", ran.stdout)
    assert "train: 3 images" in ran.stdout
    assert "fractured" in ran.stdout


def test_a_rejected_upload_lists_each_fault_and_ends_with_4(run, tmp_path):
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("data.yaml", "names: [a]\ntrain: images/train\n")
        for number in range(2):
            archive.writestr(f"images/train/{number}.png", b"not a picture")
            archive.writestr(f"labels/train/{number}.txt", "0 0.5 0.5 0.1 0.1\n")
    ran = run("upload", bad)
    assert ran.exit_code == 4
    assert "images/train/0.png" in ran.stderr
    assert "images/train/1.png" in ran.stderr


def test_a_rejected_dataset_is_not_expanded(run, bad_zip, tmp_path):
    assert run("expand", bad_zip, "-o", tmp_path / "o.zip").exit_code == 4
    assert not (tmp_path / "o.zip").exists()


def test_a_refused_wish_ends_with_4_and_names_the_field(run, zipped, tmp_path):
    ran = run("expand", zipped, "-o", tmp_path / "o.zip", "--variants", 101)
    assert ran.exit_code == 4
    assert "body.variants" in ran.stderr


def test_a_job_with_failed_items_ends_with_5_and_its_archive_is_still_there(run, service, zipped, tmp_path):
    service.fails = lambda work: work.path.endswith("0.jpg")
    out = tmp_path / "o.zip"
    ran = run("expand", zipped, "-o", out, "--json")
    assert ran.exit_code == 5
    job = json.loads(ran.stdout)["job"]
    assert hashlib.sha256(out.read_bytes()).hexdigest() == job["archive"]["sha256"]
    shown = run("status", job["id"])
    assert shown.exit_code == 0
    assert shown.stdout.count("The ink was spilt.") == 2


def test_a_job_of_which_nothing_came_ends_with_5_and_without_an_archive(run, service, zipped, tmp_path):
    service.fails = lambda work: True
    ran = run("expand", zipped, "-o", tmp_path / "o.zip", "--sheet", tmp_path / "s.png")
    assert ran.exit_code == 5
    assert list(tmp_path.iterdir()) == []
    assert "Archive" not in ran.stdout


def test_a_job_cancelled_by_somebody_else_ends_with_5(run, service, client, zipped, tmp_path):
    service.open.clear()
    started = process("expand", zipped, "-o", tmp_path / "o.zip", REGROW_SERVER=service.url)
    job_id = newest_job(client, before={job["id"] for job in client.jobs()})
    assert run("cancel", job_id).exit_code == 0
    service.open.set()
    assert started.wait(60) == 5
    started.communicate()


def test_ctrl_c_leaves_the_job_running_and_says_how_to_watch_and_end_it(service, client, zipped, tmp_path):
    service.open.clear()
    started = process("expand", zipped, "-o", tmp_path / "o.zip", REGROW_SERVER=service.url)
    job_id = newest_job(client, before={job["id"] for job in client.jobs()})
    time.sleep(0.3)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert f"regrow watch {job_id} --server {service.url}" in said
    assert f"regrow cancel {job_id}" in said
    assert client.job(job_id)["state"] == "queued"


def test_status_lists_all_jobs(run, finished):
    line = next(line for line in run("status").stdout.splitlines() if finished["id"] in line)
    assert line.split()[1:5] == ["succeeded", "6/6", "0", "100%"]
    assert finished["id"] in [job["id"] for job in json.loads(run("status", "--json").stdout)]


def test_status_shows_one_job(run, finished):
    assert json.loads(run("status", finished["id"], "--json").stdout) == finished
    assert "6 of 6 images" in run("status", finished["id"]).stdout


def test_an_unknown_job_ends_with_4(run):
    ran = run("status", "0" * 32)
    assert ran.exit_code == 4
    assert "There is no job" in ran.stderr


def test_a_job_can_be_paused_resumed_cancelled_and_tried_again(run, service, client, dataset_id):
    service.open.clear()
    job_id = client.create_job({"dataset_id": dataset_id})["id"]
    for command, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        ran = run(command, job_id)
        assert ran.exit_code == 0, ran.stderr
        assert f": {state}" in ran.stdout
        assert json.loads(run(command, job_id, "--json").stdout)["state"] == state
    assert run("resume", job_id, "--finish-with-new", "--restart").exit_code == 2


def test_a_job_of_an_earlier_engine_says_which_command_goes_on(run, service, client, dataset_id):
    service.open.clear()
    job_id = client.create_job({"dataset_id": dataset_id})["id"]
    with service.sessions.write() as session:
        job = session.get_one(Job, job_id)
        job.resolved = job.resolved | {"engine": "0"}
    assert f"regrow resume {job_id} --finish-with-new, or --restart" in run("status", job_id).stdout
    assert run("resume", job_id, "--restart").exit_code == 0
    assert "--restart" not in run("status", job_id).stdout


def test_a_job_is_deleted_only_when_that_is_confirmed(run, client, finished):
    job_id = client.create_job({"dataset_id": finished["dataset_id"]})["id"]
    assert run("delete", job_id).exit_code == 1
    assert client.job(job_id)["id"] == job_id
    assert run("delete", job_id, "--yes").exit_code == 0
    assert run("status", job_id).exit_code == 4


def test_download_fetches_the_archive(run, finished, tmp_path):
    out = tmp_path / "out.zip"
    assert run("download", finished["id"], "-o", out).exit_code == 0
    assert hashlib.sha256(out.read_bytes()).hexdigest() == finished["archive"]["sha256"]


def test_a_sheet_shows_different_images_first(client, finished):
    def sources(count):
        return [row.title.partition(",")[0] for row in pictures.rows(client, finished, count)]

    assert len(set(sources(3))) == 3
    assert len(sources(4)) == 4
    assert len(sources(7)) == 6


def test_on_a_sheet_an_operator_without_a_mask_keeps_everything(client, dataset_id):
    wanted = {"dataset_id": dataset_id, "max_images": 1, "variants": 1, "operator": {"kind": "gaussian_blur"}}
    job = client.wait_job(client.create_job(wanted)["id"])
    (row,) = pictures.rows(client, job, 1)
    assert row.mask.size == row.original.size
    assert row.mask.getextrema() == (255, 255)


def test_a_sheet_has_as_many_rows_as_were_asked_for(run, finished, tmp_path):
    assert run("sheet", finished["id"], "-o", tmp_path / "two.png", "--rows", 2).exit_code == 0
    assert run("sheet", finished["id"], "-o", tmp_path / "three.png", "--rows", 3).exit_code == 0
    (width, two), (same_width, three) = size(tmp_path / "two.png"), size(tmp_path / "three.png")
    assert three > two + 200
    assert same_width == width


def test_a_sheet_of_nothing_is_refused(run, service, client, dataset_id, tmp_path):
    service.open.clear()
    job = client.create_job({"dataset_id": dataset_id})
    assert run("sheet", job["id"], "-o", tmp_path / "s.png").exit_code == 4


def test_no_server_ends_with_3_and_says_what_to_do(zipped):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    asked = process("status", "--server", url)
    _, said = asked.communicate()
    assert asked.returncode == 3
    assert url in said
    assert "regrow serve" in said


@pytest.mark.parametrize(
    "arguments",
    [
        "expand",
        "upload nowhere.zip",
        "status --rows 3",
        "nonsense",
        "download x -o no/such/folder/o.zip",
        "sheet x -o sheet.txt",
    ],
)
def test_wrong_usage_ends_with_2(run, arguments):
    assert run(*arguments.split()).exit_code == 2


def test_a_choice_that_there_is_not_is_told_with_those_there_are(run, zipped, tmp_path):
    for command in (["expand", zipped, "-o", tmp_path / "out.zip"], ["pilot", "0" * 32]):
        ran = run(*command, "--preset", "turbo")
        assert ran.exit_code == 2
        assert (
            "Invalid value for '--preset': 'turbo' is not one of 'reference', 'exact', 'balanced', 'fast'" in ran.stderr
        )


def test_the_dataset_is_never_overwritten_by_its_expansion(run, zipped):
    before = zipped.read_bytes()
    assert run("expand", zipped, "-o", zipped).exit_code == 2
    assert zipped.read_bytes() == before


def test_all_exit_codes_are_in_the_help(run):
    shown = " ".join(re.findall(r"[\w;:,`]+", run("--help").stdout))
    for code in cli.Exit:
        assert re.search(rf"\b{code.value} \w+", shown)


def test_help_imports_neither_torch_nor_the_service():
    code = (
        "import sys\nfrom regrow import cli\ntry: cli.app(['--help'])\nexcept SystemExit: pass\n"
        "print([n for n in ('torch', 'sqlalchemy', 'celery', 'httpx', 'PIL', 'shared', 'api') if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def size(picture):
    with Image.open(picture) as image:
        return image.size


def newest_job(client, before):
    """The id of the job that is not in `before`, once there is one."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for job in client.jobs():
            if job["id"] not in before:
                return job["id"]
        time.sleep(0.05)
    pytest.fail("no job was made")
