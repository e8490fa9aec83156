"""Networks: architectures, checkpoints, ONNX graphs, what a model's images go through. May import core and data."""
