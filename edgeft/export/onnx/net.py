"""A graph that can be walked and rewritten: who makes a value, who uses it, and its constants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


class Net:
    """A model's graph, indexed. After nodes were replaced, `settle` makes it whole again.

    Attributes:
        model: the model; changed in place.
        maker: value to the node that makes it.
        users: value to the nodes that use it.
        outputs: names of the graph's outputs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.outputs = {value.name for value in model.graph.output}
        self._index()

    def _index(self) -> None:
        self.maker = {name: node for node in self.model.graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.model.graph.node:
            for name in node.input:
                self.users[name].append(node)
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The values of an initializer; None: it is none."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The axes of an initializer; None: it is none."""
        tensor = self._constants.get(name)
        return None if tensor is None else tuple(tensor.dims)

    def add_constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Add an initializer, whose name it returns; one of the same name is replaced."""
        tensor = numpy_helper.from_array(np.array(values, order="C"), name)
        if name in self._constants:
            self._constants[name].CopyFrom(tensor)
        else:
            self.model.graph.initializer.append(tensor)
            self._constants[name] = self.model.graph.initializer[-1]
        return name

    def only_user(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that alone uses a value, when it is of this kind and the value is no output of the graph."""
        users = self.users[name]
        alone = len(users) == 1 and users[0].op_type == kind and name not in self.outputs
        return users[0] if alone else None

    def replace(self, old: Iterable[onnx.NodeProto], new: Iterable[onnx.NodeProto]) -> None:
        """Take nodes out and others in; their order is mended here."""
        gone = {node.output[0] for node in old}
        nodes = [node for node in self.model.graph.node if node.output[0] not in gone]
        self._set([*nodes, *new])

    def settle(self) -> onnx.ModelProto:
        """Drop what nothing uses, and return the model."""
        needed: set[str] = set()
        waiting = list(self.outputs)
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting.extend(self.maker[name].input if name in self.maker else ())
        self._set([node for node in self.model.graph.node if needed.intersection(node.output)])
        tensors = self.model.graph.initializer
        for place in reversed(range(len(tensors))):  # one by one: what is put in anew is a copy, and the old one stays
            if tensors[place].name not in needed:
                del tensors[place]
        del self.model.graph.value_info[:]
        self._index()
        return self.model

    def _set(self, nodes: Iterable[onnx.NodeProto]) -> None:
        ordered = _sort_nodes([_copy(node) for node in nodes], {*self._constants, *self._inputs, ""})
        del self.model.graph.node[:]
        self.model.graph.node.extend(ordered)
        self._index()

    @cached_property
    def _inputs(self) -> set[str]:
        return {value.name for value in self.model.graph.input}


@dataclass(frozen=True)
class Linear:
    """A matrix product with a constant weight, and the bias that follows it.

    Attributes:
        net: that it is of.
        name: of the weight.
        nodes: the nodes that it consists of.
        x: the value that goes in, (..., K).
        y: the value that comes out, (..., N).
        shape: K and N.
        transposed: whether the weight is kept as (N, K).
        bias_name: of the bias; empty: there is none.
    """

    net: Net
    name: str
    nodes: tuple[onnx.NodeProto, ...]
    x: str
    y: str
    shape: tuple[int, int]
    transposed: bool = False
    bias_name: str = ""

    @property
    def product(self) -> str:
        """The product before its bias."""
        output: str = self.nodes[0].output[0]
        return output

    @property
    def weight(self) -> NDArray[np.float32]:
        """(K, N); read anew each time, so that nobody keeps all weights a second time."""
        weight = _f32(self.net.constant(self.name))
        return np.ascontiguousarray(weight.T) if self.transposed else weight

    @property
    def bias(self) -> NDArray[np.float32]:
        """(N)."""
        return _f32(self.net.constant(self.bias_name)) if self.bias_name else np.zeros(self.shape[1], dtype=np.float32)


def find_linears(net: Net) -> list[Linear]:
    """Every matrix product with a constant weight, in the order of the graph."""
    return [found for node in net.model.graph.node if (found := match_linear(net, node)) is not None]


def match_linear(net: Net, node: onnx.NodeProto) -> Linear | None:
    """The matrix product that begins at this node; None: it is none."""
    if node.op_type == "Gemm":
        return _match_gemm(net, node)
    axes = net.shape(node.input[1]) if node.op_type == "MatMul" else None
    if axes is None or len(axes) != 2:
        return None
    shape = (axes[0], axes[1])
    add = net.only_user(node.output[0], "Add")
    for name in add.input if add is not None else ():
        if add is not None and net.shape(name) == shape[1:]:
            return Linear(net, node.input[1], (node, add), node.input[0], add.output[0], shape, bias_name=name)
    return Linear(net, node.input[1], (node,), node.input[0], node.output[0], shape)


def _match_gemm(net: Net, node: onnx.NodeProto) -> Linear | None:
    options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    plain = options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0 and not options.get("transA", 0)
    axes = net.shape(node.input[1])
    if axes is None or not plain:
        return None
    transposed = bool(options.get("transB", 0))
    shape = (axes[1], axes[0]) if transposed else (axes[0], axes[1])
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias and net.shape(bias) != shape[1:]:
        return None
    return Linear(net, node.input[1], (node,), node.input[0], node.output[0], shape, transposed, bias)


def _f32(values: NDArray[np.generic] | None) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def _sort_nodes(nodes: list[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """The nodes in an order in which each comes after what it uses; otherwise as they were."""
    made = {name: index for index, node in enumerate(nodes) for name in node.output}
    placed: set[int] = set()
    opened: set[int] = set()
    ordered: list[onnx.NodeProto] = []
    for start in range(len(nodes)):
        stack = [start]
        while stack:
            index = stack[-1]
            wanted = [made[name] for name in nodes[index].input if name not in known and made[name] not in placed]
            if index not in placed and not wanted:
                placed.add(index)
                ordered.append(nodes[index])
            if index in placed:
                stack.pop()
            elif index in opened:
                raise ValueError(f"the graph has a circle through {nodes[index].output[0]}")
            else:
                opened.add(index)
                stack.extend(wanted)
    return ordered
