"""Text files that list images a line each: a variant is listed wherever its source is."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from shared.formats.faults import Faults
from shared.formats.samples import Entry

Find = Callable[[str], str | None]
"""The path of the original that a line names, if it names one."""

LineFor = Callable[[str, str], str]
"""The line of a variant, from its source's line and its own path."""


def decoded(data: bytes, where: str, faults: Faults) -> str:
    """The text of a list; "" and a fault if it is none. A byte order mark stays, so that the list comes back whole."""
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        faults.add(where, f"is not UTF-8 text (byte {e.start})")
        return ""


def lines(text: str) -> list[str]:
    """Those that are not empty, without what surrounds them."""
    return [line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()]


def pack(texts: Mapping[str, str]) -> bytes:
    """Lists by their paths, as a `header`."""
    return json.dumps(texts).encode()


def unpack(header: bytes | None) -> dict[str, str]:
    texts: dict[str, str] = json.loads(header or b"{}")
    return texts


def without(text: str, named: Callable[[str], bool]) -> str:
    """A list without the lines, given to `named` without what surrounds them, for which that is true."""
    mark, body = text[: text.startswith("\ufeff")], text.removeprefix("\ufeff")
    kept = (line for line in body.splitlines(keepends=True) if not line.strip() or not named(line.strip()))
    return mark + "".join(kept)


def files(
    texts: Mapping[str, str], entries: Sequence[Entry], find: Find, line_for: LineFor, *, whole: bool
) -> Iterator[tuple[str, bytes]]:
    """The lists, with a line for each variant at their ends.

    Without `whole` only the images among `entries` stay in them.
    """
    variants: dict[str, list[str]] = {}
    for entry in entries:
        if entry.is_variant:
            variants.setdefault(entry.source, []).append(entry.image)
    originals = {entry.image for entry in entries if not entry.is_variant}
    for name, text in texts.items():
        end = "\r\n" if "\r\n" in text else "\n"
        listed = [(line, find(line)) for line in lines(text)]
        added = [line_for(line, image) for line, source in listed if source for image in variants.get(source, ())]
        if whole:
            joint = "" if not text or text.endswith("\n") or not added else end
            yield name, (text + joint + "".join(line + end for line in added)).encode()
        elif kept := [line for line, source in listed if source in originals] + added:
            yield name, "".join(line + end for line in kept).encode()
