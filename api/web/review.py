"""Pages about what people think of a job's images: one by one, by their measures, and not knowing which is which."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Form, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import joinedload

from api import schemas
from api.deps import Caller, CallerDep, PartsDep, SessionsDep, TrailDep
from api.routes import HexId
from api.routes import archives as archive_rest
from api.routes import filters as filter_rest
from api.routes import reviews as blind_rest
from api.routes import verdicts as rest
from api.web.expansions import Sent
from api.web.site import go, router, show
from shared import jobs
from shared.errors import Invalid, NotFound, told
from shared.filters import Threshold
from shared.models import Image, Item, Verdict
from shared.states import ItemState
from shared.verdicts import stands

pages = router()

REASONS = ("not plausible", "a label is wrong", "something new looks like a label", "a seam is seen", "blurred")


@pages.get("/jobs/{job_id}/review", name="page_review")
def show_review(
    job_id: HexId,
    request: Request,
    caller: Caller,
    sessions: SessionsDep,
    item: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    last: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """The next image of which nobody has said anything, or one that is named. They come in an order of chance, which
    stays: that of their work keys."""
    made = select(Item).where(Item.job_id == job_id, Item.state == ItemState.DONE)
    made = made.options(joinedload(Item.image).load_only(Image.path, Image.split), joinedload(Item.verdict))
    undecided = made.where(~select(Verdict.item_id).where(stands()).exists()).order_by(Item.work_key, Item.id).limit(2)
    with sessions.read() as session:
        job = jobs.get(session, caller, job_id)
        rows = session.scalars(undecided if item is None else made.where(Item.id == item)).all()
        if item is not None and not rows:
            raise NotFound(f"Job {job_id} has no image {item}.")
        shown = [schemas.items.Item.from_row(row, 1) for row in rows]
        tally, name, size = rest.Tally.of(session, job), job.name, (rows[0].image if rows else None)
        sides = (size.width, size.height) if size else (1, 1)
    return show(
        request,
        "review.html",
        job_id=job_id,
        name=name,
        item=shown[0] if shown else None,
        following=shown[1] if len(shown) > 1 else None,
        sides=sides,
        last=last,
        tally=tally,
        reasons=REASONS,
    )


@pages.post("/jobs/{job_id}/review", name="page_judge")
def judge(
    job_id: HexId,
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    item: Annotated[int, Form(ge=0, lt=2**63)],
    verdict: Annotated[Literal["accept", "reject", "undo"], Form()],
    reason: Annotated[str, Form(max_length=500)] = "",
    back: Annotated[bool, Form()] = False,
) -> Response:
    """Note a verdict and go on to the next image, or `back` to this one; an undone one is shown again."""
    said = None if verdict == "undo" else verdict
    why = reason if said == "reject" and reason else None
    asked = rest.Judgement.model_validate({"item": item, "verdict": said, "reason": why})
    rest.judge_items(job_id, [asked], caller, parts, trail)
    if back:
        return go(f"/jobs/{job_id}/items/{item}")
    return go(f"/jobs/{job_id}/review?" + (f"item={item}" if said is None else f"last={item}"))


@pages.get("/jobs/{job_id}/filters", name="page_filters")
def show_filters(job_id: HexId, request: Request, caller: Caller, sessions: SessionsDep) -> Response:
    """How each measure is spread, and where to draw the lines."""
    measures = filter_rest.get_measures(job_id, caller, sessions).items
    with sessions.read() as session:
        job = jobs.get(session, caller, job_id)
        name, over = job.name, job.finished_at is not None
        chosen = [Threshold.model_validate(each) for each in job.archive.filters] if job.archive else []
    return show(
        request,
        "filters.html",
        job_id=job_id,
        name=name,
        over=over,
        measures=measures,
        chosen={each.measure: each for each in chosen},
        outlook=filter_rest.preview_filters(job_id, filter_rest.Filters(filters=chosen), caller, sessions),
    )


@pages.post("/jobs/{job_id}/filters/outlook", name="page_outlook")
def show_outlook(job_id: HexId, request: Request, caller: Caller, sessions: SessionsDep, sent: Sent) -> Response:
    """What the filters, as they are drawn now, would leave out."""
    try:
        outlook = filter_rest.preview_filters(job_id, _thresholds(sent), caller, sessions)
    except Invalid as error:
        return show(request, "outlook.html", wrong=error.detail, outlook=None)
    return show(request, "outlook.html", wrong="", outlook=outlook)


@pages.post("/jobs/{job_id}/filters", name="page_pack")
def pack(job_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep, response: Response, sent: Sent) -> Response:
    """Have the zip built anew, without what was rejected and what the filters leave out."""
    archive_rest.pack_job(job_id, _thresholds(sent), caller, parts, trail, response)
    return go(f"/jobs/{job_id}")


@pages.post("/jobs/{job_id}/decision/rebuild", name="page_rebuild")
def rebuild(job_id: HexId, request: Request, caller: Caller, parts: PartsDep, trail: TrailDep) -> Response:
    """Have a zip built again that was removed to save space."""
    archive_rest.get_archive(job_id, caller, parts, trail, request)
    return go(f"/jobs/{job_id}")


@pages.get("/jobs/{job_id}/blind", name="page_blind")
def show_blind(job_id: HexId, request: Request, caller: Caller, sessions: SessionsDep) -> Response:
    """What a blinded review is, those that are answered, and how to begin one."""
    found = blind_rest.list_reviews(job_id, caller, sessions).items
    with sessions.read() as session:
        name = jobs.get(session, caller, job_id).name
        begun = session.scalar(select(func.count()).where(Item.job_id == job_id, Item.state == ItemState.DONE)) or 0
    return show(request, "blind.html", job_id=job_id, name=name, reviews=found, made=begun, wrong="")


@pages.post("/jobs/{job_id}/blind", name="page_begin_blind")
def begin_blind(
    job_id: HexId,
    caller: CallerDep,
    parts: PartsDep,
    response: Response,
    count: Annotated[int, Form(ge=2, le=500)] = 20,
    seed: Annotated[int, Form(ge=0)] = 0,
) -> Response:
    """Begin a blinded review."""
    review = blind_rest.begin_review(job_id, blind_rest.Wanted(count=count, seed=seed), caller, parts, response)
    return go(f"/jobs/{job_id}/blind/{review.id}")


@pages.get("/jobs/{job_id}/blind/{review_id}", name="page_blind_card")
def show_card(job_id: HexId, review_id: HexId, request: Request, caller: Caller, sessions: SessionsDep) -> Response:
    """The next card, or the score."""
    review = blind_rest.get_review(job_id, review_id, caller, sessions)
    card = next((each for each in review.cards if each.answer is None), None)
    done = sum(each.answer is not None for each in review.cards)
    return show(request, "card.html", job_id=job_id, review=review, card=card, done=done)


@pages.post("/jobs/{job_id}/blind/{review_id}", name="page_answer_card")
def answer_card(
    job_id: HexId,
    review_id: HexId,
    caller: Caller,
    parts: PartsDep,
    card: Annotated[str, Form(max_length=16)],
    answer: Annotated[Literal["real", "regrown"], Form()],
) -> Response:
    """Note what a card is taken for."""
    said = blind_rest.CardAnswer.model_validate({"card": card, "answer": answer})
    blind_rest.answer_review(job_id, review_id, [said], caller, parts)
    return go(f"/jobs/{job_id}/blind/{review_id}")


def _thresholds(sent: Mapping[str, list[str]]) -> filter_rest.Filters:
    """The lines that are drawn in a form. Raises Invalid."""
    found: dict[str, dict[str, str]] = {}
    for name, (text, *_) in sent.items():
        bound, _, measure = name.partition(".")
        if bound in ("min", "max") and text.strip():
            found.setdefault(measure, {})[bound] = text.strip()
    try:
        return filter_rest.Filters.model_validate({"filters": [{"measure": m, **b} for m, b in found.items()]})
    except ValidationError as error:
        measures = list(found)
        faults = told([{**each, "loc": [measures[int(each["loc"][1])]]} for each in error.errors()])
        raise Invalid("; ".join(map(str, faults)), faults) from None
