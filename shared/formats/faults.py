"""Collects everything that is wrong, so that a user mends an upload once and not a fault at a time."""

import unicodedata

from shared.errors import Fault, Invalid

LISTED = 100
"""How many faults an error lists; the others are counted."""

SHOWN_CHARACTERS, SAID_CHARACTERS = 200, 500

UNFIT = ("Cc", "Cs", "Zl", "Zp")
"""Control characters, halves of letters, and the other characters that end a line."""


def shown(name: str) -> str:
    """A name fit for a message: what cannot be printed is escaped, and a very long name is cut."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def fit(name: str) -> bool:
    """Whether a name can be kept and shown: it has no control character, and no half of a letter (a lone surrogate)."""
    return not any(unicodedata.category(c) in UNFIT for c in name)


def some(names: list[str], at_most: int = 5) -> str:
    """`a, b, c, d, e and 7 more`."""
    listed = ", ".join(shown(name) for name in names[:at_most])
    return listed if len(names) <= at_most else f"{listed} and {len(names) - at_most} more"


class Faults:
    """The faults found so far; at most `LISTED` of them are kept, all are counted."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[Fault] = []

    def add(self, where: str, what: str) -> None:
        self.count += 1
        if len(self._kept) < LISTED:
            self._kept.append(
                Fault(shown(where), what if len(what) <= SAID_CHARACTERS else what[:SAID_CHARACTERS] + "...")
            )

    def refuse(self, error: type[Invalid], sentence: str) -> None:
        """Raise `error` if there are faults: `sentence`, the first fault, and how many there are in all."""
        if not self.count:
            return
        detail = f"{sentence} {self._kept[0]}"
        if self.count > 1:
            detail += f" ({self.count} faults in all"
            detail += f", the first {LISTED} are listed)" if self.count > LISTED else ")"
        raise error(detail, self._kept)
