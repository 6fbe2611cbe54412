"""A real tritonserver without Docker: the one in the nvidia-pytriton wheel, on loopback only.

    python tests/serve/standin.py REPOSITORY [--http-port 8000]

The wheel carries no onnxruntime backend; `backend/model.py` takes its place under that name, so
that a packaged config.pbtxt is loaded as it is. The environment lies in build/triton, is made on
first use, and has numpy < 2 (the wheel's stub reads arrays of numpy 2 wrongly) and the version of
ONNX Runtime that answers are compared with.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / "build" / "triton"
PYTRITON, NUMPY = "0.7.0", "1.26.4"
LIBRARY = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


class Unavailable(Exception):
    """The server cannot run on this machine; the message says why."""


def environment() -> Path:
    """The environment, made if it is not there. Raises Unavailable."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        raise Unavailable("the nvidia-pytriton wheel is for Linux on x86-64")
    _library_folders()
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    with ENVIRONMENT.with_suffix(".lock").open("w") as lock:  # test workers come at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, wanted = ENVIRONMENT / "made-of", "\n".join(_packages())
        if not stamp.is_file() or stamp.read_text() != wanted:
            _make(ENVIRONMENT)
            stamp.write_text(wanted)
        _install_backends(ENVIRONMENT)
    return ENVIRONMENT


def _packages() -> list[str]:
    from onnxruntime.capi.build_and_package_info import package_name

    return [
        f"nvidia-pytriton=={PYTRITON}",
        f"numpy=={NUMPY}",
        f"onnxruntime=={version(package_name)}",
        "flatbuffers",
        "packaging",
        "protobuf",
    ]


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run("-m", "venv", "--without-pip", str(folder))
    pip = ("-m", "pip", "--python", str(folder / "bin" / "python"), "install")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:")
    _run(*pip, *quiet, *_packages())


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        told = (errors or done.stderr.splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"the environment of the server cannot be made: {told}")


def _site(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))


def _server(folder: Path) -> Path:
    return _site(folder) / "pytriton" / "tritonserver"


def _install_backends(folder: Path) -> None:
    """The wheel's backends with its stub for this Python, and ours."""
    server, backends = _server(folder), folder / "backends"
    python = "{}.{}".format(*sys.version_info[:2])
    stub = server / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.is_file():
        raise Unavailable(f"the nvidia-pytriton wheel has no stub for Python {python}")
    if not backends.is_dir():
        shutil.copytree(server / "backends", backends)
        shutil.copy2(stub, backends / "python" / stub.name)
    shutil.copytree(HERE / "backend", backends / "onnxruntime", dirs_exist_ok=True)


def _library_folders() -> list[str]:
    """Where this Python's shared library lies, if not where every program looks."""
    own = Path(str(sysconfig.get_config_var("LIBDIR"))) / LIBRARY
    if own.is_file():
        return [str(own.parent)]
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        name = LIBRARY.partition(".so")[0]
        raise Unavailable(f"{LIBRARY} is not found: apt-get install {name}") from error
    return []


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def require_free(port: int) -> None:
    """Raises Unavailable where something listens on the port."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            raise Unavailable(f"port {port} is in use; choose others with --http-port") from error


def command(
    repositories: Sequence[Path], ports: Sequence[int], *options: str
) -> tuple[list[str], dict[str, str]]:
    """(command line, environment) of a server; `ports` are HTTP, gRPC and metrics."""
    folder = environment()
    for port in ports:
        require_free(port)
    line = [str(_server(folder) / "bin" / "tritonserver")]
    line += [f"--model-repository={repository}" for repository in repositories]
    line += [f"--backend-directory={folder / 'backends'}"]
    for kind, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        line += [f"--{kind}-address=127.0.0.1", f"--{kind}-port={port}"]
    line += ["--metrics-config=summary_latencies=true"]
    line += ["--metrics-config=summary_quantiles=0.5:0.05,0.95:0.005"]
    libraries = [str(_site(folder) / "nvidia_pytriton.libs"), *_library_folders()]
    variables = {
        **os.environ,
        # the stub finds the environment's packages through the first python3 on PATH
        "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(libraries),
    }
    variables.pop("PYTHONPATH", None)
    return [*line, *options], variables


def main() -> int:
    parser = argparse.ArgumentParser(description="tritonserver of nvidia-pytriton on loopback")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--http-port", type=int, default=8000, help="gRPC +1, metrics +2")
    given = parser.parse_args()
    if not given.repository.is_dir():
        print(f"error: {given.repository} is no folder", file=sys.stderr)
        return 2
    ports = range(given.http_port, given.http_port + 3)
    try:
        line, variables = command([given.repository.resolve()], ports, "--exit-on-error=false")
    except Unavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.execve(line[0], line, variables)


if __name__ == "__main__":
    sys.exit(main())
