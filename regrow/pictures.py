"""The rows of a contact sheet, fetched from the server."""

import io
from collections.abc import Iterable, Sequence
from itertools import islice

from PIL import Image, ImageOps

from regrow import answers
from regrow.client import Client
from regrow.sheet import Row, Tried


def rows(regrow: Client, job: answers.Job, count: int) -> list[Row]:
    """Up to `count` finished items of a job, of different images as far as there are so many."""
    chosen = _varied(regrow.items(job["id"], state="done"), count)
    wanted = {item["image_id"] for item in chosen}
    images: dict[int, answers.Image] = {}
    for image in regrow.images(job["dataset_id"]):
        if len(images) == len(wanted):
            break
        if image["id"] in wanted:
            images[image["id"]] = image
    return [_row(regrow, job, item, images[item["image_id"]]) for item in chosen]


def tried(regrow: Client, jobs: Sequence[answers.Job]) -> list[Tried]:
    """What several jobs made of the same images, each image that all of them have done."""
    made = [{item["image_id"]: item for item in regrow.items(job["id"], state="done")} for job in jobs]
    found = []
    for image in regrow.images(jobs[0]["dataset_id"]):
        items = [its[image["id"]] for its in made if image["id"] in its]
        if len(items) == len(jobs):
            row = _row(regrow, jobs[0], items[0], image)
            others = [_picture(regrow.item_image(job["id"], item["id"])) for job, item in zip(jobs, items, strict=True)]
            found.append(Tried(row.original, row.mask, others, row.boxes, image["path"]))
    return found


def _varied(items: Iterable[answers.Item], count: int) -> list[answers.Item]:
    """The first item of each of `count` images; where there are fewer images, their other variants too."""
    first: dict[int, answers.Item] = {}
    more: list[answers.Item] = []
    for item in items:
        if len(first) == count:
            break
        if item["image_id"] in first:
            more.append(item)
        else:
            first[item["image_id"]] = item
    chosen = [*first.values(), *islice(more, count - len(first))]
    return sorted(chosen, key=lambda item: item["id"])


def _row(regrow: Client, job: answers.Job, item: answers.Item, image: answers.Image) -> Row:
    original = _picture(regrow.image_file(job["dataset_id"], image["id"]))
    if original.size != (image["width"], image["height"]):
        # Its EXIF says that it is to be turned, and its labels mean the turned one.
        original = ImageOps.exif_transpose(original)
    return Row(
        original=original,
        mask=_mask(regrow, job, item, original.size),
        regrown=_picture(regrow.item_image(job["id"], item["id"])),
        boxes=[(box["x0"], box["y0"], box["x1"], box["y1"]) for box in image["boxes"]],
        title=f"{item['path']}, variant {item['variant']}, seed {item['seed']}",
    )


def _mask(regrow: Client, job: answers.Job, item: answers.Item, size: tuple[int, int]) -> Image.Image:
    """White all over where the job's operator hides no pixels."""
    if job["spec"]["operator"]["kind"] != "inpaint":
        return Image.new("L", size, 255)
    return _picture(regrow.item_mask(job["id"], item["id"]))


def _picture(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture
