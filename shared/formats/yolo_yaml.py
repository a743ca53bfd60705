"""data.yaml: what an upload says about itself, and what a result says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from shared.formats.faults import Faults, fit, shown
from shared.formats.places import ROLES, role
from shared.formats.yolo_labels import MAX_CLASSES

YAML_BYTES = 256 * 2**10
"""Largest data.yaml that is read; 10,000 class names fit."""

# What a trainer must know and the folders do not say. An allow-list: `download`, for one, is a script that is run.
CARRIED = ("kpt_shape", "flip_idx", "kpt_names", "channels")

ORIGINALS_LIST = "train.originals.txt"


@dataclass(frozen=True, slots=True)
class Description:
    """A data.yaml: class names (None if it has none), numbers a line's key points take (0: no pose set), and the
    folders or lists of images it gives for train, val and test, as they are written."""

    names: tuple[str, ...] | None = None
    keypoint_numbers: int = 0
    root: str = ""
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Refuses aliases: nested ones, and merges of them, unfold to any size."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # no annotation in types-PyYAML
            raise yaml.composer.ComposerError(None, None, "references (*name) are not read here", mark)
        return super().compose_node(parent, index)


def parse(data: bytes, where: str, faults: Faults) -> Description:
    """Read a data.yaml. Faults are added to `faults` under `where`, with the line if it is no valid, plain YAML."""
    values = _load(data, where, faults)
    if not isinstance(values, dict):
        if values is not None:
            faults.add(where, "is not a list of keys and values")
        return Description()
    root = values.get("path")
    return Description(
        names=_names(values, where, faults),
        keypoint_numbers=_keypoint_numbers(values.get("kpt_shape"), where, faults),
        root=root if isinstance(root, str) else "",
        folders={
            key: tuple(str(entry) for entry in (entries if isinstance(entries, list) else [entries]))
            for key in ROLES
            if (entries := values.get(key))
        },
    )


def _load(data: bytes, where: str, faults: Faults) -> object:
    """The parsed document, None if it cannot be read or is empty."""
    try:
        document: object = yaml.load(data, _Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as e:
        line = f":{e.problem_mark.line + 1}" if e.problem_mark else ""
        faults.add(where + line, shown(e.problem or e.context or "is no valid YAML"))
        return None
    except RecursionError:
        faults.add(where, "is nested too deeply")
        return None
    except (yaml.YAMLError, ValueError) as e:
        faults.add(where, f"is no valid YAML ({shown(str(e))})")
        return None
    if document is None:
        faults.add(where, "is empty")
    return document


def _names(values: Mapping[str, Any], where: str, faults: Faults) -> tuple[str, ...] | None:
    names, count = values.get("names"), values.get("nc")
    if names is None and isinstance(count, int) and 0 < count <= MAX_CLASSES:
        return unnamed(count)
    if names is None:
        return None
    if isinstance(names, dict):
        if sorted(str(key) for key in names) != sorted(str(index) for index in range(len(names))):
            faults.add(where, f"names: the keys are not 0 to {len(names) - 1}")
            return None
        by_index = {str(key): value for key, value in names.items()}
        names = [by_index[str(index)] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        faults.add(where, "names: is neither a list of names nor names by number")
        return None
    if unfit := next((name for name in map(str, names) if not fit(name)), None):
        faults.add(where, f"names: {shown(unfit)} has a control character or half a letter in it")
        return None
    if count is not None and count != len(names):
        faults.add(where, f"nc is {shown(str(count))}, but there are {len(names)} names")
    return tuple(str(name) for name in names)


def unnamed(count: int) -> tuple[str, ...]:
    """Names for classes that have none: class_0, class_1, ..."""
    return tuple(f"class_{index}" for index in range(count))


def _keypoint_numbers(shape: object, where: str, faults: Faults) -> int:
    """Numbers a line's key points take, 0 without `kpt_shape`."""
    if shape is None:
        return 0
    match shape:
        case [int(points), int(numbers)] if 0 < points <= 1000 and numbers in (2, 3):
            return points * numbers
    faults.add(where, "kpt_shape is not [number of key points, 2 or 3]")
    return 0


def data_yaml(names: Sequence[str], layout: str, splits: Sequence[str], header: bytes | None = None) -> bytes:
    """A data.yaml to lie at the data set's root, which trains as it is from any working directory.

    It has no `path`, so trainers take its folders as relative to itself. `layout` and `splits` are as in Contents,
    `header` is the upload's own data.yaml, from which key points are taken over. Without a split for validation, `val`
    is the training images, since Ultralytics wants one. A split whose name has no role is not mentioned.
    """
    return _dump(_folders(layout, splits), names, header)


def originals_yaml(names: Sequence[str], layout: str, splits: Sequence[str], header: bytes | None = None) -> bytes:
    """As `data_yaml`, but trained on the images that `ORIGINALS_LIST` lists: the baseline, in the same folders."""
    folders = _folders(layout, splits)
    trained = folders.get("train")
    return _dump({key: ORIGINALS_LIST if value == trained else value for key, value in folders.items()}, names, header)


def originals_list(images: Iterable[str]) -> bytes:
    """The text of `ORIGINALS_LIST`, to lie beside data.yaml: paths that Ultralytics reads as relative to the list."""
    return "".join(f"./{image}\n" for image in images).encode()


def _folders(layout: str, splits: Sequence[str]) -> dict[str, str | list[str]]:
    folders: dict[str, str | list[str]] = {}
    for key in ROLES:
        of_role = [layout.replace("{split}", split) for split in splits if role(split) == key]
        if of_role:
            folders[key] = of_role[0] if len(of_role) == 1 else of_role
    if "train" in folders and "val" not in folders:
        folders = {"train": folders["train"], "val": folders["train"], **folders}
    return folders


def _dump(folders: Mapping[str, str | list[str]], names: Sequence[str], header: bytes | None) -> bytes:
    upload = _load(header, "data.yaml", Faults()) if header else None
    carried = {key: upload[key] for key in CARRIED if key in upload} if isinstance(upload, dict) else {}
    values = {**folders, "nc": len(names), "names": list(names), **carried}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, encoding="utf-8", width=1000)
