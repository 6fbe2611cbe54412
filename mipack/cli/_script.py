"""--show-python: the script that does what a command line does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mipack.data.dataset import ReadOptions
    from mipack.front.reports import Bench

WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a run of prune is told; only what differs from the defaults is spelled out.

    `decide_only`: no model is made; `out` None: nothing is written.
    """

    model: Path
    calib: Path | None
    out: Path | None
    settings: Mapping[str, Any]
    read: ReadOptions
    race: Bench | None = None
    decide_only: bool = False
    force: bool = False
    libraries: Sequence[Path] = field(default=())
    finish: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The script as one text."""
        return {"python": self.text()}

    def text(self) -> str:
        """The whole script."""
        body = [*self._prune(), "print(result)", *self._finish(), *self._save()]
        if self.libraries:
            named = ", ".join(map(spelled, self.libraries))
            body = [f"with mipack.custom_ops({named}):", *(f"    {line}" for line in body)]
        return "\n".join([*self._imports("\n".join(body)), "", *body])

    def _prune(self) -> list[str]:
        from mipack.options import PruneOptions

        given = [spelled(self.model)] + ([spelled(self.calib)] if self.calib else [])
        given += self._read()
        given += ["decide_only=True"] if self.decide_only else []
        settings = dict(self.settings)
        rounds = settings.pop("iterations", 1)
        given += [f"iterations={rounds}"] if rounds != 1 else []
        given += [f"{k}={spelled(v)}" for k, v in differing(settings, PruneOptions).items()]
        return _call("result = mipack.prune", given)

    def _finish(self) -> list[str]:
        if not self.finish:
            return []
        from mipack.options import PruneOptions

        given = ["result.model", spelled(list(self.finish))]
        given += [spelled(self.calib)] if self.calib else []
        given += [f"original={spelled(self.model)}", *self._read()]
        drop = self.settings.get("max_drop")
        given += [f"max_drop={spelled(drop)}"] if drop is not None else []
        if self.race is not None:
            shape = dict(self.race.shapes[0]) if self.race.shapes else {}
            given += ["bench=True"] + ([f"shape={spelled(shape)}"] if shape else [])
        given += [
            f"{name}={spelled(value)}"
            for name, value in differing(self.settings, PruneOptions).items()
            if name in ("batch_size", "provider")
        ]
        return _call("finished = front.finish", given)

    def _read(self) -> list[str]:
        from mipack.data.dataset import ReadOptions

        read = differing(_values(self.read), ReadOptions)
        return [f"read=mipack.ReadOptions({_listed(read)})"] if read else []

    def _save(self) -> list[str]:
        force = ["force=True"] if self.force else []
        if self.out is None:
            return []
        if self.decide_only:
            return _call("result.save", [spelled(self.out), *force])
        given = ["result", spelled(self.model), spelled(self.out), *force]
        if self.race is not None:
            race = differing(_values(self.race), type(self.race))
            given += [f"race=reports.Bench({_listed(race)})"]
        given += ["finished=finished"] if self.finish else []
        if self.read.classes is not None:
            given += [f"classes=read_classes({spelled(self.read.classes)})"]
        return _call("reports.save", given)

    def _imports(self, body: str) -> list[str]:
        lines = ["from pathlib import Path", ""] if "Path(" in body else []
        lines += ["import mipack"]
        if "read_classes(" in body:
            lines += ["from mipack.data.labels import read_classes"]
        lines += ["from mipack import front"] if "front.finish" in body else []
        return lines + (["from mipack.front import reports"] if "reports." in body else [])


def differing(given: Mapping[str, Any], record: type[Any]) -> dict[str, Any]:
    """The values that are not the record's defaults, in the order of its fields."""
    found = {}
    for entry in fields(record):
        default = entry.default
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        value = given.get(entry.name, default)
        if value != default:
            found[entry.name] = value
    return found


def spelled(value: Any) -> str:
    """A value as source text."""
    if isinstance(value, Path):
        return f"Path({str(value)!r})"
    if hasattr(value, "__dataclass_fields__"):
        return f"mipack.{type(value).__name__}({_listed(differing(_values(value), type(value)))})"
    return repr(value)


def _values(record: Any) -> dict[str, Any]:
    return {entry.name: getattr(record, entry.name) for entry in fields(record)}


def _listed(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={spelled(value)}" for name, value in given.items())


def _call(name: str, arguments: Sequence[str]) -> list[str]:
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= WIDTH:
        return [line]
    return [f"{name}(", *(f"    {argument}," for argument in arguments), ")"]
