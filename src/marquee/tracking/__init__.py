"""Views of a run somewhere else (W&B, TensorBoard, curves); nothing is ever read back from them."""
