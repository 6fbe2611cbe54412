"""The folder of a sweep: what may be kept of a run that was killed, at whatever moment.

    FOLDER/sweep.json      model, data and settings: what all points have in common
    FOLDER/moments.npz     the statistics that every point is decided from
    FOLDER/keep-0.4/       a point: complete, or not there

A file is written beside its place and renamed; a point is filled under `.partial` and renamed as a
whole. What a kill leaves under names that begin with a dot is cleared by the next run, which holds
a lock, so that no two runs work in one folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mipack.errors import InputError, PlanMismatch
from mipack.graph.load import write_text

MANIFEST, MOMENTS, POINT = "sweep.json", "moments.npz", "point.json"
FORMAT, POINT_FORMAT = "mipack-sweep/1", "mipack-sweep-point/1"
LOCK, PARTIAL, STAGING = ".lock", ".partial", ".mipack-"

Document = Mapping[str, Any]


class SweepFolder:
    """A folder that points are added to."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where `path` is neither a sweep's folder, nor empty, nor to be made."""
        self.path, self.manifest, self.moments = path, path / MANIFEST, path / MOMENTS
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file", hint="give a folder with -o FOLDER")
        if not path.parent.is_dir():
            raise InputError(f"the folder {path.parent} does not exist", hint="create it first")
        if path.is_dir() and not self.manifest.exists():
            others = sorted(e.name for e in path.iterdir() if not e.name.startswith("."))
            if others:
                raise InputError(
                    f"{path} is not a sweep's folder: it holds {others[0]} and no {MANIFEST}",
                    hint="name a new or empty folder with -o FOLDER",
                )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and keep other runs out of it. Raises InputError where one is in it."""
        try:
            self.path.mkdir(exist_ok=True)
            lock = (self.path / LOCK).open("a")
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}: {error.strerror or error}", hint="choose another -o"
            ) from error
        with lock:
            if not _locked(lock.fileno()):
                raise InputError(
                    f"another sweep is at work in {self.path}", hint="wait until it has ended"
                )
            for entry in self.path.iterdir():
                if entry.name == PARTIAL or entry.name.startswith(STAGING):
                    shutil.rmtree(entry, ignore_errors=True)
            yield

    def agree(self, wanted: Document) -> None:
        """Write down what the points have in common, or compare it with what is written.

        Raises PlanMismatch where they differ, InputError where the file is damaged.
        """
        wanted = json.loads(json.dumps({"format": FORMAT, **wanted}))
        if not self.manifest.exists():
            write_text(self.manifest, json.dumps(wanted, indent=1, sort_keys=True) + "\n")
            return
        known = _read(self.manifest, FORMAT)
        differing = next((k for k in wanted if known.get(k) != wanted[k]), None)
        if differing is None:
            return
        told = {
            "model": "another model",
            "data": "other calibration data",
            "judged_on": "other data to judge on",
            "mipack": f"mipack {known.get('mipack')}",
        }
        what = told.get(differing) or _difference(known.get(differing), wanted[differing])
        raise PlanMismatch(
            f"{self.path} holds a sweep of {what}"
            if differing in told
            else f"{self.path} holds a sweep with other settings: {what}",
            hint="name another folder with -o FOLDER, or repeat the settings of the first run",
        )

    def point(self, name: str) -> Document | None:
        """What a finished point says, or None. InputError where it is damaged."""
        place = self.path / name
        if not place.exists():
            return None
        found = _read(place / POINT, POINT_FORMAT, whole=place)
        for file, digest in _files(found, place).items():
            path = place / file
            if not path.is_file() or sha256(path) != digest:
                what = "was changed" if path.is_file() else "is missing"
                raise InputError(
                    f"the point {place} is damaged: {file} {what}",
                    hint=make_again(place),
                )
        return found

    @contextmanager
    def adding(self, name: str) -> Iterator[Path]:
        """A folder to fill with a point; it gets its name when it is left without an error."""
        staged = self.path / PARTIAL / name
        try:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f"cannot write {self.path / name}: {error.strerror or error}",
                hint="free some space or choose another -o FOLDER",
            ) from error
        yield staged
        for file in staged.iterdir():
            _sync(file)
        _sync(staged)
        os.replace(staged, self.path / name)
        _sync(self.path)


def finish_point(staged: Path, document: Document) -> None:
    """Write what a point says into its folder, with the digests of the files beside it."""
    files = {file.name: sha256(file) for file in sorted(staged.iterdir())}
    said = {"format": POINT_FORMAT, **document, "sha256": files}
    (staged / POINT).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, form: str, *, whole: Path | None = None) -> Document:
    """A JSON document of this format. InputError where it is damaged or of another version."""
    hint = make_again(whole) if whole else f"delete {path.parent} and sweep again"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else "it cannot be read"
        raise InputError(f"{path} is damaged: {reason}", hint=hint) from error
    if not isinstance(found, dict) or found.get("format") != form:
        raise InputError(f"{path} is not of format {form}", hint=hint)
    return found


def make_again(place: Path) -> str:
    """What to do about a damaged point."""
    return f"delete the folder {place}: the next run makes it again"


def _files(found: Document, place: Path) -> Mapping[str, str]:
    """The digests by file name; names that lead out of the folder are damage."""
    files = found.get("sha256")
    if not isinstance(files, dict) or any(Path(name).name != name for name in files):
        raise InputError(
            f"{place / POINT} is damaged: it does not list the point's files",
            hint=make_again(place),
        )
    return files


def _difference(known: Any, wanted: Any) -> str:
    """The first setting that is not as it was, in words."""
    if not isinstance(known, dict) or not isinstance(wanted, dict):
        return f"{known} there, {wanted} now"
    name = next(n for n in sorted({*known, *wanted}) if known.get(n) != wanted.get(n))
    return f"{name} was {json.dumps(known.get(name))}, now it is {json.dumps(wanted.get(name))}"


def _locked(handle: int) -> bool:
    """Whether the lock is ours; the system frees it when the process ends, however that is."""
    try:
        import fcntl
    except ImportError:  # Windows: two runs in one folder are not told
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync(path: Path) -> None:
    with suppress(OSError):  # folders cannot be synced everywhere
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
