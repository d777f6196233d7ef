"""`edgeft evaluate`: figures against scikit-learn's and by hand, and what a file can have wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sklearn.metrics as sklearn
from support_kinds import KINDS, LABELS, columns_of

import edgeft
from edgeft import artifact, recipe, tasks
from edgeft.artifact import Calibration, Selective
from edgeft.evaluation import evaluation_report, measure
from edgeft.evaluation.measure import columns_of_choices, evaluate
from edgeft.report import page

ROWS = 60


def write_rows(kind: str, path: Path) -> Path:
    """A labelled JSONL file of a kind, its columns under the usual names."""
    columns = columns_of(kind, ROWS, seed=7)
    if "labels" in columns:
        columns = {"text": columns["text"], "label": columns["labels"]}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def measured(kind: str, kind_root: Any, folder: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The model, the columns of the file and the document."""
    model = edgeft.load(kind_root(kind) / "artifact")
    return model, columns_of(kind, ROWS, seed=7), evaluate(model, str(write_rows(kind, folder / "rows.jsonl")), {})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_lead_with_an_interval_and_slices(kind: str, kind_root: Any, tmp_path: Path) -> None:
    _, _, found = measured(kind, kind_root, tmp_path)
    lead = found["intervals"][found["slices"]["metric"]]
    assert (found["kind"], found["rows"], found["left_out"], found["file"]) == (kind, ROWS, 0, "rows.jsonl")
    assert lead["low"] <= lead["value"] <= lead["high"]
    assert sum(part["rows"] for part in found["slices"]["by_length"].values()) == ROWS
    assert (found["calibration"] is None) == (kind in ("regression", "squad"))
    assert "nll" not in found["metrics"]
    assert found == json.loads(msgspec.json.encode(found))


def test_one_label_a_row_is_scored_as_scikit_learn_does(kind_root: Any, tmp_path: Path) -> None:
    model, columns, found = measured("single-label", kind_root, tmp_path)
    chances = model.probabilities(columns["text"], batch_size=1).astype(np.float64)
    truth = [LABELS["single-label"].index(label) for label in columns["label"]]
    guess = chances.argmax(axis=1)
    assert found["metrics"]["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, guess))
    assert found["metrics"]["macro_f1"] == pytest.approx(sklearn.f1_score(truth, guess, average="macro"))
    assert found["metrics"]["mcc"] == pytest.approx(sklearn.matthews_corrcoef(truth, guess))
    assert found["calibration"]["nll"] == pytest.approx(sklearn.log_loss(truth, chances), abs=1e-6)
    brier = 2 * sklearn.brier_score_loss(truth, chances[:, 1])  # scikit-learn's counts one of the two labels
    assert found["calibration"]["brier"] == pytest.approx(brier, abs=1e-6)
    matrix = sklearn.confusion_matrix(truth, guess)
    names = LABELS["single-label"]
    assert [[found["confusion"][true].get(label, 0) for label in names] for true in names] == matrix.tolist()


def test_several_labels_are_scored_as_scikit_learn_does(kind_root: Any, tmp_path: Path) -> None:
    model, columns, found = measured("multi-label", kind_root, tmp_path)
    chances = model.probabilities(columns["text"], batch_size=1)
    truth = np.array([[name in row for name in LABELS["multi-label"]] for row in columns["labels"]])
    assert found["metrics"]["micro_f1"] == pytest.approx(sklearn.f1_score(truth, chances >= 0.5, average="micro"))
    assert found["calibration"]["choices"] == truth.size
    nll = sklearn.log_loss(truth.ravel(), chances.ravel().astype(np.float64))
    assert found["calibration"]["nll"] == pytest.approx(nll, abs=1e-6)


def test_numbers_and_answers_are_scored_by_what_the_model_says(kind_root: Any, tmp_path: Path) -> None:
    model, columns, found = measured("regression", kind_root, tmp_path)
    said = [model(text)[0]["score"] for text in columns["text"]]
    assert found["metrics"]["mae"] == pytest.approx(sklearn.mean_absolute_error(columns["target"], said), rel=1e-5)
    model, columns, found = measured("squad", kind_root, tmp_path)
    asked = zip(columns["question"], columns["context"], strict=True)
    right = [
        model(question=question, context=context)["answer"] == "".join(answers["text"][:1])
        for (question, context), answers in zip(asked, columns["answers"], strict=True)
    ]
    assert found["metrics"]["exact_match"] == pytest.approx(np.mean(right), abs=0.2)  # articles don't count there


def test_the_calibration_by_hand() -> None:
    """Right with 0.9, wrong with 0.6: ECE (0.1 + 0.6) / 2, NLL (-ln 0.9 - ln 0.4) / 2, Brier (0.02 + 0.72) / 2."""
    chances, truth = np.array([[0.9, 0.1], [0.6, 0.4]], dtype=np.float32), np.array([0, 1])

    class Judge:
        def logits_and_targets(self, predictions: Any, split: Any) -> Any:
            return predictions, truth

    selective = Selective(threshold=0.7, max_error=0.1, confidence=0.9)
    model: Any = type("M", (), {"manifest": type("N", (), {"calibration": Calibration(selective=selective)})})
    found = measure._calibration(Judge(), None, chances, range(2), model, 100)  # type: ignore[arg-type]
    assert found is not None
    assert found["ece"] == pytest.approx(0.35)
    assert found["nll"] == pytest.approx(0.510826, abs=1e-6)
    assert found["brier"] == pytest.approx(0.37)
    assert found["abstains"] == {"share": 0.5, "error": 0.0}


def test_each_label_of_several_is_a_choice_of_two() -> None:
    chances, truth = columns_of_choices(np.array([[0.2, 0.9]], dtype=np.float32), np.array([[0, 1]]))
    np.testing.assert_allclose(chances, [[0.8, 0.2], [0.1, 0.9]], atol=1e-6)
    assert truth.tolist() == [0, 1]


# --------------------------------------------------------------------------------------------------------- the command


def test_unknown_labels_are_named_with_their_rows(kind_root: Any, tmp_path: Path, run: Any) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\na film,good\na plot,god\nso bad,bad\nso,god\nthe,neutral\n")
    code, _, err = run("evaluate", kind_root("single-label") / "artifact", "--file", file)
    assert code == 2
    assert "label 'god' in rows 2, 4, label 'neutral' in row 5; the artifact's labels are 'bad', 'good'" in err


@pytest.mark.parametrize(
    ("header", "arguments", "line"),
    [
        ("txt,label", [], "column 'text' is missing (did you mean 'txt'?)"),
        ("text,labels", [], "column 'label' is missing (did you mean 'labels'?)"),
        ("review,label", ["--text-column", "reviw"], "column 'reviw' is missing (did you mean 'review'?)"),
    ],
)
def test_a_missing_column_is_answered_with_the_nearest_and_the_flag(
    header: str, arguments: list[str], line: str, kind_root: Any, tmp_path: Path, run: Any
) -> None:
    (tmp_path / "rows.csv").write_text(f"{header}\na film,good\n")
    code, _, err = run("evaluate", kind_root("single-label") / "artifact", "--file", tmp_path / "rows.csv", *arguments)
    assert code == 2
    assert line in err
    assert "--text-column and --label-column name your own" in err
    assert "data." not in err


def test_what_has_no_right_answer_is_refused(kind_root: Any, tmp_path: Path) -> None:
    import dataclasses

    model = edgeft.load(kind_root("single-label") / "artifact")
    model.manifest = dataclasses.replace(model.manifest, task="feature-extraction", kind="embeddings")
    with pytest.raises(edgeft.errors.UserError, match=r"feature-extraction \(embeddings\) has no right answers"):
        evaluate(model, "rows.csv", {})
    assert not tasks.EMBEDDINGS.can_be_judged


def test_a_page_that_cannot_be_written_is_said_before_anything_is_asked(
    kind_root: Any, tmp_path: Path, run: Any
) -> None:
    folder = kind_root("single-label") / "artifact"
    code, _, err = run("evaluate", folder, "--file", tmp_path / "no.csv", "--html", tmp_path / "no" / "page.html")
    assert (code, "there is no folder" in err) == (2, True)


def test_the_page_shows_slices_and_confusions_and_no_text(kind_root: Any, tmp_path: Path, run: Any) -> None:
    file = write_rows("single-label", tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["city"] = "<b>Rome</b>\x1b[31m" if number % 2 else "Oslo"
    file.write_text("\n".join(map(json.dumps, rows)))
    arguments = ("--slice-column", "city", "--html", tmp_path / "page.html", "--json")
    code, out, _ = run("evaluate", kind_root("single-label") / "artifact", "--file", file, *arguments)
    assert code == 0
    assert "\x1b[31m" not in out
    found = json.loads(out.strip().splitlines()[-1])
    assert set(found["slices"]["by_column"]["city"]) == {"Oslo", "<b>Rome</b>\x1b[31m"}
    shown = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "by city" in shown
    assert "&lt;b&gt;Rome&lt;/b&gt;\\x1b[31m" in shown
    assert "Confusions" in shown
    assert not any(row["text"] in shown for row in rows if len(row["text"]) > 20)
    assert page.render(evaluation_report.report(found)) == shown


def test_the_artifact_of_earlier_versions_is_evaluated_without_its_recipe(kind_root: Any, tmp_path: Path) -> None:
    folder = kind_root("single-label") / "artifact"
    assert artifact.RECIPE not in artifact.read_manifest(folder).files
    assert measured("single-label", kind_root, tmp_path)[2]["columns"] == {"text": "text", "label": "label"}


def test_all_right_is_no_certainty(kind_root: Any, tmp_path: Path, run: Any) -> None:
    """40 of 40: Wilson's 95% interval is n / (n + 1.96^2) to 1, 91.2% to 100%."""
    folder = kind_root("single-label") / "artifact"
    texts = [f"a film of number {number}" for number in range(40)]
    labels = [answer["label"] for answer in edgeft.load(folder)(texts)]
    rows = "".join(f"{text};{label}\n" for text, label in zip(texts, labels, strict=True))
    (tmp_path / "rows.csv").write_text(f"text;label\n{rows}")
    code, out, err = run("evaluate", folder, "--file", tmp_path / "rows.csv", "--json")
    found = json.loads(out.strip().splitlines()[-1])
    for part in (found["intervals"]["accuracy"], found["intervals"]["macro_f1"]):
        assert (part["value"], part["high"]) == (1.0, pytest.approx(1.0))
        assert part["low"] == pytest.approx(40 / (40 + 1.959964**2))
    for part in found["slices"]["by_length"].values():
        assert part["low"] == pytest.approx(part["rows"] / (part["rows"] + 1.959964**2))
    assert (code, "100.0 to 100.0" in out) == (0, False)
    assert err.count("the fields are separated by ';'") == 1


def trained_on(columns: dict[str, str], folder: Path, target: Path) -> Path:
    """A copy of an artifact whose recipe names these columns."""
    shutil.copytree(folder, target)
    chosen = recipe.load(None, {f"data.{name}": column for name, column in columns.items()})
    (target / artifact.RECIPE).write_text(recipe.to_yaml(chosen))
    manifest = artifact.read_manifest(target)
    artifact.write_manifest(target, manifest, [*manifest.files, artifact.RECIPE])
    return target


def test_columns_of_training_are_said_with_the_nearest_of_the_file(kind_root: Any, tmp_path: Path, run: Any) -> None:
    columns = {"text_column": "review", "label_column": "stars"}
    folder = trained_on(columns, kind_root("single-label") / "artifact", tmp_path / "artifact")
    file = tmp_path / "rows.csv"
    file.write_bytes("Review;Stars\ncaf\u00e9;good\n".encode("cp1252"))
    code, _, err = run("evaluate", folder, "--file", file, "--encoding", "cp1252")
    assert code == 2
    assert "the columns of training were 'review' and 'stars'" in err
    assert "--text-column Review; --label-column Stars" in err
    file.write_bytes("review;stars\ncaf\u00e9;good\n".encode("cp1252"))
    code, _, err = run("evaluate", folder, "--file", file, "--encoding", "cp1252")
    assert (code, err.startswith("edgeft: ")) == (0, False), err
    code, _, err = run("evaluate", folder, "--file", file)
    assert (code, err.endswith("decodes as cp1252: --encoding cp1252\n")) == (2, True), err
