"""What the pages say is there."""

import re
from pathlib import Path

import pytest

from shared import errors, plan
from shared.formats import FORMATS
from shared.measures import MEASURES
from shared.reading import Reading
from shared.states import Wait

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("worker/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_every_picture_of_a_page_is_shown_and_they_are_small() -> None:
    folder = ROOT / "docs" / "pages"
    shown = set(re.findall(r'(?:src="|\]\()pages/([\w-]+\.webp)', (ROOT / "docs" / "pages.md").read_text()))
    there = {path.name for path in folder.iterdir()}
    assert shown == there
    assert {f"{name.rpartition('-')[0]}-{way}.webp" for name in there for way in ("wide", "narrow", "dark")} == there
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000


def test_every_make_target_the_pages_name_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = {
        name
        for page in PAGES
        for names in re.findall(r"`make ([a-z]+)|^make ([a-z]+)(?: +#.*)?$", page.read_text(), re.M)
        for name in names
    }
    named = found - {""}
    assert named
    assert named <= targets


def test_the_catalogue_of_errors_is_whole() -> None:
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    kinds = (errors.Unauthorized, errors.NotFound, errors.Conflict, errors.TooLarge, errors.Invalid, errors.KeyReused)
    of_uploads = (errors.Gone, errors.Locked, errors.ChecksumMismatch)
    of_limits = (errors.LimitReached, errors.NoSpace)
    assert {kind.slug for kind in (*kinds, *of_uploads, *of_limits)} <= listed


def test_every_error_type_of_an_item_is_explained() -> None:
    explained = set(re.findall(r"^\| `([a-z_-]+)` \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    source = "".join((ROOT / f"worker/{name}.py").read_text() for name in ("blame", "expand", "settle"))
    given = set(re.findall(r'(?:Refused|fail)\(\s*"([a-z_]+)"', source))
    given |= set(re.findall(r'"((?:gpu_)?out_of_memory)"', source))
    assert given >= {"numerical_fault", "storage", "unexpected", "gpu_out_of_memory"}
    assert given | set(plan.USELESS) | {"worker_lost", errors.BadImage.slug, errors.Invalid.slug} <= explained


def test_what_can_be_said_of_an_upload_and_each_format_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "formats.md").read_text()))
    assert set(FORMATS) | set(Reading.model_fields) <= explained


def test_every_measure_is_explained() -> None:
    explained = set(re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs" / "method.md").read_text(), re.MULTILINE))
    assert set(MEASURES) <= explained


def test_every_reason_to_wait_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "api.md").read_text()))
    assert set(Wait) <= explained
