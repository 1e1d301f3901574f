"""Answers from an exported run: ONNX Runtime and NumPy, and no torch."""
