"""Subjects as their own process opens them: functions of one text, with what the harness may ask beside answers."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edgeft import artifact as artifacts
from edgeft.bench.harness import operators
from edgeft.errors import UserError
from edgeft.runtime import load
from edgeft.runtime.engine import Engine
from edgeft.runtime.model import Model
from edgeft.runtime.tokenization import load_tokenizer

Labelled = tuple[str, float] | None
LONGEST = 512  # tokens, where neither the user nor the tokenizer says
HTTP_SECONDS = 60.0
TOKEN = "EDGEFT_TOKEN"  # the environment's variable with a server's token


class Artifact:
    """An artifact through the runtime."""

    def __init__(self, path: str, threads: int) -> None:
        self.model: Model = load(path, threads=threads)

    def __call__(self, text: Any) -> Any:
        """Its answer, as an app gets it."""
        return self.model(text)

    def many(self, texts: Sequence[Any]) -> Any:
        """As one call of so many texts."""
        return list(self.model.predict_many(texts, batch_size=len(texts)))

    def labelled(self, answer: Any) -> Labelled:
        """Label and probability."""
        best = answer[0] if isinstance(answer, list) and answer else answer
        return (best["label"], best["score"]) if isinstance(best, dict) and "label" in best else None

    def parts(self, text: Any) -> dict[str, float]:
        """Milliseconds of one text: `tokenize`, `session`, and `decode`, which is the rest of a whole answer."""
        start = time.perf_counter()
        windows = self.model.windows([text])[0]
        tokenized = time.perf_counter()
        for window in windows:
            self.model.engine.run([window.ids], self.model.reads, [window.types])
        run = time.perf_counter()
        self.model(text)
        answered = time.perf_counter()
        parts_ms = {"tokenize": tokenized - start, "session": run - tokenized}
        parts_ms["decode"] = max(0.0, answered - run - sum(parts_ms.values()))
        return {name: 1e3 * value for name, value in parts_ms.items()}

    def profile(self, texts: Sequence[Any]) -> dict[str, Any]:
        """Operators with their shares of the session, and the work of a text."""

        def ask(engine: Engine) -> None:
            for windows in self.model.windows(texts):
                for window in windows:
                    engine.run([window.ids], self.model.reads, [window.types])

        graph = self.model.folder / artifacts.MODEL
        return operators.describe_operators(operators.profile_operators(graph, self.model.engine, ask), len(texts))

    def facts(self) -> dict[str, Any]:
        """Bytes on the device, precision, task, labels and the graph's digest."""
        manifest = self.model.manifest
        return {
            "bytes": artifacts.total_bytes(manifest),
            "precision": manifest.quantization.precision,
            "task": manifest.task,
            "labels": list(manifest.labels),
            "sha256": manifest.files[artifacts.MODEL].sha256,
        }


class Onnx:
    """A graph of anybody's, asked for its first output."""

    def __init__(self, path: str, tokenizer: str, max_length: int | None, threads: int) -> None:
        self.graph = Path(path)
        self.tokenizer = load_cutting_tokenizer(Path(tokenizer), max_length)
        self.engine = Engine(self.graph, 0, threads)
        self.files = [self.graph, *self.graph.parent.glob(self.graph.name + "?data"), Path(tokenizer)]
        self.labels = _labels(self.graph.parent)

    def __call__(self, text: str) -> Any:
        """Its first output for one text."""
        return self._run(self.engine, self.tokenizer.encode(text))

    def _run(self, engine: Engine, encoded: Any) -> Any:
        return engine.run([encoded.ids], engine.output_names[:1], [encoded.type_ids])[0][0]

    def many(self, texts: Sequence[str]) -> Any:
        """As one batch, padded to its longest text."""
        encoded = self.tokenizer.encode_batch(list(texts))
        ids, types = [encoding.ids for encoding in encoded], [encoding.type_ids for encoding in encoded]
        return self.engine.run(ids, self.engine.output_names[:1], types)[0]

    def labelled(self, answer: Any) -> Labelled:
        """The largest of some logits, by the names of a config.json beside the graph."""
        if answer.ndim != 1:
            return None
        shares = np.exp(answer - answer.max())
        best = int(shares.argmax())
        return self.labels.get(str(best), f"LABEL_{best}"), float(shares[best] / shares.sum())

    def parts(self, text: str) -> dict[str, float]:
        """Milliseconds of one text: `tokenize` and `session`."""
        start = time.perf_counter()
        encoded = self.tokenizer.encode(text)
        tokenized = time.perf_counter()
        self._run(self.engine, encoded)
        return {"tokenize": 1e3 * (tokenized - start), "session": 1e3 * (time.perf_counter() - tokenized)}

    def profile(self, texts: Sequence[str]) -> dict[str, Any]:
        """Operators with their shares of the session, and the work of a text."""

        def ask(engine: Engine) -> None:
            for text in texts:
                self._run(engine, self.tokenizer.encode(text))

        return operators.describe_operators(operators.profile_operators(self.graph, self.engine, ask), len(texts))

    def facts(self) -> dict[str, Any]:
        """Bytes on the device, and its labels."""
        return {"bytes": sum(file.stat().st_size for file in self.files), "labels": list(self.labels.values())}


def load_cutting_tokenizer(tokenizer: Path, max_length: int | None) -> Any:
    """The tokenizer of an ONNX file, which cuts to `max_length`, else to what its own file says, else to `LONGEST`."""
    loaded = load_tokenizer(tokenizer, None)
    loaded.enable_truncation(max_length or _cut_length(tokenizer))
    return loaded


def _cut_length(tokenizer: Path) -> int:
    """The length that a tokenizer.json cuts to."""
    truncation = json.loads(tokenizer.read_text(encoding="utf-8")).get("truncation") or {}
    return int(truncation.get("max_length", LONGEST))


def _labels(folder: Path) -> dict[str, str]:
    """Index to name, by the config.json beside a graph."""
    try:
        names: dict[str, str] = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("id2label") or {}
    except (OSError, ValueError):
        return {}
    return names


class Endpoint:
    """A server of edgeft's, over connections that stay open, one for each thread."""

    def __init__(self, address: str) -> None:
        self.parts = urlsplit(address)
        self.path = self.parts.path.rstrip("/") or "/v1/predict"
        self.own = threading.local()

    def __call__(self, text: Any) -> Any:
        """What it answers to one text."""
        return self.many([text])[0]

    def many(self, texts: Sequence[Any]) -> Any:
        """What it answers to one request of texts."""
        body = json.dumps({"texts": list(texts)})
        try:
            status, said = self._asked_with_retry(body)
        except OSError as error:
            raise UserError(f"can't be asked: {error}") from None
        if status == http.client.UNAUTHORIZED:
            raise UserError(f"wants a bearer token in {TOKEN}, or another than the one there")
        if status != http.client.OK:
            raise UserError(f"answers {status}: {said[:200].decode(errors='replace')}")
        return json.loads(said)["predictions"]

    def _asked_with_retry(self, body: str) -> tuple[int, bytes]:
        try:
            return self._asked(body)
        except ConnectionError:  # a connection that rested too long was closed at the other end
            self.own.connection = None
            return self._asked(body)

    def _asked(self, body: str) -> tuple[int, bytes]:
        connection = getattr(self.own, "connection", None) or self._connected()
        self.own.connection = connection
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", self.path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read()

    def _connected(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        return kind(self.parts.hostname or "", self.parts.port, timeout=HTTP_SECONDS)

    labelled = Artifact.labelled
