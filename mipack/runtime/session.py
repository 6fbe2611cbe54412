"""ONNX Runtime behind one door: a session that takes and returns named arrays.

Facts behind the settings: a provider that cannot load raises nothing and leaves a CPU session, so
`providers` is read back; spinning threads of one session take the core from the next, so spinning
is off; with optimisation off a run does what the file says and nothing else, which proofs need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipack.errors import InputError, RuntimeFailure, UnsupportedError

if TYPE_CHECKING:
    import numpy as np

UNKNOWN_OP = tuple(
    map(
        re.compile,
        (
            r"(?P<domain>[\w.-]*):(?P<op>\w+)\(-?\d+\) is not a registered function/op",
            r'In Node, \("(?P<node>[^"]*)", (?P<op>\w+), "(?P<domain>[^"]*)", -?\d+\)'
            r".*(No Op registered|No opset import)",
            r"Could not find an implementation for (?:(?P<domain>[\w.-]+)[.:])?(?P<op>\w+)\(\d+\)"
            r" node with name '(?P<node>[^']*)'",
        ),
    )
)
"""How the runtime says that it has no such op, or none for these types."""

Feeds = Mapping[str, "np.ndarray[Any, Any]"]
Arrays = dict[str, "np.ndarray[Any, Any]"]


CPU = "CPUExecutionProvider"
PROVIDERS = {"cpu": CPU, "cuda": "CUDAExecutionProvider"}

_LIBRARIES: ContextVar[tuple[Path, ...]] = ContextVar("libraries of custom ops", default=())


@contextmanager
def custom_ops(*libraries: Path | str) -> Iterator[None]:
    """Every session made inside knows the ops of these shared libraries.

    Raises InputError where a library is not there; a session raises it where one does not load.
    """
    paths = tuple(Path(library).resolve() for library in libraries)
    for library in paths:
        if not library.is_file():
            raise InputError(f"{library} is not a file", hint="give the library of the custom ops")
    token = _LIBRARIES.set((*_LIBRARIES.get(), *paths))
    try:
        yield
    finally:
        _LIBRARIES.reset(token)


def loaded_libraries() -> tuple[Path, ...]:
    """The libraries of custom ops in use here, for a process that is to use them too."""
    return _LIBRARIES.get()


@dataclass(frozen=True, slots=True)
class Weight:
    """An array, and the number of its type in ONNX, for NumPy has not all of them."""

    array: np.ndarray[Any, Any]
    kind: int

    @property
    def plain(self) -> np.ndarray[Any, Any]:
        """The same bytes as a type of NumPy's own."""
        own = self.array.dtype.isbuiltin == 1
        return self.array if own else self.array.view(f"u{self.array.itemsize}")


@dataclass(frozen=True, slots=True)
class Parts:
    """A model in memory: its message, without the large weights, and these where they lie."""

    message: bytes
    weights: Mapping[str, Weight]


Source = bytes | Path | Parts


class Session:
    """A loaded model. `model` is serialized bytes, the parts of one in memory, or a path where
    external data lies beside it.

    `provider` is cpu, cuda or a provider's full name; the CPU takes what it cannot run, unless
    `strict`: then InputError says so. Raises UnsupportedError where the runtime has no kernel or
    opset for the model, InputError for a file it cannot read.
    """

    def __init__(
        self,
        model: Source,
        *,
        optimize: bool = True,
        threads: int | None = None,
        provider: str = "cpu",
        strict: bool = False,
        profile: Path | None = None,
        optimized: Path | None = None,
    ) -> None:
        import onnxruntime as ort

        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        if optimized is not None:  # the graph as the runtime runs it; weights in a file beside it
            options.optimized_model_filepath = str(optimized)
            beside = "session.optimized_model_external_initializers_"
            options.add_session_config_entry(f"{beside}file_name", f"{optimized.name}.data")
            options.add_session_config_entry(f"{beside}min_size_in_bytes", "64")
        registered(options, loaded_libraries())
        source = self._source(model, options)
        wanted = PROVIDERS.get(provider, provider)
        if strict and wanted != CPU:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [wanted] if strict else [*dict.fromkeys((wanted, CPU))]
        try:
            with redirect_stdout(StringIO()):  # where it says that it falls back
                self._session = ort.InferenceSession(source, options, providers=providers)
        except Exception as error:
            alone = strict and wanted != CPU
            raise _alone(wanted, _first_line(error)) if alone else _explain(error) from error
        self.providers = tuple(self._session.get_providers())
        if strict and wanted not in self.providers:
            raise _alone(wanted, "the runtime took another")
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())
        overridable = {value.name for value in self._session.get_overridable_initializers()}
        self._accepted = overridable.union(self.inputs)

    def _source(self, model: Source, options: Any) -> bytes | str:
        """What the runtime loads; weights are its own from then on, and stay as long as it does."""
        if not isinstance(model, Parts):
            return model if isinstance(model, bytes) else str(model)
        from onnxruntime import OrtValue

        self._weights = model.weights
        values = [
            OrtValue.ortvalue_from_numpy_with_onnx_type(weight.plain, weight.kind)
            for weight in model.weights.values()
        ]
        options.add_external_initializers(list(model.weights), values)
        return model.message

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> Arrays:
        """One run; feeds beyond the model's inputs are ignored.

        Raises InputError where the runtime refuses these feeds.
        """
        wanted = list(self.outputs if outputs is None else outputs)
        known = {name: feeds[name] for name in feeds if name in self._accepted}
        try:
            return dict(zip(wanted, self._session.run(wanted, known), strict=True))
        except Exception as error:
            raise InputError(
                f"ONNX Runtime refused a run: {_first_line(error)}",
                hint="check the inputs' shapes and values against the model's signature",
            ) from error

    @property
    def on_gpu(self) -> bool:
        """Whether the CUDA provider is really in use."""
        return "CUDAExecutionProvider" in self.providers

    def run_on_gpu(self, feeds: Feeds, outputs: Sequence[str]) -> dict[str, Any]:
        """One run through IO binding; results stay on the device and speak DLPack."""
        binding = self._session.io_binding()
        for name in feeds:
            if name in self._accepted:
                binding.bind_cpu_input(name, feeds[name])
        for name in outputs:
            binding.bind_output(name, "cuda")
        self._session.run_with_iobinding(binding)
        return dict(zip(outputs, binding.get_outputs(), strict=True))

    def end_profiling(self) -> Path:
        """Stop profiling and return the path of the trace."""
        return Path(self._session.end_profiling())


def registered(options: Any, libraries: Sequence[Path]) -> Any:
    """The session options, with the ops of these libraries known."""
    for library in libraries:
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:
            raise InputError(
                f"{library} cannot be loaded as a library of custom ops: {_first_line(error)}",
                hint="it must be built for this machine and export RegisterCustomOps",
            ) from error
    return options


def _alone(provider: str, reason: str) -> InputError:
    return InputError(
        f"{provider} does not run this model by itself: {reason}",
        hint="mipack env shows what works here; auto lets the CPU take the rest",
    )


def _first_line(error: Exception) -> str:
    text = str(error).split("Non-zero status code")[-1]
    return " ".join(text.split())[:300]


def _explain(error: Exception) -> Exception:
    """The runtime's exception as one of ours, with what the user can do."""
    text = _first_line(error)
    unknown = next(filter(None, (pattern.search(str(error)) for pattern in UNKNOWN_OP)), None)
    if unknown is not None:
        found = {"domain": "", "node": "", **unknown.groupdict()}
        return UnsupportedError(
            f"ONNX Runtime has no op {found['op']} of domain {found['domain'] or 'ai.onnx'} "
            f"that fits this model: {text}",
            hint="where a library of custom ops has it, load that: --custom-ops LIB",
            node=found["node"],
            op=found["op"],
        )
    if "opset" in text.lower():
        return UnsupportedError(
            f"ONNX Runtime does not know this opset: {text}", hint="update onnxruntime"
        )
    if any(word in text for word in ("INVALID_GRAPH", "INVALID_PROTOBUF", "NO_SUCHFILE", "FAIL")):
        return InputError(f"ONNX Runtime cannot load this model: {text}", hint="is the file whole?")
    return RuntimeFailure(f"ONNX Runtime failed: {text}")


def working_provider(wanted: str) -> str:
    """`auto` is CUDA only where a session really gets it.

    Raises InputError where `cuda` is asked for and cannot run.
    """
    from mipack.runtime.machine import TINY_MODEL

    if wanted == "cpu":
        return "cpu"
    import onnxruntime as ort

    listed = "CUDAExecutionProvider" in ort.get_available_providers()
    if listed and Session(TINY_MODEL, provider="cuda").on_gpu:
        return "cuda"
    if wanted == "cuda":
        raise InputError(
            "the CUDA provider cannot run here", hint="mipack env shows what works; use auto or cpu"
        )
    return "cpu"


def strict_provider(wanted: str) -> tuple[str, bool]:
    """A provider's name for `Session`, and whether nothing else may run: all but `auto`.

    `wanted` is auto, a provider's name or the beginning of one in any case (cuda, tensorrt).
    Raises InputError where the installed runtime has no such provider.
    """
    if wanted == "auto":
        return working_provider("auto"), False
    import onnxruntime as ort

    listed = list(ort.get_available_providers())
    found = [name for name in listed if name.lower().startswith(wanted.lower())]
    if not wanted or len(found) != 1:
        raise InputError(
            f"--provider {wanted}: the installed runtime has no such provider",
            hint=f"give auto or one of {', '.join(listed)}",
        )
    return found[0], True
