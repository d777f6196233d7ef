"""The calibrated graph against numpy: every method, both functions, labels of texts and of tokens."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeft.artifact import Calibration
from edgeft.compress.calibrate import scaling
from edgeft.export.onnx import graph

METHODS = ("none", "temperature", "vector", "isotonic")
Function = Literal["Softmax", "Sigmoid"]


def plain(axes: list[Any], function: Function) -> onnx.ModelProto:
    """A graph whose logits are its input."""
    given = helper.make_tensor_value_info("given", TensorProto.FLOAT, axes)
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, axes)
    body = helper.make_graph([helper.make_node("Identity", ["given"], ["logits"])], "plain", [given], [made])
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return graph.add_probabilities(proto, function)


def answers(proto: onnx.ModelProto, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(["probabilities"], {"given": logits})[0]
    return found


def fitted(method: str, several: bool) -> Calibration:
    """A calibration of 400 rows whose third label is rare; its table is shorter than the others."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(400, 3)) - [0, 0, 5]
    chances = scaling.to_probabilities(logits / 2, several)
    if several:
        return scaling.METHODS[method](logits, (generator.random((400, 3)) < chances).astype(int))
    return scaling.METHODS[method](logits, np.array([generator.choice(3, p=row) for row in chances]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("function", ["Softmax", "Sigmoid"])
@pytest.mark.parametrize("tokens", [None, 5])
def test_the_graph_answers_as_numpy_does(method: str, function: Function, tokens: int | None) -> None:
    several = function == "Sigmoid"
    calibration = fitted(method, several)
    axes, shape = (["batch", 3], (40, 3)) if tokens is None else (["batch", "tokens", 3], (8, tokens, 3))
    logits = np.random.default_rng(1).normal(size=shape).astype(np.float32) * 6
    logits[0] = [40.0, -40.0, 0.0]  # beyond every point of a table
    expected = scaling.to_probabilities(scaling.apply_calibration(calibration, logits.reshape(-1, 3), several), several)
    given = answers(graph.set_calibration(plain(axes, function), calibration), logits)
    np.testing.assert_allclose(given.reshape(-1, 3), expected, atol=1e-5 if method != "isotonic" else 2e-3)
    if not several:
        np.testing.assert_allclose(given.sum(axis=-1), 1, atol=1e-6)


def test_a_table_by_hand() -> None:
    """Scores 0, 1/4, 1/2, 3/4 and 1 on the points and between them; a table of one point is a constant."""
    tables = [[(0.25, 0.1), (0.5, 0.3), (1.0, 0.9)], [(0.4, 0.2)]]
    proto = graph.set_calibration(plain(["batch", 2], "Sigmoid"), Calibration(method="isotonic", isotonic=tables))
    odds = np.log([1e-9, 1 / 3, 1.0, 3.0, 1e9]).astype(np.float32)
    given = answers(proto, np.stack([odds, odds], axis=1))
    np.testing.assert_allclose(given[:, 0], [0.1, 0.1, 0.3, 0.6, 0.9], atol=1e-6)
    np.testing.assert_allclose(given[:, 1], 0.2, atol=1e-6)


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("second", METHODS)
def test_a_calibration_takes_the_place_of_another(first: str, second: str) -> None:
    calibration = fitted(second, several=False)
    again = graph.set_calibration(plain(["batch", 3], "Softmax"), fitted(first, several=False))
    once = graph.set_calibration(plain(["batch", 3], "Softmax"), calibration)
    assert graph.set_calibration(again, calibration).SerializeToString() == once.SerializeToString()


def test_what_does_nothing_is_left_out_and_a_graph_without_probabilities_stays() -> None:
    untouched = plain(["batch", 3], "Softmax").SerializeToString()
    assert graph.set_calibration(plain(["batch", 3], "Softmax"), Calibration()).SerializeToString() == untouched
    bare = plain(["batch", 3], "Softmax")
    del bare.graph.node[1], bare.graph.output[1]
    before = bare.SerializeToString()
    assert graph.set_calibration(bare, fitted("vector", several=False)).SerializeToString() == before


def test_only_standard_operators_are_used() -> None:
    for method in METHODS:
        proto = graph.set_calibration(plain(["batch", 3], "Softmax"), fitted(method, several=False))
        assert {node.domain for node in proto.graph.node} == {""}
