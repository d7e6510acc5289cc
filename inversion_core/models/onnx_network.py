"""A network from an ONNX file as a PyTorch module, so that a gradient can be had of it.

Only what plain convolutional networks are made of (`OPERATORS`); anything else is refused by name. Nothing of the
file is run: it is a list of operations and arrays. Reading it wants the package `onnx`, which is wanted only here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inversion_core.errors import OptionInvalid, PackInvalid

Attributes = Mapping[str, Any]


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(
        x, weight, bias, stride=tuple(attributes.get("strides", (1, 1))), padding=(top, left),
        dilation=tuple(attributes.get("dilations", (1, 1))), groups=attributes.get("group", 1),
    )  # fmt: skip


def _batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _prelu(_: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _clip(attributes: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    bounds = [
        attributes.get("min") if low is None else float(low),
        attributes.get("max") if high is None else float(high),
    ]
    return x.clamp(*bounds)


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if attributes.get("transA") else a
    product: Tensor = attributes.get("alpha", 1.0) * (a @ (b.T if attributes.get("transB") else b))
    return product if c is None else product + attributes.get("beta", 1.0) * c


def _reshape(_: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """The first dimension is the batch's, whatever was written into the file."""
    return x.reshape(len(x), *[int(size) for size in shape[1:]])


OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "Add": lambda _, a, b: a + b,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": lambda attributes, x: x.flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(dim=(2, 3), keepdim=True),
    "Identity": lambda _, x: x,
    "Mul": lambda _, a, b: a * b,
    "PRelu": _prelu,
    "Relu": lambda _, x: F.relu(x),
    "Reshape": _reshape,
    "Sub": lambda _, a, b: a - b,
}
"""What is understood, by ONNX's names; each takes the node's attributes, then its inputs."""


class OnnxNetwork(nn.Module):
    """The graph of an ONNX file with one input and one output, frozen, float32, any batch size."""

    def __init__(self, file: Path):
        """Read `file`.

        Raises:
            OptionInvalid: the package onnx is not installed.
            PackInvalid: the file is missing or broken, or has an operation that is not in `OPERATORS`.
        """
        super().__init__()
        graph = _read(file)
        if unknown := sorted({node.op_type for node in graph.node} - {"Constant", *OPERATORS}):
            raise PackInvalid(f"{file} has operations that are not understood: {', '.join(unknown)}")
        self._arrays: dict[str, str] = {}
        self._numbers: dict[str, Tensor] = {}
        """Bounds and shapes: they stay with the host, which would have to wait for them elsewhere."""
        for name, array in _arrays(graph):
            if array.ndim == 0 or not array.is_floating_point():
                self._numbers[name] = array
                continue
            self._arrays[name] = f"array_{len(self._arrays)}"
            self.register_buffer(self._arrays[name], array, persistent=False)
        inputs = [each.name for each in graph.input if each.name not in self._arrays | self._numbers]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise PackInvalid(f"{file} has {len(inputs)} inputs and {len(graph.output)} outputs; wanted is one of each")
        self._input, self._output = inputs[0], graph.output[0].name
        self._nodes = [
            (OPERATORS[node.op_type], _attributes(node), list(node.input), node.output[0])
            for node in graph.node
            if node.op_type != "Constant"
        ]

    def forward(self, x: Tensor) -> Tensor:
        """The output for one input, batch first."""
        values: dict[str, Tensor | None] = {name: getattr(self, buffer) for name, buffer in self._arrays.items()}
        values |= self._numbers | {"": None, self._input: x}  # "" is ONNX's name of an input that is left out
        for operator, attributes, inputs, output in self._nodes:
            values[output] = operator(attributes, *[values[name] for name in inputs])
        result = values[self._output]
        assert result is not None
        return result


def _read(file: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise OptionInvalid(
            "an ONNX network is read by the package onnx, which is not installed: "
            "pip install 'stylegan-inversion[training]', or leave --identity out"
        ) from error
    try:
        return onnx.load(str(file)).graph
    except Exception as error:  # a decoding error of protobuf, or the system's
        raise PackInvalid(f"{file} is no ONNX file: {error}") from error


def _arrays(graph: Any) -> list[tuple[str, Tensor]]:
    """Weights and constants by name."""
    from onnx import numpy_helper

    constants = [
        (node.output[0], attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    stored = [(each.name, each) for each in graph.initializer] + constants
    return [(name, torch.from_numpy(numpy_helper.to_array(proto).copy())) for name, proto in stored]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
