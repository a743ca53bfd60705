"""What lies in storage beside an image, opened."""

from PIL import Image

from shared import images
from shared.spec import ResolvedSpec
from shared.storage import Storage, source_key


def uploaded_mask(storage: Storage, resolved: ResolvedSpec, mask_sha256: str | None, name: str) -> Image.Image | None:
    """The mask image that came with the image `name`, if the job uses it and there is one.

    Raises BadImage if it cannot be decoded, FileNotFoundError if it is gone.
    """
    if resolved.mask is None or resolved.mask.kind != "uploaded" or mask_sha256 is None:
        return None
    return images.open_image(storage.read(source_key(mask_sha256)), f"the mask of {name}")
