"""Who did what, from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result as CliResult

from regrow import Client

Run = Callable[..., CliResult]


def test_the_trail_is_shown_whole_or_of_one_thing(run: Run, client: Client, zipped: Path) -> None:
    dataset = client.wait_dataset(client.upload(zipped)["id"])["id"]
    job = client.create_job({"dataset_id": dataset, "variants": 1})["id"]
    client.delete_job(job)
    shown = run("audit")
    assert shown.exit_code == 0, shown.stderr
    said = [line.split("  ")[1:] for line in shown.stdout.splitlines()[:3]]
    assert said == [
        ["local", "deleted", f"/v1/jobs/{job}"],
        ["local", "created", f"/v1/jobs/{job}"],
        ["local", "uploaded", f"/v1/datasets/{dataset}"],
    ]
    assert len(run("audit", "--most", "1").stdout.splitlines()) == 1
    found = json.loads(run("audit", f"/v1/jobs/{job}", "--action", "created", "--action", "paused", "--json").stdout)
    assert [entry["action"] for entry in found] == ["created"]
    assert run("audit", "/v1/jobs/none").stdout == "Nothing is noted of that.\n"
    assert run("audit", "--action", "seen").exit_code == 4
    assert [entry["object"] for entry in client.audit(f"/v1/datasets/{dataset}")] == [f"/v1/datasets/{dataset}"]
