"""A stand-in for Triton's onnxruntime backend, as a Python-based backend of that name.

It serves NAME/VERSION/model.onnx with ONNX Runtime and honours what mipack writes into
config.pbtxt: thread counts, batching, text. Runs inside tritonserver, in an environment of its own.
"""

import json
import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

if int(np.__version__.split(".")[0]) >= 2:
    # The wheel's stub reads arrays of numpy 2 wrongly: numbers come out wrong without an error.
    raise ImportError("this backend needs numpy<2, found " + np.__version__)


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        settings = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(settings.get("intra_op_thread_count", 0))
        options.inter_op_num_threads = int(settings.get("inter_op_thread_count", 0))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = config.get("default_model_filename") or "model.onnx"
        path = os.path.join(args["model_repository"], args["model_version"], file)
        try:
            self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise pb_utils.TritonModelException(f"ONNX Runtime cannot load it: {error}") from error
        self.batched = config["max_batch_size"] > 0
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.outputs = [one.name for one in self.session.get_outputs()]
        self._check([one["name"] for one in config["input"]], self.inputs)
        self._check([one["name"] for one in config["output"]], self.outputs)

    def execute(self, requests):
        feeds = [self._feed(request) for request in requests]
        together = {}  # what agrees in all but the batch axis runs at once
        for at, feed in enumerate(feeds):
            key = tuple(feed[n].shape[1:] for n in self.inputs) if self.batched else at
            together.setdefault(key, []).append(at)
        answers = [None] * len(requests)
        for members in together.values():
            try:
                for at, outputs in zip(
                    members, self._run([feeds[at] for at in members]), strict=True
                ):
                    answers[at] = pb_utils.InferenceResponse(outputs)
            except Exception as error:
                for at in members:
                    answers[at] = pb_utils.InferenceResponse(
                        output_tensors=[], error=pb_utils.TritonError(f"ONNX Runtime: {error}")
                    )
        return answers

    def _feed(self, request):
        feed = {}
        for name in self.inputs:
            array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            if array.dtype == object:
                array = np.array([e.decode() for e in array.flat], object).reshape(array.shape)
            feed[name] = array
        return feed

    def _run(self, feeds):
        joined = feeds[0]
        if len(feeds) > 1:
            joined = {n: np.concatenate([feed[n] for feed in feeds]) for n in self.inputs}
        answers = self.session.run(self.outputs, joined)
        if len(feeds) == 1:
            return [[_tensor(n, a) for n, a in zip(self.outputs, answers, strict=True)]]
        ends = np.cumsum([len(feed[self.inputs[0]]) for feed in feeds])[:-1]
        parts = zip(*(np.split(answer, ends) for answer in answers), strict=True)
        return [[_tensor(n, a) for n, a in zip(self.outputs, part, strict=True)] for part in parts]

    @staticmethod
    def _check(told, there):
        if sorted(told) != sorted(there):
            raise pb_utils.TritonModelException(f"config.pbtxt has {told}, the model {there}")


def _tensor(name, array):
    array = np.asarray(array)
    if array.dtype == object:
        array = np.array([e.encode() for e in array.flat], object).reshape(array.shape)
    return pb_utils.Tensor(name, np.ascontiguousarray(array).reshape(array.shape))
