"""Commands that a device runs on an artifact: predict, verify, sign, inspect, single-file, serve."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from cyclopts import Parameter

import edgeft
from edgeft.cli.app import Flat, Json, app, print_json, print_words
from edgeft.errors import GateError, UserError, missing_extra, require
from edgeft.files import written_whole
from edgeft.inputs.limits import LIMITS, Limits, command_flag
from edgeft.progress import track

if TYPE_CHECKING:
    from edgeft.runtime.texts import Form
    from edgeft.signing import PublicKey

Given: TypeAlias = str | dict[str, str]  # what is asked: a text, or a question with its context
Answers: TypeAlias = Iterable[tuple[Given, Any]]
Keys = Annotated[list[Path] | None, Parameter(negative="")]
File = Annotated[Path | None, Parameter(allow_leading_hyphen=True)]  # - is standard input


@dataclass(frozen=True, kw_only=True)
class InputColumns:
    """Columns of the input file, and how the file is read."""

    text_column: Annotated[str, Parameter(help="column of the text")] = "text"
    question_column: Annotated[str, Parameter(help="column of the question, of question-answering")] = "question"
    context_column: Annotated[str, Parameter(help="column of the text that may have its answer")] = "context"
    delimiter: Annotated[str | None, Parameter(help="delimiter of a table; unset: detected from the first records")] = (
        None
    )
    encoding: Annotated[str, Parameter(help="encoding of the file, such as cp1252")] = "utf-8"
    max_file_bytes: Annotated[int, Parameter(help="refuse files with more bytes, after decompression")] = (
        LIMITS.max_file_bytes
    )
    max_compression_ratio: Annotated[
        float, Parameter(help="refuse compressed files that unpack to more than this many times their size")
    ] = LIMITS.max_compression_ratio
    max_line_bytes: Annotated[int, Parameter(help="refuse files with a longer line or record")] = LIMITS.max_line_bytes
    max_nesting: Annotated[int, Parameter(help="refuse JSON that nests deeper")] = LIMITS.max_nesting
    max_digits: Annotated[int, Parameter(help="refuse JSON numbers with more digits")] = LIMITS.max_digits

    def to_say(self) -> Iterator[tuple[str, str]]:
        """The columns, and what else differs from the defaults, as option and value."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_column") or value != field.default:
                yield field.name, str(value)

    def form(self) -> Form:
        """How the file is written, and what it may ask for.

        Raises:
            UserError: a delimiter that is no character.
        """
        from edgeft.runtime.texts import Form

        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UserError(f"--delimiter {self.delimiter!r} is not one character")
        names = [field.name for field in dataclasses.fields(Limits) if hasattr(self, field.name)]
        limits = Limits(flag=command_flag, **{name: getattr(self, name) for name in names})
        return Form(delimiter=self.delimiter, encoding=self.encoding, limits=limits)


@app.command
def predict(
    artifact: Path,
    texts: list[str] | None = None,
    *,
    file: File = None,
    context: str | None = None,
    columns: Annotated[InputColumns | None, Flat] = None,
    out: Path | None = None,
    top_k: int | None = None,
    aggregation_strategy: Literal["none", "simple", "first"] | None = None,
    batch_size: int = 1,
    threads: int | None = None,
    trusted: Keys = None,
    json: Json = False,
) -> None:
    """Answer texts or questions from arguments, a file of any size, or standard input.

    Args:
        artifact: the artifact folder.
        texts: texts, or questions for question-answering.
        file: .jsonl objects, a .csv or .tsv table, else one text a line, plain, compressed or in a .zip; - reads
            lines from standard input.
        context: text in which to look for the answers.
        out: write the answers to this .jsonl file, one object a text, instead of the screen.
        top_k: labels for each text, or answers to each question; default 1.
        aggregation_strategy: how tags are grouped, as in transformers: none, simple or first.
        batch_size: texts in a forward pass; above 1, int8-tensor answers can depend slightly on their batch.
        threads: threads of the engine.
        trusted: PEM file of a public key; the artifact must be signed by it, or by one of several.
    """
    if not texts and file is None:
        raise UserError("predict: no text; give TEXT or --file FILE")
    if out is not None:
        _check_out(out, file, json)
    pairs = asks_pairs(artifact)
    if context is not None and not pairs:
        raise UserError("predict: --context is for question-answering; this artifact takes texts alone")
    alone = _with_context(texts or [], context) if pairs else texts or []
    inputs = itertools.chain(alone, read_inputs(file, pairs, columns) if file else [])
    first = next(inputs, None)  # so that a file that can't be read is said before a model is loaded
    if first is None:
        raise UserError(f"predict: {file} has no text")
    shown, remaining = itertools.tee(itertools.chain([first], inputs))
    model = edgeft.load(artifact, threads=threads, trusted=trusted)
    chosen = {"top_k": top_k, "aggregation_strategy": aggregation_strategy}
    options = {name: value for name, value in chosen.items() if value is not None}
    answers = zip(shown, model.predict_many(remaining, batch_size=batch_size, **options), strict=True)
    if out is not None:
        _write_answers(answers, out)
    else:
        _print_answers(answers, alone=file is None and len(texts or []) == 1, json=json)


def asks_pairs(artifact: Path) -> bool:
    """Whether an artifact takes questions with contexts instead of texts."""
    from edgeft.artifact import read_manifest
    from edgeft.runtime.loading import model_class
    from edgeft.tasks import FORMS

    form = FORMS.get(read_manifest(artifact).kind)
    return form is not None and form.can_ship and model_class(form.name).pairs


def _with_context(questions: list[str], context: str | None) -> list[Given]:
    if questions and context is None:
        raise UserError("predict: a question needs the text in which its answer may stand; give --context")
    return [{"question": question, "context": context or ""} for question in questions]


def read_inputs(file: Path, pairs: bool, columns: InputColumns | None) -> Iterator[Given]:
    """The texts of a file, or the questions with their contexts."""
    from edgeft.runtime import texts

    names = columns or InputColumns()
    if pairs:
        return texts.questions(file, names.question_column, names.context_column, names.form())
    return texts.texts(file, names.text_column, names.form())


def _check_out(out: Path, file: Path | None, json: bool) -> None:
    if json:
        raise UserError("predict: --out and --json both take the answers; give one of them")
    if out.suffix != ".jsonl":
        raise UserError(f"predict: --out {out}: the answers are JSON lines; name it {out.with_suffix('.jsonl')}")
    if not out.parent.is_dir():
        raise UserError(f"predict: --out {out}: there is no folder {out.parent}")
    if file is not None and out.resolve() == file.resolve():
        raise UserError(f"predict: --out {out} is the file that is read; name another one")


def _write_answers(answers: Answers, out: Path) -> None:
    """Write one JSON object a line; the file appears when all are written."""
    with written_whole(out) as file:
        for text, answer in track(answers, "predict"):
            file.write(msgspec.json.encode(_answer_document(text, answer)) + b"\n")


def _print_answers(answers: Answers, alone: bool, json: bool) -> None:
    """Print one line for each text, and with `json` one document with all of them at the end."""
    documents = []
    for text, answer in answers:
        shown = "  ".join(map(_format_answer, _as_list(answer)))
        question = text if isinstance(text, str) else text["question"]
        print_words(shown if alone else f"{shown}\t{' '.join(question.split())}")
        if json:
            documents.append(_answer_document(text, answer))
    if json:
        print_json(documents)


def _as_list(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]


def _answer_document(text: Given, answer: Any) -> dict[str, Any]:
    """The JSON object of one input with its answers."""
    return {**({"text": text} if isinstance(text, str) else text), "predictions": _as_list(answer)}


def _format_answer(item: Any) -> str:
    """Format a label, number, tag, answer or coordinate for the terminal."""
    if isinstance(item, float):
        return f"{item:.6f}"
    named = next((item[name] for name in ("label", "entity", "entity_group") if name in item), "")
    words = (item.get("word", ""), named, (item.get("answer") or "(no answer)") if "answer" in item else "")
    return f"{' '.join(filter(None, words))} {item['score']:.4f}{' (abstains)' if item.get('abstain') else ''}"


@app.command
def verify(
    artifact: Path,
    *,
    trusted: Annotated[list[Path] | None, Parameter(name=("--trusted", "--key"), negative="")] = None,
    replay: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Check an artifact's files against its manifest, and with --replay its answers against the recorded ones.

    Args:
        artifact: the artifact folder.
        trusted: PEM file of a public key; the artifact must be signed by it, or by one of several.
        replay: run the golden rows on this machine.
    """
    model = edgeft.load(artifact, trusted=trusted) if replay else None  # which compares all files, too
    files, signer = (len(model.manifest.files), model.signer) if model else _compare_files(artifact, trusted)
    document: dict[str, Any] = {"files": files, "verified": True, "signed_by": signer}
    print_words(f"{artifact}: {files} files as the manifest says")
    print_words(f"signature: {_signature(artifact, signer)}")
    if model:
        from edgeft.runtime import replay as run_replay

        result = run_replay(model)
        document["replay"] = result
        tokens = (
            f"and {result.same_tokens}/{result.texts} token sequences" if result.texts else "(of token ids, not texts)"
        )
        print_words(
            f"replay: {result.same_labels}/{result.rows} answers {tokens} equal, "
            f"largest logit difference {result.max_logit_difference:.1e} (allowed {result.tolerance:.0e})"
        )
        document["verified"] = result.passed
    if json:
        print_json(document)
    if not document["verified"]:
        raise GateError(f"{artifact} answers differently on this machine than where it was made")


def _compare_files(artifact: Path, trusted: list[Path] | None) -> tuple[int, str | None]:
    """Number of verified files, and the signer's fingerprint if trusted keys are given."""
    from edgeft.artifact import verify_files
    from edgeft.runtime.loading import read_signed

    manifest, signer = read_signed(artifact, trusted)
    verify_files(artifact, manifest)
    return len(manifest.files), signer.fingerprint if signer else None


def _signature(artifact: Path, signer: str | None) -> str:
    """Describe the signature, as far as it was checked."""
    from edgeft.signing import SIGNATURE, is_signed

    if signer is not None:
        return f"by the key {signer}"
    return f"{SIGNATURE} was not checked; give --key PUB" if is_signed(artifact) else "none"


@app.command
def sign(
    artifact: Path | None = None, *, key: Path | None = None, new_key: Path | None = None, json: Json = False
) -> None:
    """Sign an artifact: write manifest.sig, an Ed25519 signature of manifest.json, beside it.

    Args:
        artifact: the artifact folder; its files are checked first.
        key: PEM file of the private key.
        new_key: make a key pair first: FILE is the private key, FILE.pub the public one.
    """
    from edgeft import signing

    if (key is None) == (new_key is None):
        raise UserError("sign: give --key FILE, or --new-key FILE to make a key")
    if artifact is None and new_key is None:
        raise UserError("sign: give the artifact's folder")
    document: dict[str, Any] = {}
    if new_key is not None:
        key, public = new_key, signing.make_key(new_key)
        print_words(f"{new_key} is the private key, {new_key}.pub the public one: {public.fingerprint}")
        document |= {"key": str(new_key), "public_key": f"{new_key}.pub", "signed_by": public.fingerprint}
    if artifact is not None and key is not None:
        signer, signature = _sign(artifact, key), artifact / signing.SIGNATURE
        print_words(f"{signature}: by the key {signer.fingerprint}")
        document |= {"signature": str(signature), "signed_by": signer.fingerprint}
    if json:
        print_json(document)


def _sign(artifact: Path, key: Path) -> PublicKey:
    """Check the artifact and sign exactly the bytes that were checked."""
    from edgeft.artifact import parse_manifest, read_manifest_bytes, verify_files
    from edgeft.signing import sign_manifest

    content = read_manifest_bytes(artifact)
    verify_files(artifact, parse_manifest(artifact, content))
    return sign_manifest(artifact, content, key)


@app.command
def inspect(artifact: Path, *, json: Json = False) -> None:
    """Show the contents of an artifact's manifest in words.

    Args:
        artifact: the artifact folder.
    """
    from edgeft.artifact import read_manifest
    from edgeft.runtime.describe import describe
    from edgeft.runtime.machine import kernels

    manifest = read_manifest(artifact)
    print_words(describe(manifest))
    print_words(f"kernels here  {kernels.describe()}")
    if json:
        print_json(manifest)


@app.command
def single_file(artifact: Path, out: Path, *, file: File = None, text_column: str = "text", json: Json = False) -> None:
    """Write an artifact as one .onnx file: strings in, probabilities out, the tokenizer inside.

    Its tokens are compared with the artifact's on 10,000 odd texts first. It runs with onnxruntime and
    onnxruntime-extensions alone.

    Args:
        artifact: the artifact folder, of a classifier with a WordPiece tokenizer (BERT's kind) and no cleaning.
        out: the .onnx file.
        file: further texts to compare, as `predict` reads them.
        text_column: its text column, in a table or in objects.
    """
    for module in ("onnxruntime_extensions", "onnx", "onnxruntime"):
        require(module, "to write a single file")
    from edgeft.export.layouts.single_file import write
    from edgeft.runtime.texts import texts as read

    written = write(artifact, out, list(read(file, text_column)) if file else [])
    print_words(
        f"{written.path}: {written.bytes:,} bytes; tokens of {written.texts:,} texts equal, "
        f"probabilities of {written.rows} within {written.max_probability_difference:.1e}"
    )
    if json:
        print_json(written)


@app.command
def serve(
    artifacts: list[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    token: str | None = None,
    trusted: Keys = None,
) -> None:
    """Serve artifacts over HTTP until SIGTERM or Ctrl-C.

    Args:
        artifacts: artifact folders, or NAME=FOLDER; each is served under NAME or its folder's name; the first is the
            default.
        host: address to bind; loopback unless told otherwise.
        port: 0: any free one.
        threads: threads of the engine.
        token: bearer token that requests must carry; better given as EDGEFT_TOKEN.
        trusted: PEM file of a public key: only artifacts that it, or one of several, signed are served.
    """
    try:
        from edgeft.serve.server import serve as run_server
        from edgeft.serve.settings import ServeSettings
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "litestar", "to serve") from None

    from edgeft.signing import read_trusted

    keys = None if trusted is None else read_trusted(trusted)  # once: a server goes on with the keys it began with
    settings = ServeSettings(
        host=host,
        port=port,
        token=token or os.environ.get("EDGEFT_TOKEN"),
        trusted_signers=tuple(key.fingerprint for key in keys or ()),
    )
    run_server(_load_by_name(artifacts, threads, None if keys is None else [key.raw for key in keys]), settings)


def _load_by_name(
    artifacts: list[str], threads: int | None, trusted: list[bytes] | None = None
) -> dict[str, edgeft.Model]:
    """Load artifacts, by the name that each is served under.

    Raises:
        UserError: two have the same one.
    """
    models: dict[str, edgeft.Model] = {}
    for argument in artifacts:
        name, equals, path = argument.partition("=")
        has_name = bool(equals) and not Path(argument).exists()
        model = edgeft.load(path if has_name else argument, threads=threads, trusted=trusted)
        served_name = name if has_name else model.name
        if served_name in models:
            raise UserError(f"serve: two artifacts are named {served_name}; name them yourself, as in NAME={argument}")
        models[served_name] = model
    return models
