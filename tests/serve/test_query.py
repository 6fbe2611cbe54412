"""`query` without a server that deserves the name: addresses, silence, comparisons."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tritonclient.http", reason="needs the extra 'serve'")

from mipack.errors import InputError
from mipack.front import query
from mipack.serve import client
from mipack.serve.client import parse_url
from mipack.serve.compare import Answer, Comparison


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 2.0)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_server(toys: Path, silent_port: int, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{silent_port}"
    with pytest.raises(InputError, match=f"no server answers at {url}") as told:
        query(url, "totals", toys / "totals.npz")
    assert "start it" in told.value.hint


def test_a_server_of_something_else(toys: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="no v2 inference server"):
            query(f"http://127.0.0.1:{other.server_port}", "totals", toys / "totals.npz")
        other.shutdown()


def test_a_server_with_the_bare_protocol(toys: Path) -> None:
    """No configurations, no list of models, no bytes: these are extensions."""
    tensor = {"datatype": "FP32", "shape": [-1, 4]}
    known = {
        "/v2": {"name": "bare", "version": "1", "extensions": []},
        "/v2/models/mixed/ready": {},
        "/v2/models/mixed": {
            "name": "mixed",
            "inputs": [{"name": "x", **tensor}],
            "outputs": [{"name": "y", **tensor}],
        },
    }

    class Bare(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(known.get(self.path))

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
            if not self.path.endswith("/infer"):
                return self.answer(None)
            size = given["inputs"][0]["shape"]
            values = [0.25] * (size[0] * size[1])
            out = {"name": "y", "datatype": "FP32", "shape": size, "data": values}
            self.answer({"model_name": "mixed", "outputs": [out]})

        def answer(self, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(404 if document is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Bare) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        found = query(url, "mixed", toys / "mixed.npz", model=toys / "mixed.onnx")
        assert (found.server, found.requests, found.passed) == ("bare 1", 6, False)
        with pytest.raises(InputError, match="does not have a model 'other' ready"):
            query(url, "other", toys / "mixed.npz")
        other.shutdown()


@pytest.mark.parametrize(
    "url", ["", "http://", "ftp://a:1", "http://host", "http://host:port", "http://a:1?x=1", "a b"]
)
def test_no_address(toys: Path, url: str) -> None:
    with pytest.raises(InputError, match="is not the address of a server"):
        query(url, "totals", toys / "totals.npz")


def test_addresses() -> None:
    assert parse_url("host:8000", None).protocol == "http"
    assert parse_url("grpc://host:8001", None).protocol == "grpc"
    found = parse_url("http://host:8001", "grpc")
    assert (found.protocol, found.place) == ("grpc", "host:8001")
    assert parse_url("https://host:443/base/", None).place == "host:443/base"


def test_missing_external_data_of_the_model_here(digits: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(digits / "model.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    (tmp_path / "m.data").unlink()
    with pytest.raises(InputError, match=r"external data file m\.data"):
        query("127.0.0.1:1", "m", digits / "test.npz", model=tmp_path / "m.onnx")


# ---------------------------------------------------------------- comparing


def compared(served: object, local: object, tolerance: float | None = None) -> Answer:
    one = Comparison("y", tolerance)
    one.add(np.asarray(served), np.asarray(local))
    return one.answer()


def test_differences_are_relative_to_the_largest_value() -> None:
    local = np.array([[100.0, 0.0], [1.0, 2.0]], np.float32)
    found = compared(local + np.array([[0.0, 0.005], [0.0, 0.0]], np.float32), local)
    assert found.max_absolute == pytest.approx(0.005)
    assert found.max_relative == pytest.approx(5e-5)
    assert found.passed and not found.equal
    assert not compared(local + np.float32(0.02), local).passed
    assert compared(local + np.float32(0.02), local, tolerance=1e-3).passed


def test_agreement_is_of_the_first_class() -> None:
    local = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert compared(local[::-1], local).agreement == 0.0
    assert compared(local, local).agreement == 1.0
    assert compared(local[:, 0], local[:, 0]).agreement is None


def test_what_has_no_distance_must_be_equal() -> None:
    odd = np.array([np.nan, np.inf, 1.0], np.float32)
    assert compared(odd, odd).passed and compared(odd, odd).equal
    assert not compared(np.zeros(3, np.float32), odd).passed
    assert not compared(odd, np.zeros(3, np.float32)).passed
    assert compared([1, 2], [1, 2]).passed and not compared([1, 3], [1, 2]).passed
    words = np.array(["a", "b"], object)
    assert compared(words, words).equal and not compared(words[::-1], words).passed


def test_half_precision_has_a_wider_default() -> None:
    local = np.array([1.0, 2.0], np.float16)
    assert compared(local + np.float16(0.01), local).tolerance == 1e-2


def test_another_number_of_values() -> None:
    with pytest.raises(InputError, match="the server answers"):
        compared(np.zeros((1, 3)), np.zeros((1, 4)))
