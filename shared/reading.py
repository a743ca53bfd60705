"""How its owner wants an upload to be read."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shared.strict import Strict

MAX_PATTERN = 200
ID = "^[0-9a-f]{32}$"


def _with_one_group(pattern: str) -> str:
    try:
        found = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if found != 1:
        raise ValueError(f"has {found} groups in parentheses and needs one, which is the patient or scene")
    return pattern


Kind = Literal["yolo", "coco", "voc", "darknet"]


class Reading(Strict):
    """What is not to be found out from the archive."""

    format: Kind | None = Field(None, description="The format; left out: found out.")
    labels: Literal["required", "none"] = Field(
        "required", description="`none`: the set may have no label at all, which is an error otherwise."
    )
    on_bad_image: Literal["reject", "skip"] = Field(
        "reject", description="`skip`: a set is taken without the images that cannot be used, and they are reported."
    )
    group_pattern: Annotated[str, AfterValidator(_with_one_group)] | None = Field(
        None,
        max_length=MAX_PATTERN,
        description="A regular expression with one group, which finds in an image's path the patient or scene it is "
        "of: what its images have in common. It is searched for anywhere in the path.",
    )
    parent: str | None = Field(
        None,
        pattern=ID,
        description="The id of an earlier dataset of yours that this one grew from: its `report` says what was added, "
        "removed and relabelled.",
    )
