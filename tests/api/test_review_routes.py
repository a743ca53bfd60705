"""Verdicts, blinded reviews and filters over HTTP."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from service import HEIGHT, MISSING, WIDTH, Service, on_both_databases, png
from sqlalchemy import select, update

from shared.models import Archive, Image, Item, Review, Verdict
from shared.queue import Task


def over(service: Service, images: int = 3, variants: int = 2) -> tuple[str, list[int]]:
    """The path of a job all of whose images are made, with the psnr 10, 20, ... , and its items."""
    path = f"/v1/jobs/{service.job(service.ready(images), variants=variants, reuse=False)['id']}"
    service.do(images * variants)
    items = [item["id"] for item in service.get(f"{path}/items")["items"]]
    with service.sessions.write() as session:
        for number, item in enumerate(items):
            session.execute(update(Item).where(Item.id == item).values(measures={"psnr_kept": 10.0 * (number + 1)}))
    return path, items


def judge(service: Service, path: str, status: int = 200, **verdicts: Any) -> Any:
    """`_12="reject"` judges the item 12."""
    body = [{"item": int(item[1:]), "verdict": verdict} for item, verdict in verdicts.items()]
    return post(service, f"{path}/verdicts", body, status)


def post(service: Service, path: str, body: Any, status: int = 200) -> Any:
    answer = service.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@on_both_databases
def test_verdicts_are_kept_apart_from_states_with_who_and_when_and_can_be_taken_back(service: Service) -> None:
    path, items = over(service)
    body = [
        {"item": items[0], "verdict": "reject", "reason": "a step at the wrist"},
        {"item": items[1], "verdict": "accept"},
    ]
    tally = post(service, f"{path}/verdicts", body)
    assert tally == {"accepted": 1, "rejected": 1, "undecided": 4}
    first, second, third = service.get(f"{path}/items")["items"][:3]
    assert (first["state"], second["state"], third["verdict"]) == ("done", "done", None)
    at = first["verdict"].pop("at")
    assert at.startswith("20")
    assert first["verdict"] == {"verdict": "reject", "reason": "a step at the wrist", "by": "local"}
    assert service.get(f"{path}/items/{items[0]}")["verdict"]["at"] == at

    assert post(service, f"{path}/verdicts", body) == tally
    assert service.get(f"{path}/items/{items[0]}")["verdict"]["at"] == at, "said again, nothing changes"
    assert judge(service, path, **{f"_{items[0]}": "accept"})["accepted"] == 2
    assert judge(service, path, **{f"_{items[0]}": None}) == {"accepted": 1, "rejected": 0, "undecided": 5}
    assert service.get(f"{path}/items/{items[0]}")["verdict"] is None
    assert service.get(f"{path}/verdicts") == {"accepted": 1, "rejected": 0, "undecided": 5}


def test_items_are_listed_by_their_verdict(service: Service) -> None:
    path, items = over(service)
    judge(service, path, **{f"_{items[0]}": "reject", f"_{items[1]}": "accept"})
    found = {
        verdict: [item["id"] for item in service.get(f"{path}/items?verdict={verdict}")["items"]]
        for verdict in ("reject", "accept", "none")
    }
    assert found == {"reject": items[:1], "accept": items[1:2], "none": items[2:]}
    service.get(f"{path}/items?verdict=perhaps", 422)


def test_an_image_that_is_made_again_otherwise_has_no_verdict(service: Service) -> None:
    path, items = over(service)
    judge(service, path, **{f"_{items[0]}": "reject"})
    with service.sessions.write() as session:
        session.execute(update(Item).where(Item.id == items[0]).values(result_sha256="0" * 64))
    assert service.get(f"{path}/items/{items[0]}")["verdict"] is None
    assert service.get(f"{path}/verdicts")["rejected"] == 0
    assert judge(service, path, **{f"_{items[0]}": "reject"})["rejected"] == 1


def test_verdicts_are_all_noted_or_none(service: Service) -> None:
    path, items = over(service)
    _, others = over(service)
    for wrong in ({f"_{items[0]}": "reject", f"_{others[0]}": "reject"}, {f"_{10**9}": "accept"}):
        assert "has no item" in judge(service, path, 404, **wrong)["detail"]
    twice = [{"item": items[0], "verdict": verdict} for verdict in ("accept", "reject")]
    assert "twice" in post(service, f"{path}/verdicts", twice, 422)["detail"]
    for body in ([], [{"item": items[0]}], [{"item": items[0], "verdict": "maybe"}], [{"item": -1, "verdict": None}]):
        post(service, f"{path}/verdicts", body, 422)
    post(service, f"{path}/verdicts", [{"item": items[0], "verdict": "accept", "reason": "x" * 501}], 422)
    post(service, f"/v1/jobs/{MISSING}/verdicts", twice[:1], 404)
    assert service.get(f"{path}/verdicts")["undecided"] == 6
    pending = f"/v1/jobs/{service.job(service.ready(1), variants=1, reuse=False)['id']}"
    item = service.get(f"{pending}/items")["items"][0]["id"]
    assert "it is pending" in judge(service, pending, 409, **{f"_{item}": "accept"})["detail"]


@on_both_databases
def test_filters_tell_what_they_would_drop_by_class(service: Service) -> None:
    path, items = over(service)
    with service.sessions.write() as session:
        image = session.get_one(Item, items[-1]).image_id
        session.execute(update(Image).where(Image.id == image).values(boxes=[]))
    judge(service, path, **{f"_{items[0]}": "reject"})
    wanted = {"filters": [{"measure": "psnr_kept", "min": 25}, {"measure": "seconds", "max": 1.5}]}
    seen = post(service, f"{path}/filters/preview", {"filters": wanted["filters"][:1]})
    # 10 (rejected), 20 of an image with a label; 30, 40; 50, 60 of one without.
    assert {name: seen[name] for name in ("total", "rejected", "dropped", "kept")} == {
        "total": 6,
        "rejected": 1,
        "dropped": 1,
        "kept": 4,
    }
    assert seen["by_class"] == [
        {"class_name": "fracture", "images": 4, "dropped": 1},
        {"class_name": "", "images": 2, "dropped": 0},
    ]
    both = post(service, f"{path}/filters/preview", wanted)
    assert [each["dropped"] for each in both["by_filter"]] == [1, 5]
    assert (both["dropped"], both["kept"]) == (5, 0)
    # An image without the measure stays.
    without = post(service, f"{path}/filters/preview", {"filters": [{"measure": "box_tell", "max": 0}]})
    assert (without["dropped"], without["kept"]) == (0, 5)


def test_measures_tell_how_they_are_spread(service: Service) -> None:
    path, _ = over(service)
    spreads = {spread["name"]: spread for spread in service.get(f"{path}/measures")["items"]}
    assert set(spreads) == {"psnr_kept", "seconds"}
    psnr = spreads["psnr_kept"]
    assert (psnr["lowest"], psnr["median"], psnr["highest"], psnr["count"], psnr["unit"]) == (10, 35, 60, 6, "dB")
    assert (len(psnr["bins"]), sum(psnr["bins"]), psnr["bins"][0], psnr["bins"][-1]) == (24, 6, 1, 1)
    assert (spreads["seconds"]["bins"][0], sum(spreads["seconds"]["bins"])) == (6, 6)
    empty = f"/v1/jobs/{service.job(service.ready(1), variants=1, reuse=False)['id']}"
    assert service.get(f"{empty}/measures") == {"items": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {"measure": "psnr_kept"},
        {"measure": "beauty", "min": 1},
        {"measure": "psnr_kept", "min": 3, "max": 2},
        {"measure": "psnr_kept", "min": 3, "colour": "red"},
    ],
)
def test_a_filter_that_means_nothing_is_refused(service: Service, wrong: dict[str, Any]) -> None:
    path, _ = over(service, images=1)
    post(service, f"{path}/filters/preview", {"filters": [wrong]}, 422)
    post(service, f"{path}/archive", {"filters": [wrong]}, 422)


@on_both_databases
def test_the_next_archive_is_a_revision_of_its_own(service: Service) -> None:
    path, items = over(service)
    service.pack(b"first")
    archive = service.get(path)["archive"]
    assert (archive["revision"], archive["filters"], archive["outdated"]) == (1, [], False)
    first = service.client.get(f"{path}/archive").headers["etag"]

    again = post(service, f"{path}/archive", {"filters": []}, 202)
    assert (again["revision"], again["state"]) == (1, "ready"), "it is just that already"
    judge(service, path, **{f"_{items[0]}": "reject"})
    assert service.get(path)["archive"]["outdated"]
    service.hints.clear()
    ordered = post(service, f"{path}/archive", {"filters": []}, 202)
    assert (ordered["revision"], ordered["state"], ordered["outdated"]) == (2, "building", False)
    assert service.hints == [Task.ARCHIVE]
    service.pack(b"second")
    assert service.client.get(f"{path}/archive").headers["etag"] != first
    filters = [{"measure": "psnr_kept", "min": 25.0, "max": None}]
    assert post(service, f"{path}/archive", {"filters": filters}, 202)["revision"] == 3
    assert service.get(path)["archive"]["filters"] == filters
    service.pack(b"third")
    assert post(service, f"{path}/archive", {"filters": filters}, 202)["revision"] == 3
    # Whoever tries the job again gets an archive with a number of its own, too.
    judge(service, path, **{f"_{items[0]}": None})
    assert post(service, f"{path}/archive", {"filters": []}, 202)["revision"] == 4


def test_an_archive_that_would_hold_no_image_or_that_is_not_due_is_refused(service: Service) -> None:
    path, _ = over(service, images=1)
    service.pack(b"zip")
    none_left = {"filters": [{"measure": "psnr_kept", "max": 1}]}
    assert "None of the 2 images" in post(service, f"{path}/archive", none_left, 422)["detail"]
    running = f"/v1/jobs/{service.job(service.ready(2), variants=1, reuse=False)['id']}"
    assert "not over" in post(service, f"{running}/archive", {"filters": []}, 409)["detail"]
    post(service, f"/v1/jobs/{MISSING}/archive", {"filters": []}, 404)
    with service.sessions.read() as session:
        assert session.get_one(Archive, path.rpartition("/")[2]).key is not None


def begun(service: Service, path: str, **wanted: int) -> dict[str, Any]:
    review: dict[str, Any] = post(service, f"{path}/reviews", wanted, 201)
    return review


def kinds(service: Service, path: str, review: dict[str, Any], images: int, items: list[int]) -> dict[str, str]:
    """What each card really shows, found out by its pixels."""
    known = {("real", seed): png(seed) for seed in range(images)} | {("regrown", item): png(item) for item in items}
    arrays = {name: np.asarray(Picture.open(BytesIO(data))).astype(int) for name, data in known.items()}
    found = {}
    for card in review["cards"]:
        answer = service.client.get(f"{path}/reviews/{review['id']}/cards/{card['id']}/picture?size=512")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert "etag" not in answer.headers
        shown = np.asarray(Picture.open(BytesIO(answer.content)).convert("L")).astype(int)
        assert shown.shape == (HEIGHT, WIDTH)
        nearest = min(arrays, key=lambda name: int(np.abs(arrays[name] - shown).sum()))
        found[card["id"]] = nearest[0]
    return found


def test_a_blinded_review_shows_both_kinds_and_tells_the_truth_only_at_its_end(service: Service) -> None:
    path, _ = over(service, images=8, variants=1)
    review = begun(service, path, count=6, seed=3)
    assert len(review["cards"]) == 6
    assert all(card["truth"] is None and card["answer"] is None for card in review["cards"])
    here = f"{path}/reviews/{review['id']}"
    first, *rest = review["cards"]
    told = post(service, f"{here}/answers", [{"card": first["id"], "answer": "regrown"}])
    assert (told["score"], told["finished_at"]) == (None, None)
    assert {card["truth"] for card in told["cards"]} == {None}
    told = post(service, f"{here}/answers", [{"card": first["id"], "answer": "real"}])
    assert begun(service, path, count=6, seed=3)["id"] == review["id"], "it goes on"
    told = post(service, f"{here}/answers", [{"card": card["id"], "answer": "real"} for card in rest])
    score = told["score"]
    assert {card["truth"] for card in told["cards"]} == {"real", "regrown"}
    real = sum(card["truth"] == "real" for card in told["cards"])
    assert score == {
        "right": real,
        "cards": 6,
        "real": real,
        "real_known": real,
        "regrown": 6 - real,
        "regrown_known": 0,
    }
    assert service.get(here) == told
    assert service.get(f"{path}/reviews")["items"] == [told]
    post(service, f"{here}/answers", [{"card": first["id"], "answer": "real"}])
    assert "truth" in post(service, f"{here}/answers", [{"card": first["id"], "answer": "regrown"}], 409)["detail"]
    assert begun(service, path, count=6, seed=3)["id"] != review["id"]


def test_the_cards_show_what_they_are_said_to_show(service: Service) -> None:
    over(service, images=6, variants=1)
    # Originals are drawn from seeds 0 .. 5, new images from their items' numbers, which are greater by now.
    path, items = over(service, images=6, variants=1)
    assert min(items) > 5
    review = begun(service, path, count=6, seed=1)
    shown = kinds(service, path, review, images=6, items=items)
    here = f"{path}/reviews/{review['id']}"
    told = post(service, f"{here}/answers", [{"card": card["id"], "answer": "real"} for card in review["cards"]])
    truth = {card["id"]: card["truth"] for card in told["cards"]}
    assert shown == truth
    other = begun(service, path, count=6, seed=2)
    assert not {card["id"] for card in other["cards"]} & set(truth)


def test_what_a_review_cannot_be_is_said(service: Service) -> None:
    path, _ = over(service, images=1)
    assert "needs 2" in post(service, f"{path}/reviews", {}, 409)["detail"]
    path, _ = over(service, images=2)
    review = begun(service, path, count=50)
    assert len(review["cards"]) == 2
    here = f"{path}/reviews/{review['id']}"
    post(service, f"{here}/answers", [{"card": "0" * 16, "answer": "real"}], 404)
    post(service, f"{here}/answers", [{"card": review["cards"][0]["id"], "answer": "perhaps"}], 422)
    service.get(f"{here}/cards/{'0' * 16}/picture", 404)
    service.get(f"{path}/reviews/{MISSING}", 404)
    service.get(f"/v1/jobs/{MISSING}/reviews", 404)
    post(service, f"{path}/reviews", {"count": 1}, 422)


def test_the_report_of_a_job_comes_with_a_policy_that_lets_it_load_nothing_and_its_methods_as_text(
    service: Service,
) -> None:
    path, items = over(service)
    judge(service, path, **{f"_{items[0]}": "reject"})
    answer = service.client.get(f"{path}/report")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "sandbox" in policy
    assert "rejected: no reason given" in answer.text
    assert answer.text.count("<figure>") > 0
    methods = service.client.get(f"{path}/methods")
    assert methods.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "of which 5 are used" in methods.text
    for what in ("report", "methods"):
        service.get(f"/v1/jobs/{MISSING}/{what}", 404)


@on_both_databases
def test_what_is_judged_and_reviewed_goes_with_its_job(service: Service) -> None:
    path, items = over(service)
    judge(service, path, **{f"_{items[0]}": "reject"})
    begun(service, path, count=3)
    assert service.client.delete(path).status_code == 204
    with service.sessions.read() as session:
        assert list(session.scalars(select(Verdict))) == list(session.scalars(select(Review))) == []
