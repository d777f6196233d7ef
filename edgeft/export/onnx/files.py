"""Writing and reading ONNX files in memory that is hardly more than the model's."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import onnx

VARINT, BYTES = 0, 2  # wire types of protocol buffers


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model one initializer at a time, where `onnx.save` would hold all of it twice more.

    What stands in a file twice is merged by every reader of protocol buffers: the graph, and in it the initializers.
    """
    graph = _drop_field(model.graph, "initializer")
    with path.open("wb") as file:
        file.write(_drop_field(model, "graph"))
        file.write(_field_head(onnx.ModelProto, "graph", len(graph)) + graph)
        for tensor in model.graph.initializer:
            raw, rest = tensor.raw_data, _drop_field(tensor, "raw_data")
            if tensor.HasField("raw_data"):
                rest += _field_head(onnx.TensorProto, "raw_data", len(raw))
            inner = _field_head(onnx.GraphProto, "initializer", len(rest) + len(raw)) + rest
            file.write(_field_head(onnx.ModelProto, "graph", len(inner) + len(raw)) + inner)
            file.write(raw)


def _drop_field(message: Any, left_out: str) -> bytes:
    """A message but for one of its fields."""
    light = type(message)()
    for name in (kind.name for kind in message.DESCRIPTOR.fields if kind.name != left_out):
        value = getattr(message, name)
        if hasattr(value, "extend"):
            getattr(light, name).extend(value)
        elif message.HasField(name) and hasattr(value, "CopyFrom"):
            getattr(light, name).CopyFrom(value)
        elif message.HasField(name):
            setattr(light, name, value)
    return bytes(light.SerializeToString(deterministic=True))


def load(path: Path) -> onnx.ModelProto:
    """Read a model that `save` wrote one field at a time, where `onnx.load` would hold all of it twice for a while."""
    model = onnx.ModelProto()
    with path.open("rb") as file:
        while piece := _read_field(file):
            model.MergeFromString(piece)
    return model


def _field_head(kind: Any, name: str, length: int) -> bytes:
    """What stands before the bytes of a field: its number and wire type, and how many bytes follow."""
    return _write_varint(kind.DESCRIPTOR.fields_by_name[name].number << 3 | BYTES) + _write_varint(length)


def _write_varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first; the highest bit of a byte says that more follow."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _read_field(file: IO[bytes]) -> bytes:
    """The next field of a message with its head; empty: the file ends."""
    head = _read_varint(file)
    if not head:
        return b""
    if head[0] & 0x7 == VARINT:
        return head + _read_varint(file)
    assert head[0] & 0x7 == BYTES, f"{file.name}: ONNX has no such field"
    length = _read_varint(file)
    size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(length))
    return b"".join([head, length, file.read(size)])


def _read_varint(file: IO[bytes]) -> bytes:
    found = bytearray()
    while byte := file.read(1):
        found += byte
        if byte[0] < 0x80:
            break
    return bytes(found)
