from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

import edgeft
from edgeft import artifact
from edgeft.errors import UserError
from edgeft.serve import ServeSettings, create_app
from edgeft.serve.fake import FakeModel
from edgeft.serve.worker import UNHEALTHY_FAILURES

SECRET = "xyzzy-plugh"


def eventually(check: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def client_of(*models: FakeModel, **settings: Any) -> Iterator[TestClient[Any]]:
    """A client of a server that is warm unless a model is gated or broken."""
    named = {model.name: model for model in models or (FakeModel(),)}
    with TestClient(create_app(named, ServeSettings(**settings))) as client:
        if all(model.gate.is_set() and not model.error for model in named.values()):
            eventually(lambda: client.get("/readyz").status_code == 200)
        yield client


def refused(response: Any, status: int, *words: str) -> None:
    """One line of JSON with the error, all the words in it, and nothing of the request."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert "\n" not in error
    assert SECRET not in response.text
    for word in words:
        assert word in error


# ------------------------------------------------------------------------------------------------------------- answers


def test_one_text_is_a_list_of_one() -> None:
    with client_of() as client:
        response = client.post("/v1/predict", json={"text": "good good"})
    assert response.status_code == 200
    assert response.json() == {"model": "fake", "predictions": [{"label": "positive", "score": 0.75}]}


def test_several_texts_in_their_order_and_in_one_call() -> None:
    model = FakeModel()
    with client_of(model) as client:
        response = client.post("/v1/predict", json={"texts": ["good", "bad", "good"]})
    assert [one["label"] for one in response.json()["predictions"]] == ["positive", "negative", "positive"]
    assert model.calls == [1, 3]  # the warm-up, then the request


@pytest.mark.parametrize(("top_k", "lengths"), [(1, [1, 1]), (2, [2, 2]), (9, [2, 2]), (None, [2, 2])])
def test_with_top_k_each_prediction_is_a_list(top_k: int | None, lengths: list[int]) -> None:
    with client_of() as client:
        response = client.post("/v1/predict", json={"texts": ["good", "bad"], "top_k": top_k})
    predictions = response.json()["predictions"]
    assert [len(one) for one in predictions] == lengths
    assert all(one == sorted(one, key=lambda answer: -answer["score"]) for one in predictions)


def test_the_content_type_may_be_missing() -> None:
    with client_of() as client:
        assert client.post("/v1/predict", content=b'{"text": "good"}').status_code == 200


def test_two_models_are_told_apart_by_name() -> None:
    with client_of(FakeModel("a"), FakeModel("b")) as client:
        assert client.post("/v1/predict", json={"text": "x", "model": "b"}).json()["model"] == "b"
        refused(client.post("/v1/predict", json={"text": "x"}), 422, "a, b")
        refused(client.post("/v1/predict", json={"text": "x", "model": SECRET}), 404, "a, b")


def test_model_card() -> None:
    with client_of() as client:
        (card,) = client.get("/v1/model").json()["models"]
    assert card == {
        "name": "fake",
        "task": "text-classification",
        "kind": "single-label",
        "labels": ["negative", "positive"],
        "precision": "int8",
        "max_length": 8,
        "long_texts": "truncated",
        "cleaning": {"steps": [], "anonymise": [], "region": "US", "names_model": None},
        "calibration": {
            **{"method": "none", "reason": "", "temperature": 1.0, "scale": [], "bias": [], "isotonic": []},
            **{"cross_validation": {}, "validation": {}, "test": {}, "selective": None},
        },
        "metrics": {"artifact": {"accuracy": 1.0}},
        "sha256": "0" * 64,
    }


def test_an_artifact_with_a_threshold_says_so_in_answers_card_and_schema(kind_root: Any, tmp_path: Path) -> None:
    shutil.copytree(kind_root("single-label") / "artifact", tmp_path / "sure")
    manifest = artifact.read_manifest(tmp_path / "sure")
    selective = artifact.Selective(threshold=None, max_error=0.05, confidence=0.95)
    manifest = replace(manifest, calibration=replace(manifest.calibration, selective=selective))
    artifact.write_manifest(tmp_path / "sure", manifest, list(manifest.files))
    with TestClient(create_app({"sure": edgeft.load(tmp_path / "sure")})) as client:
        alone = client.post("/v1/predict", json={"text": "a film"}).json()["predictions"]
        every = client.post("/v1/predict", json={"text": "a film", "top_k": None}).json()["predictions"]
        (card,) = client.get("/v1/model").json()["models"]
        schema = client.get("/schema").json()
    assert [set(answer) for answer in alone] == [{"label", "score", "abstain"}]
    assert [answer["abstain"] for answer in (*alone, *every[0])] == [True] * 3
    assert card["calibration"]["selective"] == {
        **{"threshold": None, "max_error": 0.05, "confidence": 0.95},
        **{"share": {}, "error": {}},
    }
    models = schema["components"]["schemas"]
    assert "abstain" in models["PredictResponse"]["properties"]["predictions"]["description"]
    assert "threshold" in next(own["properties"] for name, own in models.items() if name.endswith("Selective"))


def test_the_schema_has_every_route_and_refusal_and_needs_no_network() -> None:
    with client_of() as client:
        schema = client.get("/schema").json()
        assert schema == client.get("/schema/openapi.json").json()
        assert "//" not in client.get("/schema").text
    assert set(schema["paths"]) == {"/v1/predict", "/v1/model", "/healthz", "/readyz"}
    responses = schema["paths"]["/v1/predict"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "404", "408", "413", "422", "500", "503", "504"}


def test_no_model_is_an_error() -> None:
    with pytest.raises(UserError, match="no model given"):
        create_app({})


# ------------------------------------------------------------------------------------------------------------ refusals

BODIES = [
    (b"", 422, "empty"),
    (b'{"text": "xyzzy-plugh', 400, "truncated"),
    (b'{"text": xyzzy-plugh}', 400, "malformed"),
    (b'{"text": "xyzzy-plugh\xff"}', 400, "UTF-8"),
    (b'{"text": "\\ud800 xyzzy-plugh"}', 400, "surrogate"),
    (b'{"texts": ' + b"[" * 5000, 400, "nested too deeply"),
    (b'["xyzzy-plugh"]', 422, "expected `object`"),
    (b"null", 422, "expected `object`"),
    (b"{}", 422, '"text" or "texts"'),
    (b'{"text": "xyzzy-plugh", "texts": ["b"]}', 422, '"text" or "texts"'),
    (b'{"texts": []}', 422, "empty"),
    (b'{"text": ["xyzzy-plugh"]}', 422, 'text: expected one text, got a list; several go in "texts"'),
    (b'{"question": ["xyzzy-plugh"]}', 422, 'one question, got a list; several go in "questions"'),
    (b'{"text": null}', 422, "text: expected `str`"),
    (b'{"texts": ["xyzzy-plugh", 5]}', 422, "texts[1]: expected `str`, got `int`"),
    (b'{"texts": "xyzzy-plugh"}', 422, "texts: expected `array`"),
    (b'{"text": "a", "xyzzy-plugh": 1}', 422, "unknown key; the keys are text, texts, question, context, questions, "),
    (b'{"question": "a", "context": "xyzzy-plugh"}', 422, '"question" is for other models; this one takes texts'),
    (b'{"text": "a", "aggregation_strategy": "first"}', 422, "is for other models; this one takes top_k"),
    (b'{"text": "a", "aggregation_strategy": "xyzzy-plugh"}', 422, "expected one of none, simple, first"),
    (b'{"text": "xyzzy-plugh", "top_k": 0}', 422, "top_k: expected `int` >= 1"),
    (b'{"text": "xyzzy-plugh", "top_k": true}', 422, "top_k"),
]


@pytest.mark.parametrize(("body", "status", "words"), BODIES, ids=[words for _, _, words in BODIES])
def test_a_bad_body_gets_one_line_and_never_reaches_the_model(
    body: bytes, status: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = FakeModel()
    with client_of(model) as client:
        refused(client.post("/v1/predict", content=body), status, words)
    assert model.calls == [1]
    assert SECRET not in "".join(capfd.readouterr())


def test_body_limit() -> None:
    with client_of(max_body_bytes=200) as client:
        assert client.post("/v1/predict", json={"text": "x" * 100}).status_code == 200
        refused(client.post("/v1/predict", json={"text": SECRET * 40}), 413, "at most 200 bytes")
        chunks = iter([b'{"text": "', b"x" * 300, b'"}'])  # no Content-Length to go by
        refused(client.post("/v1/predict", content=chunks), 413, "at most 200 bytes")


def test_batch_limit() -> None:
    with client_of(max_texts=2) as client:
        assert client.post("/v1/predict", json={"texts": ["a", "b"]}).status_code == 200
        refused(client.post("/v1/predict", json={"texts": [SECRET] * 3}), 422, "3 texts", "at most 2")


def test_length_limit_counts_characters_not_bytes() -> None:
    with client_of(max_characters=5) as client:
        assert client.post("/v1/predict", json={"text": "ééééé"}).status_code == 200
        refused(client.post("/v1/predict", json={"texts": ["a", SECRET]}), 422, "text 1 has 11 characters", "at most 5")


def test_unknown_route_and_method() -> None:
    with client_of() as client:
        refused(client.get("/nope"), 404)
        refused(client.get("/v1/predict"), 405)


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "hunter2", "Basic hunter2", "Bearer hünter2"])
def test_wrong_or_missing_token(given: str | None) -> None:
    headers = {b"Authorization": given.encode()} if given is not None else {}
    with client_of(token="hunter2") as client:
        for response in (
            client.post("/v1/predict", json={"text": SECRET}, headers=headers),
            client.get("/v1/model", headers=headers),
        ):
            refused(response, 401, "token")
            assert response.headers["www-authenticate"] == "Bearer"


def test_right_token_and_open_probes() -> None:
    with client_of(token="hünter2") as client:
        headers = {b"Authorization": "Bearer hünter2".encode()}
        assert client.post("/v1/predict", json={"text": "x"}, headers=headers).status_code == 200
        assert client.get("/v1/model", headers=headers).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


# -------------------------------------------------------------------------------------- load, failures, life and death


def test_one_request_too_many_is_refused_and_the_others_get_their_answers() -> None:
    model = FakeModel()
    with client_of(model, max_waiting=3) as client, ThreadPoolExecutor(3) as pool:
        model.gate.clear()
        futures = [pool.submit(client.post, "/v1/predict", json={"text": "good"}) for _ in range(3)]
        service = client.app.state.service
        eventually(lambda: service._worker._slots._value == 0)
        response = client.post("/v1/predict", json={"text": SECRET})
        refused(response, 503, "3 requests are waiting")
        assert response.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200  # the event loop is free
        model.gate.set()
        assert [future.result(30).status_code for future in futures] == [200, 200, 200]


def test_inference_runs_on_as_many_threads_as_asked() -> None:
    model = FakeModel()
    with client_of(model, threads=2) as client, ThreadPoolExecutor(3) as pool:
        model.gate.clear()
        futures = [pool.submit(client.post, "/v1/predict", json={"text": "good"}) for _ in range(3)]
        eventually(lambda: len(model.calls) == 3)  # warm-up and two at once
        time.sleep(0.05)
        assert len(model.calls) == 3
        model.gate.set()
        assert all(future.result(30).status_code == 200 for future in futures)


def test_timeout_of_a_running_and_of_a_waiting_request() -> None:
    model = FakeModel()
    with client_of(model, timeout_seconds=1) as client, ThreadPoolExecutor(2) as pool:
        model.gate.clear()
        futures = [pool.submit(client.post, "/v1/predict", json={"text": SECRET}) for _ in range(2)]
        for future in futures:
            refused(future.result(20), 504, "1 s")
        eventually(lambda: client.get("/healthz").status_code == 503)  # stuck
        refused(client.get("/readyz"), 503, "has been running")
        model.gate.set()
        eventually(lambda: client.get("/healthz").status_code == 200)
        assert client.post("/v1/predict", json={"text": "good"}).status_code == 200
    assert model.calls == [1, 1, 1]  # the request that timed out while waiting was never run


def test_a_failing_model_fails_its_requests_and_then_the_health(capfd: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    with client_of(model) as client:
        model.error = ValueError(f"can't take {SECRET}")
        for number in range(UNHEALTHY_FAILURES):
            assert client.get("/healthz").status_code == 200, number
            refused(client.post("/v1/predict", json={"text": SECRET}), 500, "inference failed: ValueError at fake.py:")
        refused(client.get("/healthz"), 503, f"last {UNHEALTHY_FAILURES} inferences failed")
        refused(client.get("/readyz"), 503)
        model.error = None
        assert client.post("/v1/predict", json={"text": "good"}).status_code == 200
        assert client.get("/healthz").status_code == 200
    assert SECRET not in "".join(capfd.readouterr())


def test_a_model_that_gives_too_few_answers_fails_the_request() -> None:
    class Short(FakeModel):
        def __call__(self, texts: Any, top_k: int | None = 1) -> Any:
            return super().__call__(texts, top_k)[:1]

    with client_of(Short()) as client:
        refused(client.post("/v1/predict", json={"texts": ["a", "b"]}), 500, "RuntimeError")


def test_not_ready_until_every_model_is_warm() -> None:
    slow = FakeModel("slow")
    slow.gate.clear()
    with client_of(FakeModel("quick"), slow) as client:
        eventually(lambda: slow.calls == [1])
        refused(client.get("/readyz"), 503, "warming up: slow")
        assert client.get("/healthz").status_code == 200
        slow.gate.set()
        eventually(lambda: client.get("/readyz").status_code == 200)


def test_a_failed_warm_up_is_told() -> None:
    with client_of(FakeModel(error=ValueError("broken"))) as client:
        eventually(lambda: client.get("/healthz").status_code == 503)
        refused(client.get("/readyz"), 503, "warm-up: inference failed: ValueError")


def test_while_draining_nothing_new_is_taken() -> None:
    with client_of() as client:
        client.app.state.service.draining = True
        refused(client.get("/readyz"), 503, "shutting down")
        refused(client.post("/v1/predict", json={"text": SECRET}), 503, "shutting down")
        assert client.get("/healthz").status_code == 200


def test_a_bug_is_one_line_without_its_message(capfd: pytest.CaptureFixture[str]) -> None:
    with client_of() as client:
        client.app.state.service.models["fake"].manifest = None
        refused(client.get("/v1/model"), 500, "internal error: AttributeError at messages.py:")
    assert "Traceback" not in capfd.readouterr().err
