"""Check an untrusted ONNX graph from its bytes, before onnxruntime sees them.

This protocol buffer reader knows the few ONNX messages that can hold something a runtime would act on: tensors in other
files, functions, operators that repeat without bound. The device has no `onnx`, and onnxruntime opens other files
silently. Bytes that aren't protocol buffers are refused; fields that hold none of these things are passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from edgeft.errors import ArtifactError

DOMAIN = "edgeft"
# SHA-256 of `canonical_form` of the functions in `edgeft.export.onnx.operators`; a test checks that they match.
BODY_SHA256 = {
    "Linear": "7b6bac168df592fc6a17f5cf347bdc487ec0c0dc914a0c20e2a3d84a76613e32",
    "GeluLinear": "3ba06b5417d642bb45ab275b5487cd53a29463597014e42be1336d5eee5db48a",
    "LinearNorm": "33de3eb18e9daaf340cd929114829dfead57a84c965d7aef00fe4ea7d55f1496",
    "GeluLinearNorm": "ea39b299e2e36894376bd0a514675024d458441999f96494e3a43577cb01e1a9",
    "Int8Weight": "39b07b45c62f52201a6bf631d4324c3392a1a93ab16797d09efcabf0ce12d502",
    "Attention": "b729f5565633dcec983db023f46ae8256504d780711f8a93a3937b82d232cd0f",
}
# They repeat as often as a file says, or read files. No graph that edgeft exports has them.
REFUSED_OPERATORS = frozenset(
    {
        *(b"Loop", b"Scan", b"SequenceMap", b"EPContext"),
        *(b"BeamSearch", b"GreedySearch", b"Sampling", b"WhisperBeamSearch"),
    }
)
MAX_FIELDS = 5_000_000
MAX_FUNCTION_BYTES = 65_536  # edgeft's largest one has 1,065
MAX_DEPTH = 60
ORT_MARK = b"ORTM"  # at byte 4 of a file in onnxruntime's own format, which onnxruntime would read instead

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # wire types; groups are refused

# Field number to message type, of the fields that are checked; numbers as in onnx.proto.
MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, TRAINING, OPSET = range(9)
CHILDREN: dict[int, dict[int, int]] = {
    MODEL: {7: GRAPH, 8: OPSET, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    TENSOR: {},
    SPARSE: {1: TENSOR, 2: TENSOR},
    FUNCTION: {7: NODE, 9: OPSET, 11: ATTRIBUTE},
    TRAINING: {},
    OPSET: {},
}
OPERATOR = 4  # of a node
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a tensor
FUNCTION_NAME, FUNCTION_DOMAIN = 1, 10

Field = tuple[int, int, int, int]  # number, wire type, then of a varint its value, of others where they begin; the end


def check_graph(content: bytes, name: str) -> None:
    """Refuse a graph that reads other files, has an operator that repeats, or functions that edgeft didn't write.

    What it allocates while it runs is for the engine to bound.

    Args:
        content: of an ONNX file.
        name: of the file, for messages.

    Raises:
        ArtifactError: it does, or it isn't an ONNX file.
    """
    if content[4:8] == ORT_MARK:
        raise ArtifactError(f"{name} is in onnxruntime's own format, which nothing can check; an artifact has ONNX")
    try:
        _walk(content)
    except ValueError as error:
        raise ArtifactError(f"{name} {error}") from None


def _walk(content: bytes) -> None:
    """Check every message of a model.

    Raises:
        ValueError: says in words that follow the file's name what it can't be.
    """
    waiting = [(MODEL, 0, len(content), 0)]  # message, its first byte and the one after its last, depth
    fields_left = MAX_FIELDS
    while waiting:
        message, start, end, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} messages, which no graph of edgeft's is")
        children = CHILDREN[message]
        for number, wire, value, after in read_fields(content, start, end):
            fields_left -= 1
            if fields_left < 0:
                raise ValueError(f"has more than {MAX_FIELDS:,} fields, which no graph of edgeft's has")
            if message == TENSOR:
                _check_tensor_field(number, value if wire == VARINT else after - value)
            elif wire == BYTES and number in children:
                child = children[number]
                if child == FUNCTION:
                    _check_function(content, value, after)
                elif child == TRAINING:
                    raise ValueError("has a part for training, which no graph of edgeft's has")
                else:
                    waiting.append((child, value, after, depth + 1))
            elif number == OPERATOR and message == NODE and content[value:after] in REFUSED_OPERATORS:
                raise ValueError(f"uses operator {content[value:after].decode()}, which no graph of edgeft's does")


def _check_tensor_field(number: int, value: int) -> None:
    if number == EXTERNAL_DATA or (number == DATA_LOCATION and value):
        raise ValueError("has external data, weights in a file that no manifest covers; save it with all inside")


def _check_function(content: bytes, start: int, end: int) -> None:
    """Refuse a function unless it is one that edgeft writes, unchanged."""
    if end - start > MAX_FUNCTION_BYTES:
        raise ValueError(f"has a function of {end - start:,} bytes; edgeft writes at most {MAX_FUNCTION_BYTES:,}")
    named: dict[int, bytes] = {}
    for number, wire, value, after in read_fields(content, start, end):
        if wire == BYTES:
            named[number] = content[value:after]
    domain, name = (named.get(number, b"").decode(errors="replace") for number in (FUNCTION_DOMAIN, FUNCTION_NAME))
    if domain != DOMAIN:
        raise ValueError(f"has a function of domain {domain[:80]!a}; only those of {DOMAIN!a} are known")
    if name not in BODY_SHA256:
        raise ValueError(f"has a function {name[:80]!a}, which this edgeft doesn't know; a newer one may")
    if body_sha256(content[start:end]) != BODY_SHA256[name]:
        raise ValueError(f"has a body of {name} that is not edgeft's, so that its kernel would be another model")


def body_sha256(function: bytes) -> str:
    """SHA-256 of a function as hex, whatever the order in which its fields were written.

    Args:
        function: a FunctionProto.

    Raises:
        ValueError: it is none.
    """
    return hashlib.sha256(repr(canonical_form(function, 0, len(function), FUNCTION)).encode()).hexdigest()


def canonical_form(content: bytes, start: int, end: int, message: int, depth: int = 0) -> list[Any]:
    """A message as (number, value) of every field, sorted by number; what is repeated keeps its order."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} messages, which no graph of edgeft's is")
    found: list[tuple[int, Any]] = []
    for number, wire, value, after in read_fields(content, start, end):
        if wire == VARINT:
            found.append((number, value))
        elif wire == BYTES and (child := CHILDREN[message].get(number)) is not None:
            found.append((number, canonical_form(content, value, after, child, depth + 1)))
        else:
            found.append((number, content[value:after]))
    return sorted(found, key=lambda pair: pair[0])


def read_fields(content: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of one message.

    Args:
        content: the whole file.
        start: first byte of the message.
        end: the one after its last.

    Yields:
        Number, wire type, of a varint its value and of others their first byte, and the byte after the field.

    Raises:
        ValueError: these bytes are no message.
    """
    at = start
    while at < end:
        tag = content[at]
        at += 1
        if tag > 0x7F:
            tag, at = _read_varint(content, at - 1, end)
        number, wire = tag >> 3, tag & 0x7
        if not 0 < number < 2**29:
            raise ValueError(f"is not an ONNX file: byte {at} begins no field")
        value = at
        if wire == BYTES:
            size, value = _read_varint(content, at, end)
            at = value + size
        elif wire == VARINT:
            value, at = _read_varint(content, at, end)
        elif wire == FOUR_BYTES:
            at += 4
        elif wire == EIGHT_BYTES:
            at += 8
        else:
            raise ValueError(f"is not an ONNX file: byte {at} begins no field")
        if at > end:
            raise ValueError(f"is not an ONNX file: a field ends at byte {at}, its message at {end}")
        yield number, wire, value, at


def _read_varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the byte after it."""
    number = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError(f"is not an ONNX file: no number ends before byte {at}")
