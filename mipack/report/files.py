"""A report on disk: `x.onnx` -> `x.report.json` and, with the same content, `x.report.html`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mipack.errors import InputError
from mipack.graph.load import publish, staging
from mipack.report.html import render
from mipack.report.record import FORMAT, Report
from mipack.result import report_paths


def write(report: Report, out: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Write both files of a report about the model `out`, whole or not at all; the files written.

    Raises InputError where one exists (unless `force`) or the folder cannot be written.
    """
    page, data = report_paths(out)
    for path in (page, data):
        if path.exists() and not force:
            raise InputError(f"{path} exists", hint="add --force to overwrite it")
    with staging(out) as folder:
        put(report, folder / out.name)
        for path in (page, data):
            publish(folder / path.name, path)
    return page, data


def put(report: Report, out: Path) -> tuple[Path, Path]:
    """The same into a folder that is still private: nothing is checked, nothing synced."""
    page, data = report_paths(out)
    page.write_text(render(report), encoding="utf-8")
    data.write_text(dumps(report), encoding="utf-8")
    return page, data


def dumps(report: Report) -> str:
    """The text of report.json; numbers without a JSON form become null."""
    return json.dumps(_plain(asdict(report)), indent=1, allow_nan=False) + "\n"


def read(path: Path) -> Report:
    """The report in a report.json. Raises InputError for another version and for damage."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"cannot read the report {path}: {_line(error)}",
            hint="give the x.report.json that prune wrote",
        ) from error
    if not isinstance(data, dict) or not str(data.get("format", "")).startswith("mipack-report/"):
        raise InputError(
            f"{path} is not a report of mipack", hint="give the x.report.json that prune wrote"
        )
    if data["format"] != FORMAT:
        raise InputError(
            f"{path} is a report of version {data['format']}, this mipack reads {FORMAT}",
            hint="prune again, or use the mipack that wrote it",
        )
    return _checked(path, data)


def _checked(path: Path, data: Mapping[str, Any]) -> Report:
    from pydantic import TypeAdapter, ValidationError

    try:
        text = json.dumps(data, allow_nan=False)  # what is no JSON is damage too
        return TypeAdapter(Report).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"the report {path} is damaged: {place}: {_line(first['msg'])}",
            hint="prune again to get a whole one",
        ) from error
    except ValueError as error:
        raise InputError(
            f"the report {path} is damaged: a number in it is none",
            hint="prune again to get a whole one",
        ) from error


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, Path)):  # the names of files need not be text
        return str(value).encode("utf-8", "replace").decode()
    return value
