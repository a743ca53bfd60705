"""How a job was made, in sentences that report.html and methods.md share."""

from datetime import UTC, datetime

from shared.accounts.facts import Account
from shared.filters import Spread
from shared.measures import MEASURES


def day(seconds: float) -> str:
    """A time as a day, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def number(measure: str, value: float) -> str:
    """A value of a measure, with its unit."""
    known = MEASURES[measure]
    return f"{value:.{known.digits}f} {known.unit}".strip()


def hidden(account: Account) -> str:
    """What was hidden, and how."""
    operator, mask = account.resolved.operator, account.resolved.mask
    if mask is None:
        options = _options(operator.model_dump(exclude={"kind"}))
        return f"Each image was degraded by the operator {operator.kind} ({options}), and restored by sampling."
    share = spread(account, "hidden_share")
    how_much = f", on the median {share.median:.0%} of the picture" if share else ""
    return (
        f"In each image a random mask of the kind {mask.kind} ({_options(mask.model_dump(exclude={'kind'}))}) hid "
        f"pixels{how_much}; what it kept was measured with noise of standard deviation {operator.noise or 0:g}, and "
        "the rest regrown."
    )


def sampled(account: Account) -> str:
    """With what, and with which numbers."""
    r = account.resolved
    return (
        f"Sampling took {r.steps} steps (preset {r.preset}; gamma {r.gamma:g}, omega {r.omega:g}, eta {r.eta:g}, "
        f"finish {r.finish}, enter {r.enter:g}) on a canvas of {r.long_side} pixels, with the prior {r.prior} (SHA-256 "
        f"{r.prior_sha256[:16]}) and engine {r.engine}; the job's seed was {account.spec.seed}."
    )


def blended(account: Account) -> str:
    """What of the original was copied back."""
    after = {
        "boxes": "Labelled pixels were then copied from the original.",
        "known": "All kept pixels were then copied from the original.",
        "none": "Nothing was copied from the original afterwards.",
    }[account.resolved.blend]
    grain = " Regrown areas were given grain as fine and strong as the original's." if account.resolved.grain else ""
    return after + grain


def outcome(account: Account) -> str:
    """How many images came of it."""
    each = "1 variant" if account.spec.variants == 1 else f"{account.spec.variants} variants"
    said = f"{each} of each of {account.sources:,} images made {account.made:,} new ones"
    lost = [f"{account.rejected:,} rejected by a reader"] if account.rejected else []
    if account.filtered:
        lost.append(
            f"{account.filtered:,} left out by the filters {', '.join(str(each) for each, _ in account.filters)}"
        )
    return (
        f"{said}, of which {account.kept:,} are used ({', '.join(lost)})."
        if lost
        else f"{said}, all of which are used."
    )


def spread(account: Account, measure: str) -> Spread | None:
    """How a measure is spread, if any image has it."""
    return next((each for each in account.spreads if each.measure == measure), None)


def _options(numbers: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in numbers.items()
    )
