"""The API where a key is needed, and keys of all kinds."""

from collections.abc import Callable
from dataclasses import dataclass

from application import make_application
from sqlalchemy import update
from starlette.testclient import TestClient

from shared import keys
from shared.db import Sessions, now
from shared.models import ApiKey
from shared.queue import Task
from shared.settings import Settings
from shared.storage import Folder

Make = Callable[..., TestClient]


@dataclass(frozen=True)
class Keyring:
    sessions: Sessions

    def make(self, project: str = "knee", name: str = "anna") -> str:
        with self.sessions.write() as session:
            return keys.create(session, project, name)[1]

    def expired(self) -> str:
        key = self.make()
        self.change(key, expires_at=now() - 1)
        return key

    def revoked(self) -> str:
        key = self.make()
        with self.sessions.write() as session:
            keys.revoke(session, key)
        return key

    def change(self, key: str, **values: object) -> None:
        with self.sessions.write() as session:
            session.execute(update(ApiKey).where(ApiKey.id == key[3:11]).values(**values))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def app_client(
    sessions: Sessions, storage: Folder, hints: list[Task], base_url: str = "http://127.0.0.1:8000", **settings: object
) -> TestClient:
    """The application with such settings, asked at that address."""
    made = Settings.model_validate({"data": storage.root.parent, **settings})
    app = make_application(made, sessions, storage, hints.append, lambda: None, fresh=0.0)
    return TestClient(app, base_url=base_url, raise_server_exceptions=False)
