"""Packages in a real tritonserver, loaded as they are: answers, batching, warm-up, damage, load."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.http", reason="needs the extra 'serve'")

import onnx
from google.protobuf import text_format
from serving import Server, crowd
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from mipack.cli.app import app
from mipack.errors import InputError
from mipack.front import package, query
from mipack.runtime.session import Session

CLIENTS = 32
SECONDS = float(os.environ.get("MIPACK_LOAD_SECONDS", "3"))
NAMES = [f"digit {n}" for n in range(10)]


@pytest.fixture(scope="module")
def pruned(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled example cut to 40 %, the quick way, its weights in a file beside it."""
    folder = tmp_path_factory.mktemp("pruned")
    quick = ["--criterion", "magnitude", "--allocate", "uniform", "--no-refit", "--samples", "64"]
    line = ["prune", digits / "model.onnx", "--calib", digits / "calib.npz", "--keep", "0.4"]
    done = CliRunner().invoke(app, [*map(str, line), "-o", str(folder / "one.onnx"), "-q", *quick])
    assert done.exit_code == 0, done.output
    model = onnx.load(folder / "one.onnx")
    onnx.save(model, folder / "small.onnx", save_as_external_data=True, location="small.data")
    return folder / "small.onnx"


@pytest.fixture(scope="module")
def repositories(
    digits: Path, pruned: Path, toys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Packages, by the name of their model."""
    home = tmp_path_factory.mktemp("packages")
    labels = home / "labels"
    labels.write_text("\n".join(NAMES))
    package(
        pruned,
        home / "digits",
        name="digits",
        calib=digits / "calib.npz",
        original=digits / "model.onnx",
        labels=labels,
    )
    for name in ("totals", "fixed", "words"):
        package(toys / f"{name}.onnx", home / name, name=name, calib=toys / f"{name}.npz")
    package(toys / "totals.onnx", home / "damaged", name="damaged")
    file = home / "damaged" / "damaged" / "1" / "model.onnx"
    file.write_bytes(file.read_bytes()[:60])
    return {path.name: path for path in home.iterdir() if path.is_dir()}


def content(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def started(
    environment: Path, repositories: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Mapping[str, Any]]]:
    """The server on all packages, and its statistics of digits before anybody asked."""
    log = tmp_path_factory.mktemp("server") / "log"
    with Server(list(repositories.values()), log) as server:
        server.wait()
        yield server, server.statistics("digits")


@pytest.fixture
def server(started: tuple[Server, Mapping[str, Any]]) -> Server:
    return started[0]


def local(model: Path, feeds: Mapping[str, Any], output: str) -> Any:
    return Session(model, threads=1).run(feeds)[output]


# ---------------------------------------------------------------- loading


def test_packages_are_loaded_as_they_are(server: Server, repositories: Mapping[str, Path]) -> None:
    written = (repositories["digits"] / "digits" / "config.pbtxt").read_text()
    wanted = text_format.Parse(written, model_config_pb2.ModelConfig())
    assert wanted.backend == "onnxruntime"
    with server.client() as client:
        told = client.get_model_config("digits")
    assert told["backend"] == "onnxruntime"
    assert told["max_batch_size"] == wanted.max_batch_size
    assert told["parameters"]["intra_op_thread_count"]["string_value"] == "1"
    assert [one["name"] for one in told["output"]] == [one.name for one in wanted.output]


def test_the_server_writes_nothing(server: Server, repositories: Mapping[str, Path]) -> None:
    before = content(repositories["digits"])
    query(server.http, "digits", repositories["digits"] / "samples.npz")
    assert content(repositories["digits"]) == before


def test_it_is_warmed_up_before_anybody_asks(
    started: tuple[Server, Mapping[str, Any]],
) -> None:
    counted = started[1]
    assert counted["execution_count"] >= 2  # alone and as a full batch
    assert {int(one["batch_size"]) for one in counted["batch_stats"]} == {1, 32}


def test_a_damaged_model_is_refused_and_the_others_answer(
    server: Server, repositories: Mapping[str, Path], toys: Path
) -> None:
    with pytest.raises(InputError, match=r"not ready .* ONNX Runtime cannot load it"):
        query(server.http, "damaged", toys / "totals.npz")
    with pytest.raises(InputError, match="not ready"):
        query(server.grpc, "damaged", toys / "totals.npz")
    assert server.process.poll() is None
    assert query(server.http, "totals", toys / "totals.npz", model=toys / "totals.onnx").passed


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("name", ["totals", "fixed", "words"])
def test_answers_are_equal_to_the_bit(server: Server, toys: Path, name: str, protocol: str) -> None:
    url = getattr(server, protocol)
    found = query(url, name, toys / f"{name}.npz", model=toys / f"{name}.onnx")
    assert found.passed and all(one.equal for one in found.outputs), found
    assert found.protocol == protocol


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_pruned_model_answers_to_the_bit(
    server: Server, digits: Path, pruned: Path, protocol: str
) -> None:
    url = getattr(server, protocol)
    found = query(url, "digits", digits / "test.npz", model=pruned)
    assert found.requests == found.samples == 100
    assert [(one.output, one.equal, one.agreement) for one in found.outputs] == [
        ("logits", True, 1.0)
    ]
    assert 0 < found.latency_p50 <= found.latency_p95


def test_requests_of_several_samples(server: Server, digits: Path, pruned: Path) -> None:
    found = query(server.http, "digits", digits / "test.npz", model=pruned, batch_size=16)
    assert (found.requests, found.samples, found.passed) == (7, 100, True)


def test_labels_are_told(server: Server, digits: Path) -> None:
    import tritonclient.http as http

    given = np.load(digits / "test.npz")["image"][:1]
    one = http.InferInput("image", list(given.shape), "FP32")
    one.set_data_from_numpy(given)
    wanted = http.InferRequestedOutput("logits", class_count=1)
    with server.client() as client:
        answer = client.infer("digits-original", [one], outputs=[wanted]).as_numpy("logits")
    _, index, label = answer.ravel()[0].decode().split(":")
    assert label == NAMES[int(index)]


# ---------------------------------------------------------------- crowds


def test_a_crowd_is_batched_and_every_answer_is_right(
    server: Server, digits: Path, pruned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """32 clients on both models, one after the other; the server's own figures of each."""
    given = np.load(digits / "test.npz")["image"]
    lines = []
    for name, model in (("digits-original", digits / "model.onnx"), ("digits", pruned)):
        expected = local(model, {"image": given}, "logits")
        before = server.statistics(name)
        load = crowd(server, name, given, expected, clients=CLIENTS, seconds=SECONDS)
        after = server.statistics(name)
        assert load.errors == []
        assert load.requests >= CLIENTS
        assert load.worst <= 1e-5 * float(np.abs(expected).max())
        samples = after["inference_count"] - before["inference_count"]
        runs = after["execution_count"] - before["execution_count"]
        assert samples == load.requests
        assert runs < samples  # several requests went into one run
        assert after["inference_stats"]["fail"].get("count", 0) == 0
        # of runs, not of requests: there the time of a run counts for each request in it
        spent = [
            sum(int(size["compute_infer"]["ns"]) for size in counted["batch_stats"])
            for counted in (before, after)
        ]
        compute = (spent[1] - spent[0]) / samples / 1000
        p95 = server.quantile(name, 0.95) / 1000
        lines.append(
            f"{name:16} {samples / SECONDS:8.0f} requests/s, {samples / runs:5.1f} samples per "
            f"run, {compute:6.0f} µs computed for each, p95 {p95:.2f} ms"
        )
    with capsys.disabled():
        print(f"\n{CLIENTS} clients, {SECONDS:g} s each, by the server's statistics:")
        print("\n".join(lines))


# ---------------------------------------------------------------- bad input


def test_an_unknown_model(server: Server, toys: Path) -> None:
    for url in (server.http, server.grpc):
        with pytest.raises(InputError, match="no model 'other'") as told:
            query(url, "other", toys / "totals.npz")
        assert "digits-original" in told.value.hint and "totals" in told.value.hint


def test_another_model_than_the_one_here(server: Server, toys: Path, digits: Path) -> None:
    with pytest.raises(InputError, match=r"the server has image FP32 \[-1, 1, 8, 8\]") as told:
        query(server.http, "digits", toys / "totals.npz", model=toys / "totals.onnx")
    assert "the model x FP32 [-1, 4]" in str(told.value)


def test_the_wrong_protocol(server: Server, toys: Path) -> None:
    place = [url.partition("//")[2] for url in (server.http, server.grpc)]
    with pytest.raises(InputError, match="does not speak gRPC"):
        query(f"grpc://{place[0]}", "totals", toys / "totals.npz")
    with pytest.raises(InputError, match="does not speak HTTP"):
        query(f"http://{place[1]}", "totals", toys / "totals.npz")


def test_answers_that_differ_end_with_exit_code_1(server: Server, digits: Path) -> None:
    line = ["query", server.http, "digits", "--data", digits / "test.npz"]
    done = CliRunner().invoke(app, [*map(str, line), "--model", str(digits / "model.onnx"), "-q"])
    assert done.exit_code == 1
    assert "DIFFERS" in done.stdout


def test_data_that_do_not_fit(server: Server, toys: Path) -> None:
    with pytest.raises(InputError, match="image"):
        query(server.http, "digits", toys / "totals.npz")
