"""What the commands print, in words."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from regrow.answers import Dataset, Fetch, Item, Job, Prior, Priors, Report, Training
from regrow.progress import brought, learned, said, size

_MOST_FAILED = 20
_ORIGINS = {
    "builtin": "with Regrow",
    "folder": "folder",
    "added": "added",
    "trained": "trained here",
    "fetched": "fetched",
}


def dataset(found: Dataset) -> str:
    """What was found in an upload."""
    counts = found["counts"]
    images, boxes = counts.get("images", {}), counts.get("boxes", {})
    lines = [
        f"Dataset  {found['id']}  {found['name']}: {found['state']} ({found['format']}, {found['layout']})",
        *(
            f"  {split}: {images.get(split, 0)} images, "
            + ", ".join(f"{per_split.get(split, 0)} {name}" for name, per_split in boxes.items())
            for split in found["splits"]
        ),
    ]
    if counts.get("unlabelled"):
        lines.append(f"  {counts['unlabelled']} images without a label")
    if seen := found["report"]:
        lines += _seen(seen)
    return "\n".join([*lines, *_warnings(found["warnings"])])


def _seen(report: Report) -> Iterator[str]:
    yield f"  {report['why']}"
    sizes = (f"{width} x {height}" for width, height in (report["sizes"][k] for k in ("smallest", "median", "largest")))
    yield f"  labels: {report['labels']}; sizes: {', '.join(sizes)} (smallest, median, largest)"
    if report["metadata"]:
        yield f"  metadata: {', '.join(f'{kind} in {count} images' for kind, count in report['metadata'].items())}"
    if groups := report["groups"]:
        yield f"  groups: {groups['count']}, in several splits: {groups['across']['count']}"
    if differs := report["difference"]:
        counts = (f"{differs[kind]['count']} {kind}" for kind in ("added", "removed", "relabelled", "moved"))
        yield f"  beside {differs['parent']}: {', '.join(counts)}, {differs['unchanged']} unchanged"


def rejected(found: Dataset) -> str:
    """Why an upload cannot be used: every fault."""
    faults = [
        f"  {fault['where']}: {fault['what']}" if fault["where"] else f"  {fault['what']}"
        for fault in found["problems"]
    ]
    return "\n".join([f"The dataset {found['name']} was rejected:", *faults])


def priors(found: Priors) -> str:
    """A line a prior, and one for each that is being trained or fetched."""
    rows = [("PRIOR", "FROM", "PX", "SIZE", "STATE")]
    for prior in found["items"]:
        native = str(prior["native_size"]) if prior["kind"] == "prior" else "autoencoder"
        rows.append((prior["name"], _ORIGINS[prior["origin"]], native, size(prior["bytes"]), "ready"))
    for each in found["trainings"]:
        rows.append((each["name"], "trained here", "", "", f"{each['state']} {each['progress']:.0%}: {learned(each)}"))
    for fetch in found["fetches"]:
        rows.append((fetch["name"], "fetched", "", "", f"{fetch['state']} {fetch['progress']:.0%}: {brought(fetch)}"))
    return _table(rows)


def prior(found: Prior) -> str:
    """All about one prior: its card."""
    where = _ORIGINS[found["origin"]]
    about = (
        f"Prior    {found['name']}: {where}, {found['native_size']} px, {size(found['bytes'])}, {found['sha256'][:12]}"
    )
    source = f"\n  from {found['source']}" if found["source"] else ""
    words = f", and knows {', '.join(found['words'])}" if found["words"] else ""
    prompts = f"\n  takes a prompt{words}" if found["prompts"] else ""
    return f"{about}{source}{prompts}\n\n{found['card']}".rstrip()


def training(found: Training) -> str:
    """All about one training."""
    lines = [
        f"Training {found['id']}  {found['name']}: {found['state']}",
        f"  {found['progress']:.0%}: {learned(found)}",
    ]
    if found["error"]:
        lines.append(f"  {'failed' if found['state'] == 'failed' else 'last error'}: {found['error']['detail']}")
    return "\n".join(lines)


def fetched(found: Fetch) -> str:
    """All about one fetch."""
    lines = [
        f"Fetch    {found['id']}  {found['name']}: {found['state']}",
        f"  from {found['repo']}@{found['revision']}{' ' + found['file'] if found['file'] else ''}",
        f"  {found['progress']:.0%}: {brought(found)}",
    ]
    if found["error"] and found["state"] == "failed":
        lines.append(f"  failed: {found['error']['detail']}")
    return "\n".join(lines)


def datasets(found: Sequence[Dataset]) -> str:
    """A line a dataset."""
    if not found:
        return "No datasets yet."
    rows = [("DATASET", "STATE", "FORMAT", "IMAGES", "NAME")]
    for each in found:
        images = str(sum(each["counts"].get("images", {}).values())) if each["state"] == "ready" else ""
        rows.append((each["id"], each["state"], each["format"] or "", images, each["name"]))
    return _table(rows)


def jobs(found: Sequence[Job]) -> str:
    """A line a job."""
    if not found:
        return "No jobs yet."
    rows = [("JOB", "STATE", "DONE", "FAILED", "PROGRESS", "NAME")]
    for job in found:
        counts = job["counts"]
        done = f"{counts.get('done', 0)}/{job['total']}"
        rows.append(
            (job["id"], job["state"], done, str(counts.get("failed", 0)), f"{job['progress']:.0%}", job["name"])
        )
    return _table(rows)


def job(found: Job, failed: Iterable[Item]) -> str:
    """All about one job."""
    lines = [f"Job      {found['id']}  {found['name']}: {found['state']}", f"  {found['progress']:.0%}: {said(found)}"]
    archive = found["archive"]
    if archive:
        detail = archive["error"] or (size(archive["bytes"]) if archive["bytes"] else "")
        lines.append(f"  archive {archive['state']} {detail}".rstrip())
    told = found.get("webhook")
    if told and told["error"]:
        lines.append(f"  webhook {told['state']} after {told['attempts']} attempts: {told['error']}")
    lines += _warnings(found["warnings"])
    for item in islice(failed, _MOST_FAILED):
        error = item["error"]
        lines.append(
            f"  failed: {item['path']}, variant {item['variant']}: {error['detail'] if error else 'no reason known'}"
        )
    left_out = found["counts"].get("failed", 0) - _MOST_FAILED
    return "\n".join([*lines, f"  and {left_out} more"] if left_out > 0 else lines)


def result(found: Job, archive: Path | None, sheet: Path | None) -> str:
    """Where things are, at the end."""
    lines = [job(found, [])]
    if archive:
        lines.append(f"Archive  {archive.absolute()}")
    if sheet:
        lines.append(f"Sheet    {sheet.absolute()}")
    return "\n".join(lines)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _warnings(warnings: Iterable[str]) -> list[str]:
    return [f"  warning: {warning}" for warning in warnings]
