"""A file that is hashed on its way to the disk, so that nobody has to read it again."""

import hashlib
import io
from typing import BinaryIO


class Sealed:
    """Takes bytes for `file`, from where that stands. Those since the last `seal` are in memory and may be gone back to
    and changed, as zipfile does with a member's header; `seal` hashes them and passes them on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._open = io.BytesIO()
        self.size = 0
        """Bytes that are sealed."""

    def write(self, data: bytes) -> int:
        return self._open.write(data)

    def tell(self) -> int:
        return self.size + self._open.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self.size:
            raise io.UnsupportedOperation("what is sealed cannot be changed")
        self._open.seek(offset - self.size)
        return offset

    def flush(self) -> None:
        """Nothing: only `seal` passes on."""

    def seal(self) -> None:
        with self._open.getbuffer() as data:
            self._hash.update(data)
            self._file.write(data)
            self.size += len(data)
        self._open = io.BytesIO()

    def sha256(self) -> str:
        """Of all that is sealed, in hexadecimal."""
        return self._hash.hexdigest()
