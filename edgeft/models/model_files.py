"""The files of a model folder, checked before anything is allocated for them: links, sizes, JSON, the heads of weights.

A folder may come from anywhere. What is checked here reads little more than the first bytes of each file; after it,
`transformers` meets regular files of bounded size, and weights that lie where their file says.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from edgeft.errors import ModelError

CONFIG, ADAPTER = "config.json", "adapter_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".vocab")
# What the names of files have in common that `transformers` or a tokenizer reads as text.
READ = re.compile(
    r"config|token|vocab|merges|dict|template|normalizer|processor|modules|structure|index|\.(model|jinja)$"
)
MIB = 1 << 20
# Bytes that are read. The largest in use: an index of 12 MiB, a tokenizer of 35 MiB.
LARGEST_JSON, LARGEST_INDEX, LARGEST_TEXT, LARGEST_VOCABULARY = 16 * MIB, 32 * MIB, 64 * MIB, 128 * MIB
LARGEST_HEADER = 100_000_000  # bytes; that of the safetensors library
LONGEST_SHAPE = 16  # axes
LENGTH_BYTES = 8  # a safetensors file begins with the length of its header
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
Shapes = dict[str, list[int]]


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


@dataclass(frozen=True)
class Stored:
    """What the weights' files say of themselves.

    Attributes:
        shapes: of every weight, by its name.
        weight_bytes: of all weights as they lie in the files.
    """

    shapes: Shapes
    weight_bytes: int

    @property
    def elements(self) -> int:
        """Numbers in all weights; two of four bits in one byte count as one."""
        return sum(prod(shape) for shape in self.shapes.values())


def check(folder: Path, whole: bool = True) -> Stored | None:
    """Check a local model folder; no file of it is read whole.

    Args:
        folder: of a model, or a snapshot in the cache of the hub.
        whole: whether weights and tokenizer must be there; a snapshot may hold what was asked for so far.

    Returns:
        What its weights are; None where there are none and needn't be.

    Raises:
        ModelError: a file is missing, no regular file, outside of the folder, too large, or lies about itself.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder}: no config.json in it, so it is not a model folder")
    check_texts(folder)
    stored = read_weights(folder) if whole or any((folder / name).exists() for name in (WEIGHTS, INDEX)) else None
    if whole and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder}: no tokenizer in it (tokenizer.json)")
    if (folder / ADAPTER).exists():
        raise ModelError(
            f"{folder}: {ADAPTER} names another model that would be loaded with this one; merge the adapter with "
            f"peft's merge_and_unload() and save that, or remove {ADAPTER} where the weights are complete"
        )
    return stored


# --------------------------------------------------------------------------------------------------------------- texts


def check_texts(folder: Path) -> None:
    """Whether every text file of a folder that is read is a regular one of it, and small enough for that.

    A link out of the folder could carry any file of this machine into what is shipped, so such links are refused, but
    for those of a Hugging Face cache, whose snapshots are links into its blobs.

    Raises:
        ModelError: names the file.
    """
    home = folder.resolve()
    blobs = next((parent.parent / "blobs" for parent in home.parents if parent.name == "snapshots"), home)
    for file in _texts(folder):
        _check_regular(file)
        target = file.resolve()
        if not any(target.is_relative_to(room) for room in (home, blobs)):
            raise ModelError(
                f"{file}: links to {target}, outside of the model folder; give a copy with the files themselves: "
                f"cp -rL {folder} COPY"
            )
        _check_size(file, _limit(file.name))


def _texts(folder: Path) -> Iterable[Path]:
    """Whatever `transformers` may read as text, in the folder or in a folder of it."""
    for entry in sorted(folder.iterdir()):
        if entry.suffix in TEXT_SUFFIXES and READ.search(entry.name):
            yield entry
        elif entry.is_dir() and entry.name in ("1_Pooling", "additional_chat_templates"):
            yield from sorted(entry.iterdir())


def _limit(name: str) -> int:
    if name == INDEX:
        return LARGEST_INDEX
    if name == CONFIG:
        return LARGEST_JSON
    return LARGEST_VOCABULARY if name in TOKENIZER_FILES or name.endswith(".model") else LARGEST_TEXT


def _check_regular(file: Path) -> None:
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ModelError(f"{file}: can't be read: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise ModelError(f"{file}: not a regular file")


def _check_size(file: Path, most: int) -> None:
    size = file.stat().st_size
    if size > most:
        raise ModelError(f"{file}: {size:,} bytes, and at most {most:,} are read; this is no file of a model")


def read_bytes(file: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        ModelError: it isn't one.
    """
    _check_regular(file)
    _check_size(file, most)
    return file.read_bytes()


def read_json(file: Path, most: int = LARGEST_JSON) -> Any:
    """The document in a JSON file of at most so many bytes.

    Raises:
        ModelError: it isn't JSON, or beyond what can be read.
    """
    data = read_bytes(file, most)
    try:
        return json.loads(data)
    except RecursionError:
        raise ModelError(f"{file}: nested too deeply to be read") from None
    except ValueError as error:
        raise ModelError(f"{file}: not JSON: {error}") from None


# ------------------------------------------------------------------------------------------------------------- weights


def read_weights(folder: Path) -> Stored:
    """What the weights of a folder are, from the heads of its safetensors files.

    Raises:
        ModelError: no weights, or files that don't hold what they or the index say.
    """
    if (folder / WEIGHTS).exists():
        return read_headers([folder / WEIGHTS])
    if (folder / INDEX).exists():
        return _read_shards(folder)
    raise ModelError(f"{folder}: {_missing_weights(folder)}")


def _missing_weights(folder: Path) -> str:
    if shards := sorted(folder.glob("model*.safetensors")):
        return f"{shards[0].name} is one part of the weights, and {INDEX}, which names all of them, is missing"
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if not pickled:
        return f"no weights ({WEIGHTS})"
    return (
        f"only pickled weights ({pickled[0]}), which may run code; edgeft loads safetensors only. If you trust them: "
        "python -c \"from transformers import AutoModel as M; M.from_pretrained('FOLDER').save_pretrained('FOLDER')\", "
        "with the class of the model's head in place of AutoModel"
    )


def shard_names(path: Path) -> list[str]:
    """The files that an index names, each once.

    Raises:
        ModelError: it isn't an index, or names something that isn't a file beside it.
    """
    names = sorted(set(_read_index(path).values()))
    if not names:
        raise ModelError(f"{path}: names no weights")
    for name in names:
        if Path(name).name != name or "\\" in name or "\0" in name or not name.endswith(".safetensors"):
            raise ModelError(f"{path}: {name!r} is not the name of a safetensors file in this folder")
    return names


def _read_index(path: Path) -> dict[str, str]:
    """Weight to file; `total_size` is not read, because the heads of the files are exact."""
    data = read_bytes(path, LARGEST_INDEX)
    try:
        return msgspec.json.decode(data, type=_Index).weight_map
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not an index of weights: {error}") from None


def _read_shards(folder: Path) -> Stored:
    """All weights of an index."""
    path = folder / INDEX
    named, names = _read_index(path), shard_names(path)
    if missing := [name for name in names if not (folder / name).exists()]:
        raise ModelError(
            f"{path}: {len(missing)} of {len(names)} files are missing, {missing[0]} first; fetch the folder again"
        )
    stored = read_headers([folder / name for name in names], named)
    if absent := sorted(named.keys() - stored.shapes.keys()):
        raise ModelError(f"{path}: {len(absent)} weights are in none of its files, {absent[0]!r} first")
    return stored


def read_headers(files: Iterable[Path], index: Mapping[str, str] | None = None) -> Stored:
    """What some safetensors files hold together.

    Args:
        files: the files.
        index: weight to the name of the file that is meant, where a weight is in several; whoever loads the files
            takes any of them, so a copy has to be equal.

    Raises:
        ModelError: a file isn't what its head says, or nobody can tell which of two files has a weight.
    """
    tensors: dict[str, tuple[Path, _Tensor]] = {}
    weight_bytes = 0
    for file in files:
        of_file, data_bytes = _read_header(file)
        for name, tensor in of_file.items():
            if name in tensors:
                _check_copy(name, tensors[name], (file, tensor), (index or {}).get(name))
        tensors |= {name: (file, tensor) for name, tensor in of_file.items()}
        weight_bytes += data_bytes
    return Stored({name: tensor.shape for name, (_, tensor) in tensors.items()}, weight_bytes)


def _check_copy(name: str, first: tuple[Path, _Tensor], second: tuple[Path, _Tensor], meant: str | None) -> None:
    """Whether a weight in two files is the same in both, and the index names one of them."""
    files = (first[0].name, second[0].name)
    if meant not in files:
        raise ModelError(f"{second[0]}: {name!r} is in another file, too, so nobody can tell which one is meant")
    if not _are_equal(first, second):
        raise ModelError(
            f"{second[0]}: {name!r} is in {' and in '.join(files)} with other values; {INDEX} names {meant}: "
            "take it out of the other one, as what loads the files reads both"
        )


def _are_equal(first: tuple[Path, _Tensor], second: tuple[Path, _Tensor]) -> bool:
    """Whether two weights have one type, one shape and the same bytes, compared a piece at a time."""
    if (first[1].dtype, first[1].shape) != (second[1].dtype, second[1].shape):
        return False
    pairs = zip(_pieces(*first), _pieces(*second), strict=True)
    return all(one == other for one, other in pairs)


def _pieces(file: Path, tensor: _Tensor) -> Iterator[bytes]:
    """The bytes of a weight."""
    start, end = tensor.data_offsets
    with file.open("rb") as opened:
        head = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        opened.seek(LENGTH_BYTES + head + start)
        for place in range(start, end, MIB):
            yield opened.read(min(MIB, end - place))


def _read_header(file: Path) -> tuple[dict[str, _Tensor], int]:
    """The weights of a file by name, and the bytes of all of them."""
    _check_regular(file)
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        room = size - LENGTH_BYTES
        if length > min(room, LARGEST_HEADER):
            raise ModelError(
                f"{file}: its head is said to be {length:,} bytes long, and the file has {max(room, 0):,}; "
                "fetch it again, it is cut off or not a safetensors file"
            )
        head = opened.read(length)
    try:
        parts = msgspec.json.decode(head, type=dict[str, msgspec.Raw])
        parts.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(part, type=_Tensor) for name, part in parts.items()}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: its head can't be read: {error}") from None
    _check_offsets(file, tensors, room - length)
    return tensors, room - length


def _check_offsets(file: Path, tensors: Mapping[str, _Tensor], data_bytes: int) -> None:
    """Whether the weights lie one after the other, each as large as its shape, and fill the file."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        if tensor.dtype not in BITS:
            raise ModelError(f"{file}: {name!r} is of type {tensor.dtype!r}, which isn't known")
        if len(tensor.shape) > LONGEST_SHAPE or min(tensor.shape, default=0) < 0:
            raise ModelError(f"{file}: {name!r} has a shape that can't be: {tensor.shape[:LONGEST_SHAPE]}")
        first, last = tensor.data_offsets
        wanted = -(-prod(tensor.shape) * BITS[tensor.dtype] // 8)
        if first != end or last - first != wanted:
            raise ModelError(
                f"{file}: {name!r} of shape {tensor.shape} takes {wanted:,} bytes from {end:,} on, "
                f"but lies from {first:,} to {last:,}"
            )
        end = last
    if end != data_bytes:
        raise ModelError(f"{file}: its weights end at byte {end:,} of {data_bytes:,}; fetch it again")
