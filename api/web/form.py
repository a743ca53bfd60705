"""A form made of a model's own JSON schema: descriptions, ranges and defaults are written once, in the model.

A field's name is where it is in the model, as in the faults that pydantic tells: `operator.inpaint.mask.random.share`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from shared.errors import Fault, told

_SLIDER = 1.0
"""A slider goes no farther than so much from the default: the ranges are wider than what anybody wants to see."""


@dataclass(frozen=True, slots=True)
class Field:
    """One value to be filled in; `default` is what the model says, empty where it leaves it open."""

    name: str
    kind: Literal["integer", "number", "string", "boolean", "choice", "many"]
    help: str
    default: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def slider(self) -> tuple[float, float] | None:
        """The ends of a slider, for numbers that have a default to begin at."""
        if self.kind != "number" or self.low is None or self.high is None or not self.default:
            return None
        at = float(self.default)
        return max(self.low, at - _SLIDER), min(self.high, at + _SLIDER)


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that belong together."""

    name: str
    help: str
    fields: "tuple[Entry, ...]"


@dataclass(frozen=True, slots=True)
class Either:
    """One of several groups, chosen by a field of its own."""

    name: str
    help: str
    chosen: Field
    groups: Mapping[str, Group]


Entry = Field | Group | Either


def of(model: type[BaseModel]) -> dict[str, Entry]:
    """The fields of a model by their names."""
    schema = model.model_json_schema()
    return {entry.name: entry for entry in _properties(schema, schema.get("$defs", {}), "")}


def read(entries: Sequence[Entry], sent: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What was filled in, as the model takes it, without what is as the model has it anyway."""
    found: dict[str, Any] = {}
    for entry in entries:
        key = entry.name.rpartition(".")[2]
        if isinstance(entry, Field):
            texts = [text for text in sent.get(entry.name, ()) if text.strip()]
            if texts and ",".join(texts) != entry.default:
                found[key] = _value(entry, texts)
        elif isinstance(entry, Group):
            if inner := read(entry.fields, sent):
                found[key] = inner
        else:
            kind = (sent.get(entry.chosen.name) or [entry.chosen.default])[0]
            inner = read(entry.groups[kind].fields, sent) if kind in entry.groups else {}
            if inner or kind != entry.chosen.default:
                found[key] = {"kind": kind, **inner}
    return found


def texts(entries: Sequence[Entry], spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """The other way round: what a form that yields this spec is filled in with."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        value = spec.get(entry.name.rpartition(".")[2])
        if isinstance(entry, Field):
            if value is not None:
                found[entry.name] = [_text(each) for each in (value if isinstance(value, list) else [value])]
        elif isinstance(entry, Group):
            found |= texts(entry.fields, value or {})
        elif isinstance(value, Mapping):
            kind = value.get("kind", entry.chosen.default)
            found |= {entry.chosen.name: [kind]} | texts(entry.groups[kind].fields, value)
    return found


def faults(error: ValidationError) -> list[Fault]:
    """What pydantic says is wrong, by the fields' names."""
    return told(error.errors())


def written(entries: Sequence[Entry], where: str) -> str:
    """A field's name as whoever writes the request knows it: without the kinds that were chosen on the way."""
    kinds = set(_kinds(entries))
    places = [place.removesuffix(".") for place in accumulate(f"{name}." for name in where.split("."))]
    return ".".join(place.rpartition(".")[2] for place in places if place not in kinds)


def _kinds(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, Group):
            yield from _kinds(entry.fields)
        elif isinstance(entry, Either):
            yield from (group.name for group in entry.groups.values())
            yield from _kinds(entry.groups.values())


def _properties(node: Mapping[str, Any], defs: Mapping[str, Any], prefix: str) -> Iterator[Entry]:
    found = [_entry(prefix + name, each, defs) for name, each in node["properties"].items() if name != "kind"]
    # What has more to be said of it goes first.
    yield from sorted(found, key=lambda entry: not isinstance(entry, Either))


def _entry(name: str, node: Mapping[str, Any], defs: Mapping[str, Any]) -> Entry:
    node = _resolved(node, defs)
    about = node.get("description", "")
    if "oneOf" in node:
        kinds = {kind: _resolved({"$ref": ref}, defs) for kind, ref in node["discriminator"]["mapping"].items()}
        groups = {
            kind: Group(
                f"{name}.{kind}", each.get("description", ""), tuple(_properties(each, defs, f"{name}.{kind}."))
            )
            for kind, each in kinds.items()
        }
        chosen = Field(f"{name}.kind", "choice", about, node["default"]["kind"], choices=tuple(kinds))
        return Either(name, about, chosen, groups)
    if "properties" in node:
        return Group(name, about, tuple(_properties(node, defs, f"{name}.")))
    return _field(name, node, about)


def _field(name: str, node: Mapping[str, Any], about: str) -> Field:
    plain = next((each for each in node.get("anyOf", []) if each.get("type") != "null"), node)
    field = Field(
        name,
        "string",
        about,
        _text(node.get("default")),
        plain.get("minimum", plain.get("exclusiveMinimum")),
        plain.get("maximum", plain.get("exclusiveMaximum")),
    )
    if "enum" in plain:
        return replace(field, kind="choice", choices=tuple(plain["enum"]))
    if plain["type"] == "array":
        return replace(field, kind="many")
    if plain["type"] == "boolean":
        return replace(field, kind="boolean", choices=("true", "false"))
    return replace(field, kind=plain["type"])


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in node:
        return node
    target = defs[node["$ref"].rpartition("/")[2]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _value(field: Field, texts: list[str]) -> Any:
    # What is no such value stays as it was written, so that the model says what is wrong with it.
    text = texts[0].strip()
    try:
        match field.kind:
            case "many":
                return texts
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}.get(text, text)
            case _:
                return text
    except ValueError:
        return text


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
