"""The part of the client that looks at pictures."""

from typing import Any

from regrow.wire import Wire


class Looking:
    """Images of datasets and of jobs, small ones, masks and differences, for `regrow.Client`."""

    _wire: Wire

    def image_file(self, dataset_id: str, image_id: int) -> bytes:
        """An uploaded image, as it came."""
        return self._wire.get(f"/v1/datasets/{dataset_id}/images/{image_id}/file").content

    def image_preview(self, dataset_id: str, image_id: int, *, size: int = 256, boxes: bool = False) -> bytes:
        """A JPEG of an uploaded image, at most `size` pixels long; with `boxes`, what is labelled is drawn on it."""
        return self._wire.get(f"/v1/datasets/{dataset_id}/images/{image_id}/preview?{drawn(size, boxes)}").content

    def preview_mask(self, dataset_id: str, image_id: int, mask: dict[str, Any], **more: Any) -> bytes:
        """A PNG of an image with a veil over what `mask` (as in `operator.mask` of an ExpansionSpec) hides.

        `more` may say `seed`, `variant`, `prior`, `canvas` and `unlabelled`, as the job is to have them, and whether
        the `size` is that of the `canvas` or of the `source`.
        """
        body = {"dataset_id": dataset_id, "image_id": image_id, "mask": mask, **more}
        return self._wire.post_once("/v1/masks/preview", json=body).content

    def item_image(self, job_id: str, item_id: int) -> bytes:
        """A new image, as it will be in the archive."""
        return self._wire.get(f"/v1/jobs/{job_id}/items/{item_id}/image").content

    def item_preview(self, job_id: str, item_id: int, *, size: int = 256, boxes: bool = False) -> bytes:
        """A JPEG of a new image, at most `size` pixels long; with `boxes`, what is labelled is drawn on it."""
        return self._wire.get(f"/v1/jobs/{job_id}/items/{item_id}/preview?{drawn(size, boxes)}").content

    def item_pair(self, job_id: str, item_id: int, *, size: int = 256, boxes: bool = False) -> bytes:
        """A JPEG of the source and, to its right, the new image, each at most `size` pixels long."""
        return self._wire.get(f"/v1/jobs/{job_id}/items/{item_id}/pair?{drawn(size, boxes)}").content

    def item_difference(self, job_id: str, item_id: int, *, factor: float = 4) -> bytes:
        """A PNG of the source image's size: black is unchanged, else the difference, `factor` times as strong."""
        return self._wire.get(f"/v1/jobs/{job_id}/items/{item_id}/difference?factor={factor}").content

    def item_mask(self, job_id: str, item_id: int) -> bytes:
        """A PNG of the source image's size: white was kept, black was regrown."""
        return self._wire.get(f"/v1/jobs/{job_id}/items/{item_id}/mask").content


def drawn(size: int, boxes: bool) -> str:
    """How a picture is asked for."""
    return f"size={size}&boxes={boxes}".lower()
