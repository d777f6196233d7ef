"""The part of onnxruntime's C interface that native/ort_abi.h declares by hand, against the header of a release.

Whether the installed release still has its functions there is what the kernels' own tests show: they call each one.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from runtime.ort_header import TABLE, read_header, without_comments

ABI = Path(__file__).parents[2] / "edgeft" / "runtime" / "native" / "ort_abi.h"
HEADER: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
FUNCTIONS = {
    "create_status": "CreateStatus",
    "create_domain": "CreateCustomOpDomain",
    "add_op": "CustomOpDomain_Add",
    "add_domain": "AddCustomOpDomain",
    "tensor_data": "GetTensorMutableData",
    "dimension_count": "GetDimensionsCount",
    "dimensions": "GetDimensions",
    "tensor_shape": "GetTensorTypeAndShape",
    "attribute_float": "KernelInfoGetAttribute_float",
    "attribute_int": "KernelInfoGetAttribute_int64",
    "input_count": "KernelContext_GetInputCount",
    "get_input": "KernelContext_GetInput",
    "get_output": "KernelContext_GetOutput",
    "release_shape": "ReleaseTensorTypeAndShapeInfo",
    "constant_input": "KernelInfoGetConstantInput_tensor",
    "parallel_for": "KernelContext_ParallelFor",
}
MEMBERS = {
    "version": "version",
    "create_kernel_v1": "CreateKernel",
    "name": "GetName",
    "provider": "GetExecutionProviderType",
    "input_type": "GetInputType",
    "inputs": "GetInputTypeCount",
    "output_type": "GetOutputType",
    "outputs": "GetOutputTypeCount",
    "compute_v1": "KernelCompute",
    "destroy": "KernelDestroy",
    "input_characteristic": "GetInputCharacteristic",
    "output_characteristic": "GetOutputCharacteristic",
    "input_memory": "GetInputMemoryType",
    "create": "CreateKernelV2",
    "compute": "KernelComputeV2",
    "infer_shape": "InferOutputShapeFn",
    "start_version": "GetStartVersion",
    "end_version": "GetEndVersion",
}
NUMBERS = {
    "ELEMENT_FLOAT": "ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT",
    "ELEMENT_INT8": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8",
    "ELEMENT_INT64": "ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64",
    "REQUIRED": "INPUT_OUTPUT_REQUIRED",
}
# The newest interface of the installed release, asked in a process of its own: the module in this one has it already.
ASK = """
import ctypes, sys
base = ctypes.CDLL(sys.argv[1]).OrtGetApiBase
base.restype = ctypes.POINTER(ctypes.c_void_p)
get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(base()[0])
print(ctypes.CFUNCTYPE(ctypes.c_char_p)(base()[1])().decode(), bool(get_api(int(sys.argv[2]))))
"""


def source() -> str:
    return without_comments(ABI.read_text(encoding="utf-8").replace("#define ", "define "))


def test_each_functions_index_is_the_headers() -> None:
    declared = {name: int(index) for name, index in re.findall(r"define (\w+)[\s\\]+FUNCTION\((\d+),", source())}
    assert declared == {name: HEADER["functions"].index(theirs) for name, theirs in FUNCTIONS.items()}


def test_the_structures_members_stand_in_the_headers_order() -> None:
    struct = re.search(r"struct OrtCustomOp \{(.*?)\n\};", source(), re.DOTALL)
    assert struct
    names: list[str] = []
    for statement in filter(None, map(str.strip, struct[1].split(";"))):
        match = re.search(r"\(\*(\w+)\)|(\w+)(?:\[(\d+)\])?$", statement)
        assert match, statement
        names += [match[1] or match[2]] * int(match[3] or 1)
    expected = HEADER["custom_op"]
    assert len(names) == len(expected)
    assert {name: expected[names.index(name)] for name in MEMBERS} == MEMBERS
    assert set(names) == {*MEMBERS, "variadic", "later"}


def test_numbers_and_the_base_are_the_headers() -> None:
    lines = re.findall(r"enum \{(.*?)\}", source())
    numbers = {name: int(value) for line in lines for name, value in re.findall(r"(\w+) = (\d+)", line)}
    assert {name: numbers[name] for name in NUMBERS} == {
        name: HEADER["numbers"][theirs] for name, theirs in NUMBERS.items()
    }
    assert HEADER["base"] == ["GetApi", "GetVersionString"]


def test_a_header_is_read_as_c_means_it() -> None:
    table = read_header(
        """
        #define ORT_API_VERSION 7
        struct OrtApiBase {
          const OrtApi*(ORT_API_CALL* GetApi)(uint32_t version)NO_EXCEPTION;  // a; b
        };
        struct OrtApi {
          /** \\brief Not; a (member) */
          ORT_API2_STATUS(First, _In_ int a, void (*fn)(void* x));
        #ifdef X
          ORT_CLASS_RELEASE(Thing);
        #endif
          ORT_API_T(int64_t, Third, _In_ const Thing* info);
          void*(ORT_API_CALL* Fourth)(_In_ size_t n);
        };
        struct OrtCustomOp {
          uint32_t version;
        };
        typedef enum ONNXTensorElementDataType {
          A,
          ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
          ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
          ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        } ONNXTensorElementDataType;
        typedef enum OrtCustomOpInputOutputCharacteristic {
          INPUT_OUTPUT_REQUIRED = 0,
        } OrtCustomOpInputOutputCharacteristic;
    """.replace("\n        ", "\n")
    )
    assert table["functions"] == ["First", "ReleaseThing", "Third", "Fourth"]
    assert (table["api_version"], table["base"], table["custom_op"]) == (7, ["GetApi"], ["version"])
    assert list(table["numbers"].values()) == [1, 3, 4, 0]


def test_the_installed_release_has_the_interface() -> None:
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = next(folder.glob("libonnxruntime.so.*"), None)
    if library is None:
        pytest.skip("this wheel has no libonnxruntime of its own")
    version = re.search(r"ORT_API_VERSION = (\d+)", ABI.read_text(encoding="utf-8"))
    assert version
    for wanted in (int(version[1]), min(HEADER["api_version"], int(onnxruntime.__version__.split(".")[1]))):
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(library), str(wanted)], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [onnxruntime.__version__, "True"]
    assert ctypes.sizeof(ctypes.c_void_p) == 8  # members are counted as pointers
