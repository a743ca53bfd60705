"""Keys and the projects they speak for."""

import pytest
from sqlalchemy import select, update

from shared import keys
from shared.db import Sessions, now
from shared.errors import Invalid, NotFound, Unauthorized
from shared.models import ApiKey, SignIn


@pytest.fixture
def key(sessions: Sessions) -> str:
    with sessions.write() as session:
        return keys.create(session, "knee", "anna", 3600.0)[1]


def change(sessions: Sessions, **values: object) -> None:
    with sessions.write() as session:
        session.execute(update(ApiKey).values(**values))


def test_a_key_tells_its_project_and_whose_it_is(sessions: Sessions, key: str) -> None:
    with sessions.read() as session:
        found = keys.holder(session, key)
    assert (found.project, found.name) == ("knee", "anna")
    assert key.startswith(f"rg_{found.key_id}")


def test_a_key_is_kept_nowhere(sessions: Sessions, key: str) -> None:
    with sessions.read() as session:
        row = session.scalars(select(ApiKey)).one()
        kept = [str(getattr(row, column.key)) for column in ApiKey.__table__.columns]
    secret = key.removeprefix(keys.PREFIX + row.id)
    assert len(secret) == 56
    assert not [value for value in kept if secret in value]


@pytest.mark.parametrize("wrong", ["", "rg_", "rg_" + "0" * 64, "anna"])
def test_what_is_no_key_is_refused(sessions: Sessions, key: str, wrong: str) -> None:
    with sessions.read() as session:
        for text in (wrong, key[:-1], key.upper(), key + "0", f" {key}"):
            with pytest.raises(Unauthorized, match="not known"):
                keys.holder(session, text)


def test_an_expired_key_counts_no_more(sessions: Sessions, key: str) -> None:
    with sessions.write() as session:
        token = keys.sign_in(session, keys.holder(session, key))
    change(sessions, expires_at=now() - 1)
    with sessions.read() as session:
        with pytest.raises(Unauthorized, match="of anna has expired"):
            keys.holder(session, key)
        with pytest.raises(Unauthorized, match="of anna has expired"):
            keys.signed_in(session, token)
        assert not keys.any_valid(session)
        assert [keys.state(session, row) for row in keys.listed(session)] == ["expired"]


def test_a_revoked_key_counts_no_more_and_neither_do_its_browsers(sessions: Sessions, key: str) -> None:
    with sessions.write() as session:
        token = keys.sign_in(session, keys.holder(session, key))
        assert keys.signed_in(session, token).name == "anna"
    with sessions.write() as session:
        first = keys.revoke(session, key[3:11]).revoked_at
    with sessions.write() as session:
        assert keys.revoke(session, key[:11]).revoked_at == first
        with pytest.raises(Unauthorized, match="was revoked"):
            keys.holder(session, key)
        with pytest.raises(Unauthorized, match="not signed in"):
            keys.signed_in(session, token)
        assert not keys.any_valid(session)
        assert [keys.state(session, row) for row in keys.listed(session)] == ["revoked"]


def test_a_browser_is_signed_in_until_it_signs_out_or_its_day_is_over(sessions: Sessions, key: str) -> None:
    with sessions.write() as session:
        holder = keys.holder(session, key)
        out, over, stays = (keys.sign_in(session, holder) for _ in range(3))
        assert len({out, over, stays}) == 3
        keys.sign_out(session, out)
        at = session.scalars(select(SignIn).order_by(SignIn.created_at)).all()
        for row in at:
            if row.sha256 == keys._sha256(over):
                row.expires_at = 1.0
    with sessions.read() as session:
        for token in (out, over, "", key):
            with pytest.raises(Unauthorized, match="Sign in"):
                keys.signed_in(session, token)
        assert keys.signed_in(session, stays).project == "knee"
    with sessions.write() as session:
        keys.sign_in(session, holder)
        assert len(session.scalars(select(SignIn)).all()) == 2


def test_use_is_noted_once_a_minute(sessions: Sessions, key: str) -> None:
    def used() -> float | None:
        with sessions.write() as session:
            keys.note_use(session, key[3:11])
        with sessions.read() as session:
            assert not keys.holder(session, key).stale
            return session.scalar(select(ApiKey.used_at))

    with sessions.read() as session:
        assert keys.holder(session, key).stale
    first = used()
    assert used() == first
    change(sessions, used_at=now() - 61)
    with sessions.read() as session:
        assert keys.holder(session, key).stale
        old = session.scalar(select(ApiKey.used_at))
    assert used() > old


def test_keys_of_one_project_are_listed_apart(sessions: Sessions, key: str) -> None:
    with sessions.write() as session:
        keys.create(session, "hand", "anna")
        keys.create(session, "hand", "anna")
    with sessions.read() as session:
        assert [row.project for row in keys.listed(session)] == ["hand", "hand", "knee"]
        assert [row.project for row in keys.listed(session, "knee")] == ["knee"]
        assert keys.any_valid(session)


@pytest.mark.parametrize("project", ["", "Knee", "a b", "../x", "a" * 64, ".a", "knee\n"])
def test_a_project_has_a_plain_name(sessions: Sessions, project: str) -> None:
    with sessions.write() as session, pytest.raises(Invalid, match="no name of a project"):
        keys.create(session, project, "anna")


@pytest.mark.parametrize("name", ["", "a\nb", "a" * 101, "a\0"])
def test_a_key_has_a_printable_name(sessions: Sessions, name: str) -> None:
    with sessions.write() as session, pytest.raises(Invalid, match="needs the name"):
        keys.create(session, "knee", name)


def test_there_is_no_key_of_an_unknown_id(sessions: Sessions) -> None:
    with sessions.write() as session, pytest.raises(NotFound, match="keys list"):
        keys.revoke(session, "00000000")
