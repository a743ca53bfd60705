"""A file that a zip is written to and taken from in parts, whoever they are for: a disk, a hash, a connection."""

import io


class Tray:
    """Takes bytes as a file does. Those since the last `take` are in memory and may be gone back to and changed, as
    zipfile does with a member's header."""

    def __init__(self) -> None:
        self._open = io.BytesIO()
        self._taken = 0

    def write(self, data: bytes) -> int:
        return self._open.write(data)

    def tell(self) -> int:
        return self._taken + self._open.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._taken:
            raise io.UnsupportedOperation("what was taken cannot be changed")
        self._open.seek(offset - self._taken)
        return offset

    def flush(self) -> None:
        """Nothing: bytes leave when they are taken."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = self._open.getvalue()
        self._taken += len(taken)
        self._open = io.BytesIO()
        return taken
