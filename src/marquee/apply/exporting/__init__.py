"""A finished run as an artefact that proves to be that run: ONNX, weights, or the packed run itself."""
