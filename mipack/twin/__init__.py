"""The ONNX graph as a differentiable torch function."""
