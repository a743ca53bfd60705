"""The commands that judge new images and build archives without some of them."""

import json


def test_images_are_accepted_and_rejected_and_the_archive_is_built_without_the_latter(run, client, finished):
    # Others look at the same job, so that nothing may stay changed.
    job, items = finished["id"], [item["id"] for item in client.items(finished["id"])]
    assert run("accept", job, items[0]).stdout == "1 accepted, 0 rejected, 5 undecided\n"
    assert json.loads(run("reject", job, *items[1:3], "--reason", "a step", "--json").stdout)["rejected"] == 2
    assert run("undecide", job, items[0], items[1]).stdout == "0 accepted, 1 rejected, 5 undecided\n"
    revision = client.job(job)["archive"]["revision"]
    told = run("pack", job, "--drop", "seconds > 1e9", "--dry-run")
    assert told.stdout.startswith("Would drop 0 of 6; 1 are rejected anyway.\n  fracture")
    packed = json.loads(run("pack", job, "--drop", "seconds > 1000000", "--drop", "hidden_share<-1", "--json").stdout)
    assert (packed["archive"]["state"], packed["archive"]["revision"]) == ("ready", revision + 1)
    assert packed["archive"]["filters"] == [
        {"measure": "seconds", "min": None, "max": 1e6},
        {"measure": "hidden_share", "min": -1.0, "max": None},
    ]
    run("undecide", job, *items)
    assert json.loads(run("pack", job, "--json").stdout)["archive"]["filters"] == []


def test_a_rule_that_is_none_is_wrong_usage_and_one_of_no_measure_is_refused(run, finished):
    for rule in ("psnr_kept", "psnr_kept = 3", "< 3", "psnr_kept < much"):
        assert run("pack", finished["id"], "--drop", rule).exit_code == 2
    refused = run("pack", finished["id"], "--drop", "beauty < 3")
    assert refused.exit_code == 4
    assert "there is no measure 'beauty'" in refused.output


def test_a_report_is_saved_as_a_page_or_as_a_paragraph(run, finished, tmp_path):
    page, text = tmp_path / "report.html", tmp_path / "methods.md"
    assert run("report", finished["id"], "-o", page).exit_code == 0
    assert run("report", finished["id"], "-o", text).exit_code == 0
    assert page.read_text().startswith("<!doctype html>")
    assert text.read_text().startswith("# Methods")
    assert run("report", finished["id"], "-o", tmp_path / "report.pdf").exit_code == 2
