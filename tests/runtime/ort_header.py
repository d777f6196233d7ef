"""What onnxruntime's C header declares, as the table beside this file: `python ort_header.py onnxruntime_c_api.h`.

The wheel brings no header, so the table is made once from that of a release and kept. Its functions only ever grow at
the end: a later release has the same places.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("ort_header.json")
# How the header declares a function: by one of three macros, or as a pointer.
NAMED = re.compile(
    r"^ORT_CLASS_RELEASE\(\s*(?P<release>\w+)"
    r"|^ORT_API2_STATUS\(\s*(?P<status>\w+)"
    r"|^ORT_API_T\([^,]+,\s*(?P<other>\w+)"
    r"|\(\s*(?:ORT_API_CALL\s*)?\*\s*(?P<pointer>\w+)\)\s*\("
    r"|(?P<plain>\w+)$"
)
NUMBERS = {
    "ONNXTensorElementDataType": tuple(f"ONNX_TENSOR_ELEMENT_DATA_TYPE_{name}" for name in ("FLOAT", "INT8", "INT64")),
    "OrtCustomOpInputOutputCharacteristic": ("INPUT_OUTPUT_REQUIRED",),
}


def without_comments(text: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r"//[^\n]*|^\s*#[^\n]*", "", text, flags=re.MULTILINE)


def body(text: str, declaration: str) -> str:
    match = re.search(declaration + r"\s*\{(.*?)\n\}", text, re.DOTALL)
    assert match, f"no {declaration} in the header"
    return match[1]


def members(text: str, struct: str) -> Iterator[str]:
    """The names of a structure's members, in their order."""
    for statement in body(text, rf"struct {struct}").split(";"):
        if declaration := " ".join(statement.split()):
            match = NAMED.search(declaration)
            assert match, declaration
            yield f"Release{match['release']}" if match["release"] else next(filter(None, match.groups()))


def values(text: str, enum: str) -> dict[str, int]:
    """What an enumeration's names stand for; each counts on from the one before."""
    numbers: dict[str, int] = {}
    for item in filter(None, map(str.strip, body(text, rf"typedef enum {enum}").split(","))):
        name, _, value = item.partition("=")
        numbers[name.strip()] = int(value) if value else max(numbers.values(), default=-1) + 1
    return numbers


def read_header(text: str) -> dict[str, Any]:
    version = re.search(r"#define ORT_API_VERSION (\d+)", text)
    assert version
    text = without_comments(text)
    return {
        "api_version": int(version[1]),
        "functions": list(members(text, "OrtApi")),
        "custom_op": list(members(text, "OrtCustomOp")),
        "base": list(members(text, "OrtApiBase")),
        "numbers": {name: values(text, enum)[name] for enum, names in NUMBERS.items() for name in names},
    }


if __name__ == "__main__":
    table = read_header(Path(sys.argv[1]).read_text(encoding="utf-8"))
    table["functions"] = table["functions"][:300]  # far more than are used
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
