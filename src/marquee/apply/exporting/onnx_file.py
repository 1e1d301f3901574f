"""A graph as an ONNX file whose metadata holds what answering needs of the run."""

import base64
import contextlib
import hashlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from marquee.apply.exporting.graphs import Graph
from marquee.errors import ConfigError
from marquee.files import umask
from marquee.inference.portable.artefact import FORMAT, LARGE, MODEL, TOLD, WEIGHTS

OPSET = 18
LARGE_GRAPH = 16_000_000  # bytes from which on the weights lie in a file beside the graph
# Of a run's `inference/` folder: what the graph stands for, and what only a torch model reads.
LEFT_OUT = ("model.json", "model.safetensors", "features.json")


def write_onnx(graph: Graph, inference: Path, folder: Path, told: Mapping[str, Any], int8: bool) -> Path:
    """Write `model.onnx` into `folder`, with the files of `inference` in its metadata, and large ones beside it.

    told  what the artefact is to say of the run (see `Artefact.told`)
    """
    onnx = _package()
    file = folder / MODEL
    onnx.save(_products(onnx, graph) if graph.network is None else _traced(graph), file)
    if int8:
        _quantise(file)
    files, kept = {}, {}
    for source in sorted(path for path in inference.iterdir() if path.is_file() and path.name not in LEFT_OUT):
        content = source.read_bytes()
        files[source.name] = hashlib.sha256(content).hexdigest()
        if len(content) > LARGE:
            shutil.copyfile(source, folder / source.name)
        elif source.suffix == ".json":
            kept[source.name] = content.decode("utf-8")
        else:
            kept[source.name] = base64.b64encode(content).decode("ascii")
    content = {**told, "format": FORMAT, "kind": graph.kind, "files": files}
    content["settings"] = {**told.get("settings", {}), **graph.settings}
    model = onnx.load(file)
    pairs = {TOLD: json.dumps(content, ensure_ascii=False), **{f"file:{name}": text for name, text in kept.items()}}
    del model.metadata_props[:]  # what the exporter wrote of itself
    for key, value in pairs.items():
        model.metadata_props.add(key=key, value=value)
    model.doc_string = f"Marquee run {told['run']}, fingerprint {told['fingerprint']}"
    if file.stat().st_size < LARGE_GRAPH:
        onnx.save(model, file)
        return file
    # Weights in a file of their own are mapped into memory, not read and copied: 56 MB in place of 217 for 85 MB.
    onnx.save(model, file, save_as_external_data=True, location=file.name + WEIGHTS, size_threshold=1024)
    (folder / (file.name + WEIGHTS)).chmod(0o666 & ~umask())
    return file


def write_query(graph: Graph, file: Path) -> None:
    """Write the graph that puts out users' vectors: of a traced model `graph.query`, else a look-up."""
    onnx = _package()
    if graph.query is None:
        users, _ = graph.users
        onnx.save(_products(onnx, replace(graph, users=(users, torch.eye(users.shape[1])))), file)
        return
    onnx.save(_traced(replace(graph, network=graph.query)), file)


def _package() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--format onnx needs the package {error.name}, which comes with pip install 'marquee[export]'"
        ) from None
    return onnx


def _traced(graph: Graph) -> Any:
    """By torch.export: what depends on the data's values is refused there, and not frozen as in the older exporter."""
    shapes = {name: dict.fromkeys(graph.dynamic[name], torch.export.Dim.DYNAMIC) for name in graph.examples}
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it tells of packages that are not installed
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.network.eval(), tuple(graph.examples.values()), dynamo=True, verbose=False, opset_version=OPSET,
                dynamic_shapes=shapes, input_names=list(graph.examples), output_names=list(graph.outputs),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        why = [line.strip(" -") for line in str(error.__cause__ or error).splitlines() if line.strip()]
        raise ConfigError(
            f"--format onnx: torch.export finds no graph of this model that holds for all sizes: {' '.join(why)[:300]}"
            "\n"
            "  formats that work: torch, run"
        ) from None
    finally:
        logging.disable(former)
    return program.model_proto


def _products(onnx: Any, graph: Graph) -> Any:
    """Scores as products with constant tables: nothing to trace."""
    from onnx import TensorProto, helper, numpy_helper

    constants, nodes = [], []

    def constant(name: str, tensor: torch.Tensor) -> str:
        array = tensor.detach().cpu().float().contiguous().numpy()
        constants.append(numpy_helper.from_array(array, name))
        return name

    if graph.users is not None:
        users, items = graph.users
        inputs = [helper.make_tensor_value_info("users", TensorProto.INT64, ["batch"])]
        nodes.append(helper.make_node("Gather", [constant("user_vectors", users), "users"], ["state0"], axis=0))
        matrices = (items.T,)
    else:
        matrices = graph.matrices
        inputs = [helper.make_tensor_value_info("seen", TensorProto.FLOAT, ["batch", matrices[0].shape[0]])]
    state = "state0" if nodes else "seen"
    for number, matrix in enumerate(matrices):
        after = "scores" if number == len(matrices) - 1 else f"state{number + 1}"
        nodes.append(helper.make_node("MatMul", [state, constant(f"matrix{number}", matrix)], [after]))
        state = after
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", matrices[-1].shape[1]])
    model = helper.make_model(
        helper.make_graph(nodes, "scores", inputs, [output], constants),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10,
    )  # fmt: skip
    onnx.checker.check_model(model)
    return model


def _quantise(file: Path) -> None:
    """Weights as 8-bit integers, activations when the graph runs (ONNX Runtime's dynamic quantisation)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    former = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a step before, which changes nothing here
    try:
        # Unsigned: of signed weights ONNX Runtime has no convolution.
        quantize_dynamic(file, file, weight_type=QuantType.QUInt8)
    finally:
        logging.disable(former)
