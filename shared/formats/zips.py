"""Reads a zip that a stranger made, and never extracts it.

Everything that can be checked without unpacking is checked on opening, and all that is wrong is reported at once. What
is left to lie about, sizes and contents, is checked while a member is read.
"""

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from shared.errors import BadArchive
from shared.formats.faults import Faults, fit, shown

DIRECTORY_ENTRY = b"PK\x01\x02"
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of the name, length of the extra field

# Only these two decompress in bounded pieces: the standard library inflates bzip2 and LZMA without a maximum length.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1 | 0x40 | 0x2000
PATCHED = 0x20

NAME_LENGTH, FOLDER_LENGTH = 1000, 100
"""In characters, of a whole path and of one folder, which may be a split's name: what the database has room for."""

RATIO_FROM = 2**20
"""Bytes below which the compression ratio is not judged: a few repeated label lines shrink as far as a bomb."""

JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold. `bytes` is the sum and `member_bytes` one member, both after unpacking;
    `text_bytes` one label or text file; `directory_bytes` the archive's own table of contents; `ratio` is unpacked
    over packed size, of one member and of the whole."""

    members: int = 200_000
    bytes: int = 50 * 2**30
    member_bytes: int = 512 * 2**20
    text_bytes: int = 16 * 2**20
    directory_bytes: int = 64 * 2**20
    ratio: int = 200


class SafeZip:
    """A zip, opened for reading members one by one.

    `source` is a path, or a seekable binary file, which stays open and the caller's. Raises BadArchive listing every
    member that is refused and why. Not for use by several threads at once.
    """

    def __init__(self, source: Path | BinaryIO, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        binary = source.open("rb") if isinstance(source, Path) else source
        self._owned = binary if isinstance(source, Path) else None
        file = _File(binary, self.limits)
        try:
            self._zip = _open(file)
            file.opening = False
            _check(self._zip, file, self.limits)
        except BaseException:
            self._close_owned()
            raise
        plain = [info for info in self._zip.infolist() if not _is_folder(info) and not _is_junk(info.filename)]
        self._infos = {info.filename: info for info in plain}
        self.members: tuple[str, ...] = tuple(self._infos)
        """Plain files in the archive's order, without folders and without what operating systems leave behind."""

    def size(self, name: str) -> int:
        """Bytes after unpacking, as the archive says; `read` holds it to that. KeyError if `name` is no member."""
        return self._infos[name].file_size

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The member's bytes. `limit` in bytes, `limits.member_bytes` if None.

        Raises BadArchive, naming the member, if it is larger than `limit`, damaged, or not of the size the archive
        says; KeyError if `name` is no member.
        """
        info = self._infos[name]
        limit = self.limits.member_bytes if limit is None else limit
        if info.file_size > limit:
            raise BadArchive(f"{shown(name)}: has {info.file_size} bytes; at most {limit} are read.")
        try:
            with self._zip.open(info) as member:
                # zipfile neither returns more than it is asked for nor inflates more at a time.
                data = member.read(info.file_size + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
            struct.error,
        ) as e:
            raise BadArchive(
                f"{shown(name)}: is damaged ({shown(str(e)) or 'it ends too early'}). Pack it again."
            ) from e
        if len(data) != info.file_size:
            raise BadArchive(f"{shown(name)}: holds {len(data)} bytes where the archive says {info.file_size}.")
        return data

    def close(self) -> None:
        self._zip.close()
        self._close_owned()

    def _close_owned(self) -> None:
        if self._owned:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _File:
    """The archive's file; while `opening`, it keeps zipfile from making objects of an endless table of contents."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self.opening = True

    def read(self, size: int = -1) -> bytes:
        if self.opening and size > self._limits.directory_bytes:
            raise BadArchive(f"The archive's table of contents has over {self._limits.directory_bytes} bytes.")
        data = self._file.read(size)
        # Each entry begins with this signature, so there are at most as many entries as signatures.
        if self.opening and data.startswith(DIRECTORY_ENTRY) and data.count(DIRECTORY_ENTRY) > self._limits.members:
            raise BadArchive(f"The archive has more than {self._limits.members} members. Upload it in parts.")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _open(file: _File) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as e:
        raise BadArchive(f"This is not a zip, or not a whole one ({shown(str(e))}). Pack and upload it again.") from e


def _check(archive: zipfile.ZipFile, file: _File, limits: Limits) -> None:
    faults = Faults()
    infos = archive.infolist()
    for info in infos:
        name = info.orig_filename  # `filename` is cut at the first NUL
        for what in (_name_fault(name), _kind_fault(info), _size_fault(info, limits)):
            if what:
                faults.add(name, what)
    _check_duplicates(infos, faults)
    _check_overlaps(archive, file, faults)
    total, packed = sum(i.file_size for i in infos), sum(i.compress_size for i in infos)
    if total > limits.bytes:
        faults.add("archive", f"unpacks to {total} bytes; at most {limits.bytes} are accepted")
    if total > RATIO_FROM and total > limits.ratio * packed:
        faults.add("archive", f"unpacks to more than {limits.ratio} times its size")
    faults.refuse(BadArchive, "The archive is refused.")


def _name_fault(name: str) -> str | None:
    parts = re.split(r"[\\/]", name.removesuffix("/"))
    faults = (
        # It could not stand in a list of paths.
        (not fit(name), "has a control character in its name"),
        (".." in parts, "leads out of its folder (..)"),
        (name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name), "has an absolute path"),
        ("\\" in name, "has a backslash in its name; folders are separated by / in a zip"),
        ("" in parts or "." in parts, "has an empty folder name or a single dot in its path"),
        # Windows drops the dot, and Ultralytics reads "./" anywhere in a list of paths as the list's own folder.
        (any(part.endswith(".") for part in parts[:-1]), "lies in a folder whose name ends in a dot"),
        (len(name) > NAME_LENGTH, f"has a name of {len(name)} characters; at most {NAME_LENGTH} are accepted"),
        (
            any(len(part) > FOLDER_LENGTH for part in parts[:-1]),
            f"has a folder name over {FOLDER_LENGTH} characters",
        ),
    )
    return next((what for found, what in faults if found), None)


def _kind_fault(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or another special file"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted; upload the archive without a password"
    if info.compress_type not in COMPRESSIONS or info.flag_bits & PATCHED:
        return f"is compressed by method {info.compress_type}; only stored (0) and deflate (8) are read"
    return None


def _size_fault(info: zipfile.ZipInfo, limits: Limits) -> str | None:
    if info.file_size > limits.member_bytes:
        return f"unpacks to {info.file_size} bytes; at most {limits.member_bytes} are accepted"
    if info.file_size > RATIO_FROM and info.file_size > limits.ratio * info.compress_size:
        return f"unpacks to more than {limits.ratio} times its size"
    return None


def _check_duplicates(infos: list[zipfile.ZipInfo], faults: Faults) -> None:
    """Two names that are one file on some disk: Windows and macOS fold case, macOS also composes accents."""
    seen: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.orig_filename
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).removesuffix("/")
        first = seen.setdefault(folded, info)
        if first is info or (_is_folder(first) and _is_folder(info)):
            continue
        same = "is there twice" if first.orig_filename == name else f"is the same file as {shown(first.orig_filename)}"
        faults.add(name, f"{same} (upper and lower case and the coding of accents do not tell files apart)")


def _check_overlaps(archive: zipfile.ZipFile, file: _File, faults: Faults) -> None:
    """Members that share bytes make a small file unpack to anything (CVE-2024-0450; Python looks only since 3.11.8)."""
    end, last = 0, ""
    for info in sorted(archive.infolist(), key=lambda i: i.header_offset):
        data_begins = _data_offset(file, info) if 0 <= info.header_offset < archive.start_dir else None
        if data_begins is None:
            faults.add(info.orig_filename, "has no readable header")
            continue
        if info.header_offset < end:
            faults.add(info.orig_filename, f"overlaps with {shown(last)}")
        if data_begins + info.compress_size > archive.start_dir:
            faults.add(info.orig_filename, "reaches into the archive's table of contents")
        if data_begins + info.compress_size >= end:
            end, last = data_begins + info.compress_size, info.orig_filename


def _data_offset(file: _File, info: zipfile.ZipInfo) -> int | None:
    """Where the member's data begin; its own header tells, which need not agree with the table of contents."""
    file.seek(info.header_offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        return None
    signature, name_length, extra_length = LOCAL_HEADER.unpack(header)
    if signature != b"PK\x03\x04":
        return None
    return info.header_offset + LOCAL_HEADER.size + int(name_length) + int(extra_length)


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith("/") or stat.S_ISDIR(info.external_attr >> 16)


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    return parts[-1].startswith("._") or any(part in JUNK for part in parts)
