"""The part of the client that looks through what a job has made."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

from regrow.answers import Filter, FilterOutlook, Review, Tally, Verdict
from regrow.looking import drawn
from regrow.wire import Wire, parsed


class Judging:
    """Verdicts, measures, filters and blinded reviews, for `regrow.Client`."""

    _wire: Wire

    def judge(self, job_id: str, item_ids: Iterable[int], verdict: Verdict | None, reason: str | None = None) -> Tally:
        """Accept or reject new images; None takes back what was said of them."""
        body = [{"item": item, "verdict": verdict, "reason": reason} for item in item_ids]
        return cast(Tally, parsed(self._wire.post_once(f"/v1/jobs/{job_id}/verdicts", json=body)))

    def verdicts(self, job_id: str) -> Tally:
        """How many images are judged; `items` tell each one's verdict."""
        return cast(Tally, parsed(self._wire.get(f"/v1/jobs/{job_id}/verdicts")))

    def measures(self, job_id: str) -> list[dict[str, Any]]:
        """What was measured of a job's images, what each measure means and how it is spread."""
        return cast("list[dict[str, Any]]", parsed(self._wire.get(f"/v1/jobs/{job_id}/measures"))["items"])

    def preview_filters(self, job_id: str, filters: Sequence[Filter]) -> FilterOutlook:
        """What filters would leave out of the archive. Each is {"measure", "min"?, "max"?}."""
        body = {"filters": list(filters)}
        return cast(FilterOutlook, parsed(self._wire.post_once(f"/v1/jobs/{job_id}/filters/preview", json=body)))

    def begin_review(self, job_id: str, count: int = 20, seed: int = 0) -> Review:
        """Real images and new ones in random order, for an expert; `review_card` has their pictures."""
        return cast(
            Review, parsed(self._wire.post_once(f"/v1/jobs/{job_id}/reviews", json={"count": count, "seed": seed}))
        )

    def review_card(self, job_id: str, review_id: str, card_id: str, *, size: int = 512, boxes: bool = False) -> bytes:
        """A JPEG of what is on a card."""
        path = f"/v1/jobs/{job_id}/reviews/{review_id}/cards/{card_id}/picture"
        return self._wire.get(f"{path}?{drawn(size, boxes)}").content

    def answer_review(self, job_id: str, review_id: str, answers: dict[str, Literal["real", "regrown"]]) -> Review:
        """Say what cards show, by their ids. Once all is said, the answer has the truth and the score."""
        body = [{"card": card, "answer": said} for card, said in answers.items()]
        return cast(Review, parsed(self._wire.post_once(f"/v1/jobs/{job_id}/reviews/{review_id}/answers", json=body)))

    def report(self, job_id: str) -> bytes:
        """A page of HTML that says what was made, whole in itself; it shows pictures of the originals."""
        return self._wire.get(f"/v1/jobs/{job_id}/report").content

    def methods(self, job_id: str) -> str:
        """A paragraph for a paper, with every number, as Markdown."""
        return self._wire.get(f"/v1/jobs/{job_id}/methods").text
