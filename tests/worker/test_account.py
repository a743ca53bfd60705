"""report.html and methods.md: what they say is what was made, and they need nothing else."""

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import expanding
import pytest
from sqlalchemy import update

from shared import accounts, jobs, packing, reviews, verdicts
from shared.filters import Threshold
from shared.measures import MEASURES
from shared.models import Archive, Item, Job
from shared.states import Decision
from shared.verdicts import Opinion
from worker.studio import Studio

MakeJob = Callable[..., Job]


@pytest.fixture
def judged(studio: Studio, make_job: MakeJob) -> str:
    """A job of six images, one of which is rejected and one filtered, and that an expert has looked through."""
    job = make_job(variants=2, name='wrists <b>&"')
    expanding.run(studio)
    first, second, *_ = expanding.items(studio)
    with studio.sessions.write() as session:
        row = session.get_one(Job, job.id)
        verdicts.judge(session, row, "ada", [Opinion(first.id, Decision.REJECT, "a <i>step</i>")])
        session.execute(update(Item).where(Item.id == second.id).values(measures={"psnr_kept": 1.0}))
        review = reviews.begin(session, row, "ada", 3, seed=1)
        reviews.answer(session, review, dict.fromkeys((card["id"] for card in review.cards), "real"))
        jobs.conclude(session)
    with studio.sessions.write() as session:
        assert jobs.pack(session, session.get_one(Job, job.id), [Threshold(measure="psnr_kept", min=2)])
    return job.id


def report(studio: Studio, job_id: str) -> str:
    with studio.sessions.read() as session:
        account = accounts.gather(session, job_id)
    return accounts.page(account, studio.storage)


class Tags(HTMLParser):
    """The tags of a page, each with its attributes, and what is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_report_counts_what_was_made_and_says_what_is_left_out_and_why(studio: Studio, judged: str) -> None:
    page = report(studio, judged)
    tiles = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
    assert tiles == {"originals": "3", "new images": "6", "used": "4", "rejected": "1", "filtered out": "1"}
    assert "100 epochs of the originals = 43 of this set" in page  # 3 of 7
    rows = re.findall(r"<tr><td>([^<]+)</td><td>([^<]+)</td></tr>", page)
    assert rows == [("rejected: a &lt;i&gt;step&lt;/i&gt;", "1"), ("filtered: psnr_kept &lt; 2", "1")]
    assert "revision 2" in page
    assert "told" in page
    assert "of 3 right" in page
    assert "not anonymous" in page
    with studio.sessions.read() as session:
        before, after = next(iter(accounts.gather(session, judged).balance.values())).before, 0
        kept = list(expanding.items(studio))[2:]
        after = before + sum(len(item.image.boxes) for item in kept)
    assert f"{before:,} → {after:,}" in page


def test_the_report_is_whole_and_asks_for_nothing(studio: Studio, judged: str) -> None:
    page = report(studio, judged)
    tags = Tags(page)
    assert tags.open == []
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object", "embed", "form", "a"}
    for _, attributes in tags.found:
        assert not {"style", "href"} & attributes.keys()
        assert not {name for name in attributes if name.startswith("on")}
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    assert "url(" not in page
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in accounts.CONTENT_SECURITY_POLICY
    policies = [a["content"] or "" for tag, a in tags.found if tag == "meta" and "http-equiv" in a]
    assert [policy in accounts.CONTENT_SECURITY_POLICY for policy in policies] == [True]
    assert "wrists &lt;b&gt;&amp;&quot;" in page


def test_pairs_are_ranked_and_show_what_is_kept_only(studio: Studio, judged: str) -> None:
    with studio.sessions.read() as session:
        account = accounts.gather(session, judged)
    left_out = {item.id for item in expanding.items(studio)[:2]}
    assert account.ranked_by == "psnr_kept"
    assert not {each.item_id for each in account.shown} & left_out
    by_rank = {rank: [each.value for each in account.shown if each.rank == rank] for rank in ("best", "worst")}
    assert min(by_rank["best"]) >= max(by_rank["worst"], default=-1)
    page = report(studio, judged)
    assert page.count("<figure>") == len(account.shown) > 0
    for each in account.shown:
        assert f"{each.made.path}, variant {each.variant}: {each.value:.1f} dB" in page
    studio.storage.delete(account.shown[0].made.key)
    assert report(studio, judged).count("<figure>") == len(account.shown) - 1


def test_every_measure_has_a_histogram_of_all_images_that_have_it(studio: Studio, judged: str) -> None:
    page = report(studio, judged)
    sections = re.findall(r'<section class="measure"><h3>([^:<]+):.*?</section>', page)
    assert set(sections) == {MEASURES[name].title for name in MEASURES} - {"PSNR", "PSNR of what was measured"}
    psnr = page.partition("PSNR of kept pixels:")[2].partition("</section>")[0]
    counts = [int(count) for count in re.findall(r"<title>(\d+) near", psnr)]
    assert sum(counts) == 6
    assert 'class="bar out"' in psnr


def test_methods_has_the_numbers_and_what_they_rest_on(studio: Studio, judged: str) -> None:
    with studio.sessions.read() as session:
        account = accounts.gather(session, judged)
    text = accounts.methods(account)
    r = account.resolved
    for said in (
        f"took {r.steps} steps (preset {r.preset}; gamma {r.gamma:g}, omega {r.omega:g}",
        "mu 0, sigma 0.32",
        r.prior_sha256[:16],
        "made 6 new ones, of which 4 are used (1 rejected by a reader, 1 left out by the filters psnr_kept < 2).",
        "43 epochs of it show",
        "@inproceedings{rout2023psld",
        f"canvas of {r.long_side} pixels",
    ):
        assert said in text
    cited = set(re.findall(r"\[([a-z0-9; -]+)\]", text)) - {judged}
    keys = set(re.findall(r"@\w+\{([a-z0-9-]+),", text))
    assert {key for each in cited for key in each.split("; ")} == keys


def test_both_are_in_the_archive_and_equal_archives_are_equal_bytes(studio: Studio, judged: str) -> None:
    with studio.sessions.read() as session:
        assert session.get_one(Archive, judged).filters
        packed = [b"".join(packing.pack(packing.collect(session, judged), studio.storage)) for _ in range(2)]
    assert packed[0] == packed[1]
    assert report(studio, judged).encode() in packed[0]
    assert b"# Methods\n\nWe expanded the train split" in packed[0]


def test_a_job_of_which_nothing_is_made_yet_has_a_report(studio: Studio, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(variants=1)
    page = report(studio, job.id)
    assert Tags(page).open == []
    tiles = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
    assert tiles == {"originals": "3", "new images": "0", "used": "0", "still to be made": "3"}
    assert "not over yet" in page
