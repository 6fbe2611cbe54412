"""A running stand-in server for tests, and clients that load it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import standin
import tritonclient.http as http

Array = np.ndarray[Any, Any]
START = 300.0
"""Seconds that a start may take on a busy machine."""


class Server:
    """tritonserver on free ports of loopback, until the context ends."""

    def __init__(self, repositories: Sequence[Path], log: Path) -> None:
        self.ports = standin.free_ports(3)
        options = ("--exit-on-error=false", "--exit-timeout-secs=2")
        line, variables = standin.command(repositories, self.ports, *options)
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                line, env=variables, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.ports[1]}"

    def client(self) -> Any:
        return http.InferenceServerClient(
            f"127.0.0.1:{self.ports[0]}", connection_timeout=60.0, network_timeout=60.0
        )

    def wait(self) -> None:
        """Until it answers: every model is loaded, or has failed, by then."""
        end = time.monotonic() + START
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with self.client() as client:
                    if client.is_server_live():
                        return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not start:\n" + self.log.read_text()[-3000:])

    def stop(self) -> None:
        """Ask it to leave, then make it: with its stubs, which are in its process group."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def statistics(self, name: str) -> Mapping[str, Any]:
        """The server's own counts of a model."""
        with self.client() as client:
            return dict(client.get_inference_statistics(name)["model_stats"][0])

    def quantile(self, name: str, share: float) -> float:
        """Microseconds per request, from the server's metrics."""
        import urllib.request

        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[2]}/metrics") as page:
            text = page.read().decode()
        pattern = (
            rf'nv_inference_request_summary_us{{model="{name}",[^}}]*quantile="{share}"}} (\S+)'
        )
        found = re.search(pattern, text)
        assert found, text
        return float(found[1])


@dataclass
class Load:
    """What a crowd of clients met. `worst`: largest difference to the expected answers."""

    requests: int
    errors: list[str]
    worst: float
    seconds: float


def crowd(
    server: Server, name: str, given: Array, expected: Array, *, clients: int, seconds: float
) -> Load:
    """`clients` threads ask for one sample after the other, each answer checked."""
    end = time.monotonic() + seconds
    found = Load(0, [], 0.0, seconds)
    lock = threading.Lock()
    start = threading.Barrier(clients)

    def one(which: int) -> None:
        start.wait()
        done, worst = 0, 0.0
        try:
            with server.client() as client:
                at = which
                while not done or time.monotonic() < end:
                    at = (at + 1) % len(given)
                    answer = ask(client, name, given[at : at + 1])
                    worst = max(worst, float(np.abs(answer - expected[at : at + 1]).max()))
                    done += 1
        except Exception as error:  # counted, whatever it is
            with lock:
                found.errors.append(f"{type(error).__name__}: {error}")
        with lock:
            found.requests += done
            found.worst = max(found.worst, worst)

    run_threads([lambda which=which: one(which) for which in range(clients)])
    return found


def run_threads(jobs: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ask(client: Any, name: str, given: Array) -> Array:
    """The answer of a digits model to some samples."""
    one = http.InferInput("image", list(given.shape), "FP32")
    one.set_data_from_numpy(given)
    return client.infer(name, [one]).as_numpy("logits")
