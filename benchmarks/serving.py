"""Original against pruned in a real tritonserver, by the server's own statistics:

    python benchmarks/serving.py REPO [--clients 32] [--seconds 60] [--rounds 3] [--shape N=n,..]

REPO is what `mipack package MODEL --name NAME --with-original ORIGINAL --target triton -o REPO`
wrote. The server is that of `make test-serve`: its onnxruntime
backend is a stand-in in Python, and clients share the cores with it, so compare the two models,
not these figures with another machine's. Every client sends the first of REPO's samples, brought to
one shape, again as soon as it has its answer. Models take turns; needs a quiet machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "serve"))

import tritonclient.http as http  # noqa: E402
from serving import Server, run_threads  # noqa: E402

from mipack.cli._options import sizes  # noqa: E402
from mipack.data.dataset import ReadOptions  # noqa: E402
from mipack.data.synthetic import resize_feeds  # noqa: E402
from mipack.front.inputs import opened  # noqa: E402
from mipack.runtime.session import Feeds  # noqa: E402

WIRE = {"float32": "FP32", "int64": "INT64", "int32": "INT32", "float16": "FP16"}


def main() -> None:
    """Load both, ask, print one line for each round and model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repo", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", default="", help="sizes of dynamic dimensions")
    options = parser.parse_args()
    names = sorted(path.parent.name for path in options.repo.glob("*/config.pbtxt"))
    model = options.repo / names[0] / "1" / "model.onnx"
    source = opened(model, options.repo / "samples.npz", ReadOptions())
    assert source.dataset is not None
    typical = next(iter(source.dataset.batches(1))).feeds
    wanted = sizes(options.shape or None)
    feeds = resize_feeds(source.signature, typical, wanted)
    rates: dict[str, list[float]] = {name: [] for name in names}
    log = tempfile.TemporaryDirectory()
    with log as folder, Server([options.repo], Path(folder) / "log") as server:
        server.wait()
        for _ in range(options.rounds):
            for name in names:
                line, rate = turn(server, name, feeds, options.clients, options.seconds)
                rates[name].append(rate)
                print(f"{name:24} {line}", flush=True)
    first, *others = sorted(names, key=len)
    for other in others:
        ratios = [a / b for a, b in zip(rates[first], rates[other], strict=True)]
        print(f"{first} answers {median(ratios):.2f} times the requests of {other} ({ratios})")


def turn(
    server: Server, name: str, feeds: Feeds, clients: int, seconds: float
) -> tuple[str, float]:
    """One model under load; what the server says of it, and requests per second."""
    before, failed, spent = server.statistics(name), [], []
    end = time.monotonic() + seconds
    lock = threading.Lock()

    def one() -> None:
        mine = []
        try:
            with server.client() as client:
                while time.monotonic() < end:
                    start = time.perf_counter()
                    client.infer(name, inputs(feeds))
                    mine.append(time.perf_counter() - start)
        except Exception as error:  # counted, whatever it is
            failed.append(f"{type(error).__name__}: {error}")
        with lock:
            spent.extend(mine)

    run_threads([one] * clients)
    after = server.statistics(name)
    samples = after["inference_count"] - before["inference_count"]
    runs = after["execution_count"] - before["execution_count"]
    p95 = server.quantile(name, 0.95) / 1000
    client_p95 = sorted(spent)[int(0.95 * len(spent))] * 1000
    text = (
        f"{samples / seconds:7.1f} requests/s, {samples / max(runs, 1):4.1f} samples per run, "
        f"p95 {p95:.1f} ms in the server, {client_p95:.1f} ms at the client, {len(failed)} errors"
    )
    return text, samples / seconds


def inputs(feeds: Feeds) -> list[Any]:
    """The feeds as the protocol wants them."""
    made = []
    for name, array in dict[str, Any](feeds).items():
        one = http.InferInput(name, list(array.shape), WIRE[array.dtype.name])
        one.set_data_from_numpy(array)
        made.append(one)
    return made


if __name__ == "__main__":
    main()
