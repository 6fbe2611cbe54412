"""The machine that a number was measured on: versions, cores, memory, providers that really work.

A provider that ONNX Runtime lists need not run: a CUDA session on a machine without CUDA raises
nothing and computes on the CPU. So each listed provider is tried, in a child process of its own:
what native libraries print there spoils no output here, and a crash ends only the child.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mipack.runtime.quiet import settings

PACKAGES = ("mipack", "onnx", "onnx-ir", "onnx-graphsurgeon", "numpy", "torch", "tokenizers")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
"""The packages that install the one module `onnxruntime`, each over the other."""
PROBE_SECONDS = 60.0
TINY_MODEL = (  # y = Identity(x), float32 [1], opset 13, IR 7: loads on every runtime in use
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12'
    b"\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def environment(*, probe: bool = True) -> dict[str, object]:
    """What to say about this machine beside every result; plain values, ready for JSON.

    With `probe` each listed provider is tried, about half a second each; without it the runtime
    is not loaded at all and both lists of providers are absent.
    """
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu_model(),
        "cores": physical_cores(),
        "logical_cores": len(_usable_cpus()),
        "memory_bytes": _total_memory(),
        **settings(),
        "gpus": _gpus(),
        "packages": {name: _version(name) for name in (*PACKAGES, *RUNTIMES)},
        "doubled_runtime": doubled_runtime(),
    }
    if probe:
        listed = _listed_providers()
        facts["providers_listed"] = listed
        facts["providers_working"] = [name for name in listed if _works(name)]
    return facts


def runtime_label() -> str:
    """What the time of an op depends on beside the op: processor, cores, runtime."""
    version_of = next((v for name in RUNTIMES if (v := _version(name)) is not None), "?")
    return f"{_cpu_model()}, {physical_cores()} cores, onnxruntime {version_of}"


def cache_folder() -> Path | None:
    """Where this user's programs keep what they can compute again; None without a home."""
    variable, usual = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    given = os.environ.get(variable, "")
    with suppress(RuntimeError):
        return (Path(given) if given else Path.home() / usual) / "mipack"
    return None


def doubled_runtime() -> str | None:
    """One line of warning where two packages claim the module `onnxruntime`, else None.

    The later install wins silently, and uninstalling either leaves a module without its session.
    """
    found = [name for name in RUNTIMES if _version(name) is not None]
    if len(found) < 2:
        return None
    return (
        f"{' and '.join(found)} are both installed and overwrite each other: "
        f"pip uninstall {' '.join(found)}, then install the one you want"
    )


def physical_cores() -> int:
    """Physical cores that this process may use: hardware threads of one core count once."""
    siblings = [_siblings(cpu) for cpu in _usable_cpus()]
    return max(1, len(set(siblings)))


def peak_memory() -> int | None:
    """The most resident memory of this process in bytes, since the last reset if that worked."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory() -> bool:
    """Let `peak_memory` start again from what is resident now; False where that is impossible."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def run_child(
    module: str, *arguments: str, seconds: float = PROBE_SECONDS
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` with this very copy of mipack; stdout and stderr are captured.

    The working folder is not on the child's path: a file or folder there cannot shadow a module.
    A child that takes longer than `seconds` is ended and has return code 124.
    """
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        return subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {seconds:g} s")


def _listed_providers() -> list[str]:
    """The providers that the installed runtime was built with; none if it cannot be imported."""
    done = run_child("mipack.runtime.machine")
    lines = done.stdout.splitlines()
    return list(json.loads(lines[-1])) if done.returncode == 0 and lines else []


def _works(provider: str) -> bool:
    return run_child("mipack.runtime.machine", provider).returncode == 0


def _really_runs(provider: str) -> bool:
    """Whether a session asked for `provider` gets it and computes with it."""
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(TINY_MODEL, providers=[provider])
    result = session.run(None, {"x": np.ones(1, np.float32)})
    return provider in session.get_providers() and bool(result[0][0] == 1.0)


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _siblings(cpu: int) -> str:
    """The hardware threads that share a core with `cpu`, e.g. "0,64"; `cpu` alone if unknown."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    with suppress(OSError):
        return topology.read_text().strip()
    return str(cpu)


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _total_memory() -> int | None:
    """Memory of the machine in bytes, None where the system does not say."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU, as its own tool reports them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _answer(arguments: list[str]) -> int:
    """The child's side: list the providers on stdout, or try the one named."""
    if arguments:
        return 0 if _really_runs(arguments[0]) else 1
    import onnxruntime as ort

    sys.stdout.write(json.dumps(ort.get_available_providers()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_answer(sys.argv[1:]))
