"""A folder and a bucket keep the same promises; a bucket that fails says how."""

import errno
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cutter import Cutter, cutter
from live import free_port
from servers import S3, s3_environment

from samples.phantoms import write_dataset
from shared.bucket import Bucket, make_storage
from shared.errors import NotConfigured
from shared.formats.zips import SafeZip
from shared.settings import Settings
from shared.states import Wait
from shared.storage import Folder, Storage, StorageAway

PART = 16 * 2**20


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Storage of either kind."""
    found: Storage = request.getfixturevalue("storage" if request.param == "folder" else "bucket")
    return found


class TestEveryStorage:
    def test_what_was_written_is_read_and_a_second_write_replaces_it(self, store: Storage) -> None:
        assert not store.exists("a/b.bin")
        store.write("a/b.bin", b"one")
        store.write("a/b.bin", b"two")
        assert store.exists("a/b.bin")
        assert store.read("a/b.bin") == b"two"
        store.delete("a/b.bin")
        store.delete("a/b.bin")
        assert not store.exists("a/b.bin")

    def test_what_is_not_there_is_told_from_a_storage_that_is_not(self, store: Storage) -> None:
        store.write("a/b.bin", b"")
        for ask in (store.read, store.open):
            with pytest.raises(FileNotFoundError) as caught:
                ask("a/none.bin")
            assert str(caught.value.filename).endswith("a/none.bin")
        assert store.there()
        assert store.trouble(0) is None

    @pytest.mark.parametrize("size", [0, 5, 2 * PART + 1])
    def test_a_file_of_any_size_is_written_piece_by_piece(self, store: Storage, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        with store.writing("archives/a.zip", "Hände.zip") as file:
            told = sum(file.write(data[start : start + 999_999]) for start in range(0, size, 999_999))
            assert not store.exists("archives/a.zip")
        assert told == size
        assert store.read("archives/a.zip") == data

    def test_a_write_that_breaks_off_leaves_what_was_there(self, store: Storage) -> None:
        store.write("a/b.bin", b"old")

        def interrupted() -> None:
            with store.writing("a/b.bin") as file:
                for _ in range(3):
                    file.write(b"x" * PART)
                store.read("a/gone.bin")

        with pytest.raises(FileNotFoundError, match=r"gone\.bin"):
            interrupted()
        assert store.read("a/b.bin") == b"old"

    @pytest.mark.parametrize("key", ["../a", "a/../../b", "/etc/passwd", ""])
    def test_no_key_leads_out_of_it(self, store: Storage, key: str) -> None:
        for use in (store.read, store.exists, store.delete, store.folder, store.open):
            with pytest.raises(ValueError, match="not a storage key"):
                use(key)
        for write in (store.write, lambda key, _: store.writing(key).__enter__()):
            with pytest.raises(ValueError, match="not a storage key"):
                write(key, b"")

    def test_a_stored_zip_is_read_where_it_lies(self, store: Storage, tmp_path: Path) -> None:
        write_dataset(tmp_path / "phantoms.zip", images=3, seed=1, size=(64, 76))
        store.write("uploads/a.zip", (tmp_path / "phantoms.zip").read_bytes())
        with zipfile.ZipFile(tmp_path / "phantoms.zip") as whole, store.open("uploads/a.zip") as file:
            with SafeZip(file) as archive:
                assert {name: archive.read(name) for name in archive.members} == {
                    name: whole.read(name) for name in whole.namelist()
                }
            assert file.seek(-2, io.SEEK_END) == (tmp_path / "phantoms.zip").stat().st_size - 2
            assert len(file.read(10)) == 2

    def test_what_is_stored_together_is_there_when_the_block_ends_and_only_once(self, store: Storage) -> None:
        store.write("a/0", b"first")
        with store.together() as together:
            for number in range(100):
                together.store(f"{'ab'[number % 2]}/{number}", b"%d" % number)
        assert store.read("a/0") == b"first"
        assert all(store.read(f"{'ab'[n % 2]}/{n}") == b"%d" % n for n in range(1, 100))

    def test_a_folder_goes_with_all_that_lies_in_it_and_nothing_beside_it(self, store: Storage) -> None:
        for key in ("t/1/a", "t/1/state/b", "t/10/a", "x/1"):
            store.write(key, b"")
        store.delete_all(["t/1/", "x/1", "x/none", "none/"])
        assert [key for key in ("t/1/a", "t/1/state/b", "t/10/a", "x/1") if store.exists(key)] == ["t/10/a"]

    def test_an_upload_grows_and_lies_where_workers_look_once_it_is_gathered(self, store: Storage) -> None:
        key = "uploads/a.zip"
        for piece in (b"one ", b"two"):
            with store.growing(key) as file:
                file.seek(0, io.SEEK_END)
                file.write(piece)
        store.gather(key)
        store.drop(key)
        assert store.read(key) == b"one two"
        store.drop_older(0)
        assert store.read(key) == b"one two"

    def test_a_folder_that_was_kept_is_at_hand_again(self, store: Storage) -> None:
        for number in (1, 2):
            with store.at_hand("t/1/state/") as folder:
                folder.mkdir(parents=True, exist_ok=True)
                assert len(list(folder.rglob("*.pt"))) == number - 1
                (folder / "deep").mkdir(exist_ok=True)
                (folder / "deep" / f"{number}.pt").write_bytes(b"x" * number)
                store.keep("t/1/state/")
        with store.at_hand("t/1/state/") as folder:
            assert {path.name: path.stat().st_size for path in folder.rglob("*.pt")} == {"1.pt": 1, "2.pt": 2}


def test_an_upload_that_is_given_up_leaves_the_spool(bucket: Bucket, tmp_path: Path) -> None:
    for key in ("uploads/a.zip", "uploads/b.zip"):
        with bucket.growing(key) as file:
            file.write(b"piece")
    bucket.drop("uploads/a.zip")
    assert [path.name for path in (tmp_path / "spool").rglob("*.zip")] == ["b.zip"]
    bucket.drop_older(3600)
    assert [path.name for path in (tmp_path / "spool").rglob("*.zip")] == ["b.zip"]
    bucket.drop_older(-1)
    assert not list((tmp_path / "spool").rglob("*.zip"))


def test_another_machine_sees_a_folder_once_all_of_it_is_stored(
    bucket: Bucket, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Bucket(s3_url, tmp_path / "other", allow_http=True)
    prior = bucket.folder("priors/1/")
    (prior / "unet").mkdir(parents=True)
    (prior / "unet" / "weights").write_bytes(b"w" * (PART + 3))
    assert not there.folder("priors/1/").is_dir()
    bucket.write("priors/1/unet/weights", b"only half of it")
    assert not there.folder("priors/1/").is_dir()
    bucket.keep("priors/1/")
    assert (there.folder("priors/1/") / "unet" / "weights").read_bytes() == b"w" * (PART + 3)
    there.delete("priors/1/")
    assert not there.folder("priors/1/").is_dir()


def test_a_write_that_breaks_off_leaves_no_parts_behind(bucket: Bucket, s3: S3) -> None:
    name = bucket.url.split("/")[2]

    def interrupted() -> None:
        with bucket.writing("archives/a.zip") as file:
            for _ in range(4):
                file.write(b"x" * PART)
            seen.append(s3.unfinished(name))
            raise RuntimeError("the power went")

    seen: list[int] = []
    with pytest.raises(RuntimeError, match="power"):
        interrupted()
    assert (seen, s3.unfinished(name)) == ([1], 0)
    assert not bucket.exists("archives/a.zip")


def unusable(bucket: Bucket, *said: str, wait: Wait = Wait.STORAGE_AWAY) -> None:
    """Nothing of it can be used, and the error says why, without what only developers read."""
    with pytest.raises(StorageAway) as caught:
        bucket.write("a", b"x")
    with pytest.raises(StorageAway), bucket.writing("a") as file:
        file.write(b"x")
    with pytest.raises(StorageAway), bucket.together() as together:
        together.store("a", b"x")
    told = caught.value.strerror or ""
    assert all(word in told for word in (bucket.url, *said)), told
    assert "\n" not in told
    assert "as-secret" not in told
    assert bucket.trouble(0) == wait
    assert not bucket.there()


def test_a_bucket_that_was_never_made_is_named(s3_url: str, tmp_path: Path) -> None:
    unusable(Bucket("s3://nobody-made-it/x", tmp_path, allow_http=True), "404 Not Found", "NoSuchBucket")


def test_a_bucket_that_nobody_serves_is_away(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    bucket = Bucket(s3_url, tmp_path, allow_http=True)
    unusable(bucket, "error sending request")
    with pytest.raises(StorageAway):
        bucket.read("a")


def test_plain_http_is_refused_unless_it_is_allowed(s3_url: str, tmp_path: Path) -> None:
    unusable(Bucket(s3_url, tmp_path), "REGROW_STORAGE_HTTP=true")


@pytest.fixture
def line(bucket: Bucket, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutter]:
    """To the server, and in the environment."""
    with cutter(s3.port) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


def test_a_line_that_breaks_now_and_then_is_not_noticed(line: Cutter, s3_url: str, tmp_path: Path) -> None:
    bucket = Bucket(s3_url, tmp_path, allow_http=True)
    line.cut_after = [PART // 2, PART // 3]
    with bucket.writing("archives/a.zip") as file:
        for letter in b"abc":
            file.write(bytes([letter]) * PART)
    assert line.cuts == 2
    assert bucket.read("archives/a.zip") == b"a" * PART + b"b" * PART + b"c" * PART


def test_wrong_credentials_are_named_and_told_from_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a server that, unlike the other, asks who is there."""
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "1")
    server = S3()
    server.start()
    try:
        server.make("guarded")
        for variable, value in s3_environment(server.url).items():
            monkeypatch.setenv(variable, value)
        unusable(Bucket("s3://guarded/x", tmp_path, allow_http=True), "403 Forbidden", "InvalidAccessKeyId")
    finally:
        server.end()


def test_a_spool_without_room_is_low_and_not_away(bucket: Bucket) -> None:
    assert bucket.trouble(2**60) == Wait.STORAGE_LOW
    assert bucket.trouble(0) is None


def test_the_settings_choose_and_refuse_what_is_neither(s3_url: str, tmp_path: Path) -> None:
    def chosen(**given: object) -> Storage:
        return make_storage(Settings(data=tmp_path, _env_file=None, **given))

    assert isinstance(chosen(storage=s3_url), Bucket)
    default, elsewhere = chosen(), chosen(storage=str(tmp_path / "share"))
    assert isinstance(default, Folder)
    assert isinstance(elsewhere, Folder)
    assert (default.root, elsewhere.root) == (tmp_path / "storage", tmp_path / "share")
    with pytest.raises(ValueError, match="neither a folder nor a bucket"):
        chosen(storage="ftp://x/y")
    with pytest.raises(NotConfigured, match="REGROW_STORAGE=az://box"):
        chosen(storage="az://box")


class Full(BaseHTTPRequestHandler):
    """A server whose disks are full, as MinIO says it."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>XMinioStorageFull</Code><Message>no room</Message></Error>"
        self.send_response(507)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_bucket_that_is_full_is_low_and_not_away(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        bucket = Bucket(s3_url, tmp_path, allow_http=True)
        with pytest.raises(StorageAway, match=r"507 .*\(XMinioStorageFull\)") as caught:
            bucket.write("a", b"x")
        assert caught.value.errno == errno.ENOSPC
        assert bucket.trouble(0) == Wait.STORAGE_LOW
        server.shutdown()
        thread.join()
