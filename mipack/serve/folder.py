"""A folder that is there whole or not at all, and that is only replaced by what made it.

`mipack-package.json` inside lists every file, so that nothing else is ever deleted.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mipack.errors import InputError

LIST = "mipack-package.json"
SCHEMA = "mipack-package/1"


def check_replaceable(out: Path, *, force: bool) -> None:
    """InputError unless `out` can be made, or is a package that may be replaced."""
    parent = out.absolute().parent
    if not parent.is_dir():
        raise InputError(f"the folder {parent} does not exist", hint="create it first")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is not a folder", hint="choose another -o OUT")
    if not out.exists() or not any(out.iterdir()):
        return
    if not force:
        raise InputError(
            f"the folder {out} exists", hint="add --force to replace it, or choose another -o OUT"
        )
    strange = sorted(_files(out) - _listed(out))
    if strange:
        raise InputError(
            f"{out} holds what mipack did not make: {strange[0]}"
            + (f" and {len(strange) - 1} more" if len(strange) > 1 else ""),
            hint="move it away, or choose another -o OUT",
        )


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, which takes its place when all is written. Raises InputError
    where nothing can be written.

    Where `out` exists it is renamed away first and comes back if the second renaming fails.
    """
    out = out.absolute()
    try:
        with tempfile.TemporaryDirectory(prefix=".mipack-", dir=out.parent) as place:
            fresh, old = Path(place) / "new", Path(place) / "old"
            fresh.mkdir()
            yield fresh
            _sync(fresh)
            if out.exists():
                os.rename(out, old)
            try:
                os.rename(fresh, out)
            except BaseException:
                with suppress(OSError):
                    os.rename(old, out)
                raise
    except OSError as error:
        raise InputError(
            f"cannot write {out}: {error.strerror or error}",
            hint="free some space or choose another -o OUT",
        ) from error


def write_list(folder: Path, facts: Mapping[str, Any]) -> None:
    """The list of what is in the folder, with facts about it; written last."""
    files = sorted({*_files(folder), LIST})
    document = {"schema": SCHEMA, **facts, "files": files}
    (folder / LIST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _files(folder: Path) -> set[str]:
    """All files, by their place in the folder; links count as files and are not followed."""
    return {
        (Path(root) / name).relative_to(folder).as_posix()
        for root, folders, files in os.walk(folder)
        for name in [*files, *(f for f in folders if (Path(root) / f).is_symlink())]
    }


def _listed(folder: Path) -> set[str]:
    with suppress(OSError, ValueError):
        found = json.loads((folder / LIST).read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("schema") == SCHEMA:
            return {str(name) for name in found.get("files", ())}
    return set()


def _sync(folder: Path) -> None:
    """Files reach the disk before the folder gets its name."""
    for name in _files(folder):
        with (folder / name).open("rb+") as file:
            os.fsync(file.fileno())
