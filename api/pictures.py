"""Pictures that are drawn for an answer."""

from io import BytesIO

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from PIL import Image

_HIDDEN = (62, 92, 148)
_COVER = 0.75


def png(picture: Image.Image) -> Response:
    """The picture as a PNG; packed fast, since it is looked at once."""
    out = BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return Response(out.getvalue(), media_type="image/png")


def jpeg(picture: bytes) -> Response:
    """A picture that was drawn as a JPEG."""
    return Response(picture, media_type="image/jpeg")


def veiled(picture: Image.Image, keep: NDArray[np.bool_]) -> Image.Image:
    """An RGB `picture` with a veil over what `keep` (height, width) hides."""
    veil = Image.blend(picture, Image.new("RGB", picture.size, _HIDDEN), _COVER)
    return Image.composite(picture, veil, Image.fromarray(keep))
