"""Items over HTTP."""

from io import BytesIO

import numpy as np
from PIL import Image as Picture
from service import BOX, HEIGHT, MISSING, WIDTH, Service, png

from shared.models import Item
from shared.plan import Labels, keep_mask
from shared.spec import ResolvedSpec
from shared.storage import sha256

PICTURES = ("/image", "/mask", "/preview", "/pair", "/difference")


def test_items_tell_what_became_of_them(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(3), variants=1)['id']}/items"
    service.do(1)
    service.fail(1)
    done, failed, pending = service.get(path)["items"]
    assert (done["state"], done["step"], done["steps"], done["seconds"]) == ("done", 60, 60, 2.0)
    assert done["sha256"] == sha256(png(done["id"]))
    assert done["measures"] == {"hidden": 0.5}
    assert (failed["state"], failed["attempts"]) == ("failed", 1)
    assert failed["error"] == {"type": "bad_image", "detail": "It is cut off."}
    assert (pending["state"], pending["variant"], pending["split"], pending["error"]) == ("pending", 1, "train", None)
    assert {item["path"] for item in (done, failed, pending)} == {f"images/train/{n:03}.png" for n in range(3)}
    assert service.get(f"{path}?state=failed")["items"] == [failed]
    assert service.get(f"{path}/{done['id']}") == done


def test_a_new_image_is_there_once_it_is_made(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(1), variants=1)['id']}/items"
    item = service.get(path)["items"][0]["id"]
    assert "it is pending" in service.get(f"{path}/{item}/image", 409)["detail"]
    service.do(1)
    answer = service.client.get(f"{path}/{item}/image")
    assert (answer.content, answer.headers["content-type"]) == (png(item), "image/png")
    again = service.client.get(f"{path}/{item}/image", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_the_mask_that_is_shown_is_the_one_the_worker_uses(service: Service) -> None:
    job = service.job(service.ready(2), variants=2, canvas={"long_side": 128})
    path = f"/v1/jobs/{job['id']}/items"
    shown = []
    for item in service.get(path)["items"]:
        answer = service.client.get(f"{path}/{item['id']}/mask")
        assert answer.headers["content-type"] == "image/png"
        mask = np.asarray(Picture.open(BytesIO(answer.content)))
        assert mask.shape == (HEIGHT, WIDTH)
        keep, p = keep_mask(ResolvedSpec.model_validate(job["resolved"]), Labels([BOX]), WIDTH, HEIGHT, item["seed"])
        picture = keep[p.top : p.top + p.height, p.left : p.left + p.width]
        # The canvas has half the source's size: each of its pixels is four of the source's.
        np.testing.assert_array_equal(mask, np.kron(picture, np.full((2, 2), 255)))
        assert p.top > 0
        assert (mask[38:75, 64:128] == 255).all()
        assert (mask == 0).any()
        shown.append(mask.tobytes())
    assert len(set(shown)) == 4


def pixels(service: Service, path: str) -> np.ndarray:
    answer = service.client.get(path)
    assert answer.status_code == 200, answer.text
    return np.asarray(Picture.open(BytesIO(answer.content)))


def done(service: Service) -> tuple[str, int, np.ndarray, np.ndarray]:
    """The path of an item that is done, its number, its source and its image."""
    path = f"/v1/jobs/{service.job(service.ready(1), variants=1)['id']}/items"
    service.do(1)
    item = service.get(path)["items"][0]["id"]
    old, new = (np.asarray(Picture.open(BytesIO(png(seed)))).astype(int) for seed in (0, item))
    return f"{path}/{item}", item, old, new


def test_the_difference_is_black_where_nothing_changed_and_amplified_where_something_did(service: Service) -> None:
    path, _, old, new = done(service)
    np.testing.assert_array_equal(pixels(service, f"{path}/difference"), np.clip(np.abs(new - old) * 4, 0, 255))
    np.testing.assert_array_equal(pixels(service, f"{path}/difference?factor=1"), np.abs(new - old))
    assert (np.abs(new - old) == 0).any()
    assert pixels(service, f"{path}/difference?size=64").shape == (38, 64)


def test_a_pair_shows_the_source_on_the_left_and_the_new_image_on_the_right(service: Service) -> None:
    path, _, old, new = done(service)
    shown = pixels(service, f"{path}/pair?size=1024").astype(int)
    assert shown.shape == (HEIGHT, 2 * WIDTH + 4, 3)
    for side, true, other in ((shown[:, :WIDTH], old, new), (shown[:, -WIDTH:], new, old)):
        assert np.abs(side.mean(axis=2) - true).mean() < 15 < np.abs(side.mean(axis=2) - other).mean()
    alone = pixels(service, f"{path}/preview?size=1024").astype(int)
    assert np.abs(alone.mean(axis=2) - new).mean() < 15
    assert pixels(service, f"{path}/preview?size=64").shape == (38, 64, 3)
    boxed = pixels(service, f"{path}/preview?size=1024&boxes=1").astype(int)
    coloured = boxed.max(axis=2) - boxed.min(axis=2) > 60
    assert coloured[36:39, 64:128].any(axis=0).all(), "the upper edge of the box"
    assert not coloured[:34].any()


def test_a_picture_of_an_item_is_asked_for_again_but_sent_only_if_it_changed(service: Service) -> None:
    path, item, _, _ = done(service)
    tags = {}
    for what in PICTURES:
        answer = service.client.get(path + what)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")
        tags[what] = answer.headers["etag"]
        again = service.client.get(path + what, headers={"If-None-Match": tags[what]})
        assert (again.status_code, again.content) == (304, b"")
        other = "?factor=2" if what == "/difference" else "?size=100" if what in ("/pair", "/preview") else ""
        if other:
            assert service.client.get(path + what + other).headers["etag"] != tags[what]
    assert len(set(tags.values())) == len(PICTURES)
    with service.sessions.write() as session:
        session.get_one(Item, item).result_sha256 = "0" * 64
    for what in PICTURES:
        changed = service.client.get(path + what, headers={"If-None-Match": tags[what]})
        assert changed.status_code == (304 if what == "/mask" else 200), what


def test_an_item_that_is_not_made_has_no_pictures_but_its_mask(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(1), variants=1)['id']}/items"
    item = service.get(path)["items"][0]["id"]
    for what in PICTURES:
        status = 200 if what == "/mask" else 409
        assert service.client.get(f"{path}/{item}{what}").status_code == status
    for wrong in ("/preview?size=1", "/pair?size=9999", "/difference?factor=0", "/difference?size=3"):
        service.get(f"{path}/{item}{wrong}", 422)


def test_an_operator_that_hides_no_pixels_has_no_mask_and_says_so(service: Service) -> None:
    job = service.job(service.ready(1), variants=1, operator={"kind": "gaussian_blur"})
    path = f"/v1/jobs/{job['id']}/items"
    item = service.get(path)["items"][0]["id"]
    answer = service.get(f"{path}/{item}/mask", 409)
    assert answer["type"].endswith("conflict")
    assert "gaussian_blur hides no pixels" in answer["detail"]


def test_an_item_of_another_job_is_not_found(service: Service) -> None:
    dataset_id = service.ready(1)
    mine, other = (service.job(dataset_id, variants=1)["id"] for _ in range(2))
    item = service.get(f"/v1/jobs/{mine}/items")["items"][0]["id"]
    for job_id in (other, MISSING):
        for what in ("", *PICTURES):
            service.get(f"/v1/jobs/{job_id}/items/{item}{what}", 404)
    service.get(f"/v1/jobs/{mine}/items/{item + 100}", 404)
    service.get(f"/v1/jobs/{mine}/items/first", 422)
