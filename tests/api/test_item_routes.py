"""Items over HTTP."""

from io import BytesIO

import numpy as np
from PIL import Image as Picture
from service import BOX, HEIGHT, MISSING, WIDTH, Service, png

from shared.plan import Labels, keep_mask
from shared.spec import ResolvedSpec
from shared.storage import sha256


def test_items_tell_what_became_of_them(service: Service) -> None:
    path = f"/v1/jobs/{service.job(service.ready(3), variants=1)['id']}/items"
    service.do(1)
    service.fail(1)
    done, failed, pending = service.get(path)["items"]
    assert (done["state"], done["step"], done["steps"], done["seconds"]) == ("done", 40, 40, 2.0)
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
    job = service.job(service.ready(2), variants=2)
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
        for what in ("", "/image", "/mask"):
            service.get(f"/v1/jobs/{job_id}/items/{item}{what}", 404)
    service.get(f"/v1/jobs/{mine}/items/{item + 100}", 404)
    service.get(f"/v1/jobs/{mine}/items/first", 422)
