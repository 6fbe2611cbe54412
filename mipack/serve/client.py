"""tritonclient behind one door: what speaks the v2 protocol, over HTTP or gRPC.

Whatever goes wrong on the wire becomes one line: where, what, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from mipack.errors import InputError
from mipack.serve.wire import Wire

Array = np.ndarray[Any, Any]
Protocol = Literal["http", "grpc"]
TIMEOUT = 60.0
"""Seconds to wait for an answer."""
PATIENCE = 5.0
"""Seconds to wait for a connection."""
SCHEMES: dict[str, tuple[Protocol, bool]] = {
    "http": ("http", False),
    "https": ("http", True),
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
}
WRONG_PROTOCOL = ("socket closed", "http1", "http2", "preface", "handshake", "protocol error")
"""In the words of gRPC when something answers that speaks another language, or hangs up."""


def tritonclient(part: str) -> ModuleType:
    """A module of tritonclient; InputError naming the extra where it is not installed."""
    try:
        return import_module(f"tritonclient.{part}")
    except ImportError as error:
        raise InputError(
            f"this needs tritonclient, which is not installed ({error})",
            hint="pip install 'mipack[serve]'",
        ) from error


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: `place` is host:port, with the path of a proxy behind it if any."""

    url: str
    place: str
    protocol: Protocol
    secure: bool


def parse_url(url: str, protocol: Protocol | None) -> Address:
    """The address in `http://host:port`, `grpc://host:port` or `host:port`; `protocol` wins.

    Raises InputError for any other form.
    """
    parts = urlsplit(url if "://" in url else f"{protocol or 'http'}://{url}")
    try:
        usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port is not None
    except ValueError:  # the port is no number
        usable = False
    if not usable or parts.username or parts.query or parts.fragment:
        raise InputError(
            f"{url} is not the address of a server", hint="write it like http://127.0.0.1:8000"
        )
    told, secure = SCHEMES[parts.scheme]
    chosen = protocol or told
    path = parts.path.rstrip("/") if chosen == "http" else ""
    return Address(url, f"{parts.netloc}{path}", chosen, secure)


class Client:
    """One model on one server. Use it as a context; every failure is an InputError."""

    def __init__(self, address: Address, model: str) -> None:
        self.address, self.model = address, model
        self._module = tritonclient(address.protocol)
        self._utils = tritonclient("utils")
        self._form: dict[str, Any] = {}  # how tensors travel over HTTP
        options: dict[str, Any] = {"ssl": address.secure}
        if address.protocol == "http":
            options |= {"connection_timeout": PATIENCE, "network_timeout": TIMEOUT}
            options |= {"ssl_context_factory": _context} if address.secure else {}
        with self._failures():
            self._server = self._module.InferenceServerClient(address.place, **options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def require_ready(self) -> None:
        """InputError unless the server answers and has the model ready; it says what is there."""
        with self._failures():
            about = self._server.get_server_metadata(**self._patience())
            if self.address.protocol == "http":  # bytes are an extension, numbers as text are not
                extensions = self._plain(about).get("extensions", ())
                self._form = {"binary_data": "binary_tensor_data" in extensions}
            ready = self._ready()
            listed = None if ready else self._index()
        if ready:
            return
        if listed is None:
            raise InputError(
                f"the server at {self.address.url} does not have a model {self.model!r} ready",
                hint="check the name, and the server's log",
            )
        mine = [entry for entry in listed if entry.get("name") == self.model]
        if not mine:
            names = sorted({str(entry.get("name")) for entry in listed})
            raise InputError(
                f"the server at {self.address.url} has no model {self.model!r}",
                hint=f"it has {', '.join(names) or 'none'}",
            )
        reason = next((str(e["reason"]) for e in mine if e.get("reason")), "no reason is given")
        raise InputError(
            f"model {self.model!r} is not ready on {self.address.url}: {_line(reason)}",
            hint="see the server's log",
        )

    def server(self) -> str:
        """Name and version of the server."""
        with self._failures():
            found = self._plain(self._server.get_server_metadata(**self._as_json()))
        return f"{found.get('name', 'server')} {found.get('version', '')}".strip()

    def signature(self) -> tuple[tuple[Wire, ...], tuple[Wire, ...]]:
        """(inputs, outputs) of the model as the server tells them."""
        with self._failures():
            found = self._plain(self._server.get_model_metadata(self.model, **self._as_json()))
        return _wires(found.get("inputs", ())), _wires(found.get("outputs", ()))

    def max_batch_size(self) -> int:
        """How many samples one run of the model takes; 0 where the server does not batch, or does
        not tell: configurations are Triton's extension."""
        with self._failures():
            try:
                found = self._plain(self._server.get_model_config(self.model, **self._as_json()))
            except self._utils.InferenceServerException:
                return 0
        return int(found.get("config", found).get("max_batch_size", 0))

    def infer(self, feeds: Mapping[str, Array], outputs: Sequence[Wire]) -> dict[str, Array]:
        """One request; the answer by output. Raises InputError where the server refuses it."""
        inputs = []
        for name, array in feeds.items():
            datatype = self._utils.np_to_triton_dtype(_sendable(array).dtype)
            one = self._module.InferInput(name, list(array.shape), datatype)
            one.set_data_from_numpy(_sendable(array), **self._form)
            inputs.append(one)
        wanted = [self._module.InferRequestedOutput(one.name, **self._form) for one in outputs]
        timing = {"client_timeout": TIMEOUT} if self.address.protocol == "grpc" else {}
        with self._failures():
            answer = self._server.infer(self.model, inputs, outputs=wanted, **timing)
        found = {one.name: answer.as_numpy(one.name) for one in outputs}
        return {name: _received(array, name) for name, array in found.items()}

    # -- the two protocols

    def _as_json(self) -> dict[str, Any]:
        return {"as_json": True} if self.address.protocol == "grpc" else {}

    def _patience(self) -> dict[str, Any]:
        return {"client_timeout": PATIENCE} if self.address.protocol == "grpc" else {}

    def _ready(self) -> bool:
        """Servers say "not ready" by an answer or by an error."""
        try:
            return bool(self._server.is_model_ready(self.model))
        except self._utils.InferenceServerException as error:
            if "UNAVAILABLE" in str(error.status()) and "unknown model" not in str(error):
                raise
            return False

    def _index(self) -> list[dict[str, Any]] | None:
        """The models there, ready or not; None where a server does not tell: an extension."""
        try:
            found = self._server.get_model_repository_index(**self._as_json())
        except self._utils.InferenceServerException:
            return None
        return list(found if isinstance(found, list) else found.get("models", ()))

    @staticmethod
    def _plain(found: Any) -> Mapping[str, Any]:
        return found if isinstance(found, Mapping) else {}

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """What the libraries raise, as one line."""
        try:
            yield
        except self._utils.InferenceServerException as error:
            raise self._refused(error) from error
        except Exception as error:  # sockets, parsers and pools have no common family
            raise self._unreachable(error) from error

    def _refused(self, error: Any) -> InputError:
        status, text = str(error.status() or ""), _line(error.message() or "")
        url = self.address.url
        if self.address.protocol == "grpc" and any(w in text.lower() for w in WRONG_PROTOCOL):
            return InputError(
                f"what answers at {url} does not speak gRPC: {text}",
                hint="is it the HTTP port? then --protocol http",
            )
        if "UNAVAILABLE" in status or "DEADLINE_EXCEEDED" in status:
            return _silent(url, text)
        if status in ("404", "405") and "model" not in text.lower():
            return InputError(
                f"what answers at {url} is no v2 inference server ({status})",
                hint="check host, port and path",
            )
        return InputError(
            f"the server at {url} refused: {text}", hint="check the data against its signature"
        )

    def _unreachable(self, error: Exception) -> InputError:
        url, text = self.address.url, _line(str(error)) or type(error).__name__
        if isinstance(error, (OSError, TimeoutError)):
            return _silent(url, text)
        return InputError(
            f"what answers at {url} does not speak {self.address.protocol.upper()}: {text}",
            hint="is it the gRPC port? then --protocol grpc",
        )


def _silent(url: str, text: str) -> InputError:
    return InputError(
        f"no server answers at {url}: {text}", hint="start it, or check the host and the port"
    )


def _context() -> Any:
    """Certificates are checked."""
    import ssl

    return ssl.create_default_context()


def _wires(found: Any) -> tuple[Wire, ...]:
    return tuple(
        Wire(str(one["name"]), str(one["datatype"]), tuple(int(n) for n in one.get("shape", ())))
        for one in found
    )


def _sendable(array: Array) -> Array:
    """Text travels as objects."""
    return array.astype(object) if array.dtype.kind in "US" else np.ascontiguousarray(array)


def _received(array: Array | None, name: str) -> Array:
    if array is None:
        raise InputError(f"the server's answer lacks output {name!r}", hint="see its log")
    if array.dtype.kind != "O":
        return array
    text = [e.decode("utf-8", "replace") if isinstance(e, bytes) else str(e) for e in array.flat]
    return np.array(text, dtype=object).reshape(array.shape)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300]
