"""The engine: token ids in, arrays out. onnxruntime is imported here and nowhere else in the runtime."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.errors import ArtifactError, UserError, require
from edgeft.runtime.machine import kernels, processor
from edgeft.runtime.machine.memory import give_back, memory_bytes
from edgeft.runtime.machine.threads import container_share, usable_cores

Ids = Sequence[Sequence[int]]
CPU = "CPUExecutionProvider"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# On the CPU a SkipLayerNormalization takes longer than the Add and LayerNormalization that it replaces.
SLOW_FUSIONS = ("SkipLayerNormFusion",)
# Of a pass on a CPU, for each thread; the activations of more fall out of the second cache.
PASS_TOKENS = 128
# Of the memory this process may use, what its graphs together may take on a CPU; a file from elsewhere could take all.
MEMORY_SHARE = 0.5


class Engine:
    """One ONNX graph in one onnxruntime session; thread-safe, as `InferenceSession.run` is.

    Args:
        path: the graph; inputs `input_ids` and optionally `attention_mask` and `token_type_ids`, int64 (batch, tokens);
            outputs with the batch as first axis and, where they are of tokens, a second one named `tokens`.
        pad_token_id: fills the shorter rows of a batch, on the right.
        threads: of one operator; None: the cores this process really has.
        provider: an onnxruntime execution provider.
        native: whether edgeft's own kernels may run, where they were built and the processor has what they need.
        exact: whether onnxruntime's int8 products take kernels that can't saturate; None: where others would.
        spinning: whether idle threads wait in a loop, which is faster and keeps their cores busy; None: not in a
            container with a share of the cores, which would pay for it.
        profile: onnxruntime writes there what each operator took; the file's name begins so. None: it doesn't.
        content: of the file at `path`, which is then not read.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ArtifactError: the graph can't be loaded.
        UserError: the provider is not in this onnxruntime.
    """

    def __init__(
        self,
        path: Path,
        pad_token_id: int,
        threads: int | None = None,
        provider: str = CPU,
        native: bool = True,
        exact: bool | None = None,
        spinning: bool | None = None,
        profile: Path | None = None,
        content: bytes | None = None,
    ) -> None:
        ort = require("onnxruntime", "to run an artifact")
        if provider not in ort.get_available_providers():
            have = ", ".join(ort.get_available_providers())
            raise UserError(f"{provider} is not in the installed onnxruntime, which has {have}")
        self.pad_token_id = pad_token_id
        self.threads = threads or usable_cores()
        self.pass_tokens = PASS_TOKENS * self.threads if provider == CPU else None
        try:
            self._session = ort.InferenceSession(
                str(path) if content is None else content,
                _options(
                    ort,
                    provider,
                    self.threads,
                    kernels.library() if native and provider == CPU else None,
                    processor.saturates() if exact is None else exact,
                    container_share() is None if spinning is None else spinning,
                    profile,
                ),
                providers=[provider],
                disabled_optimizers=list(SLOW_FUSIONS) if provider == CPU else None,
            )
        except Exception as error:  # noqa: BLE001 - its exceptions share no public base class
            raise ArtifactError(f"{path} can't be loaded by onnxruntime {ort.__version__}: {_detail(error)}") from None
        self.path = path
        self._session._model_bytes = None  # which it would hold as long as it lives, to start anew on another provider
        give_back()  # what loading took beside the model, several times its bytes where its weights are of 4 bits
        self.input_names = [item.name for item in self._session.get_inputs()]
        outputs = self._session.get_outputs()
        self.output_names = [item.name for item in outputs]
        self.of_tokens = {item.name for item in outputs if item.shape[1:2] == ["tokens"]}

    def run(self, ids: Ids, outputs: Sequence[str] = ("logits",), types: Ids = ()) -> list[NDArray[np.float32]]:
        """Answer a batch; on a CPU in passes whose activations stay in the cache.

        Args:
            ids: token ids of each text of the batch, special tokens included.
            outputs: names of the graph's outputs.
            types: token type ids of each; none: all 0.

        Returns:
            One array for each output, first axis the batch; where it is of tokens, the second one is the longest row.
        """
        longest = max(map(len, ids))
        rows = max(1, self.pass_tokens // max(1, longest)) if self.pass_tokens else len(ids)
        if rows >= len(ids):
            return self._pass(ids, outputs, types, longest)
        starts = range(0, len(ids), rows)
        passes = [self._pass(ids[at : at + rows], outputs, types[at : at + rows], longest) for at in starts]
        return [np.concatenate(arrays) for arrays in zip(*passes, strict=True)]

    def profiled(self) -> Path:
        """The file of what each operator took; of an engine that was made with `profile`."""
        return Path(self._session.end_profiling())

    def _pass(self, ids: Ids, outputs: Sequence[str], types: Ids, longest: int) -> list[NDArray[np.float32]]:
        try:
            return list(self._session.run(outputs, pad(ids, self.pad_token_id, types, longest, self.input_names)))
        except Exception as error:
            detail = _detail(error)
            batch = f"{len(ids)} x {longest} tokens up to number {max(max(row, default=0) for row in ids)}"
            raise ArtifactError(f"{self.path} can't answer {batch}: {detail}") from error


def _detail(error: Exception) -> str:
    """What onnxruntime says, in one line of bounded length."""
    line = " ".join(str(error).split())
    if "smaller than requested bytes" in line:
        return f"it asks for more than {memory_limit_bytes() / 1e9:.1f} GB, what a graph may take of the memory here"
    return line[:200]


def memory_limit_bytes() -> int:
    """What the graphs of this process may take together, on a CPU."""
    return int(memory_bytes() * MEMORY_SHARE)


@functools.cache
def _limit_memory(ort: Any) -> bool:
    """Let onnxruntime refuse what is over the limit, once for the process; False: the application set up an arena."""
    arena = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(arena, ort.OrtArenaCfg({"max_mem": memory_limit_bytes()}))
    except Exception:  # noqa: BLE001 - its exceptions share no public base class
        return False
    return True


def _options(
    ort: Any, provider: str, threads: int, library: Path | None, exact: bool, spinning: bool, profile: Path | None
) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said once, by the exception
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was checked, never guessed from bytes
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    if provider == CPU and _limit_memory(ort):
        options.add_session_config_entry("session.use_env_allocators", "1")
    if exact:  # u8u8 kernels, which take 1.3 to 1.8 times as long where u8s8 ones are exact too
        options.add_session_config_entry("session.x64quantprecision", "1")
    if library:
        options.register_custom_ops_library(str(library))
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return options


def pad(
    ids: Ids, pad_token_id: int, types: Ids = (), longest: int = 0, names: Sequence[str] = INPUTS
) -> dict[str, NDArray[np.int64]]:
    """The named inputs of a batch, padded on the right.

    Args:
        ids: token ids of each row.
        pad_token_id: fills the shorter ones.
        types: token type ids of each; none, or none of a row: all 0.
        longest: to how many tokens, at least those of the longest row; 0: to those.
        names: what the graph takes.

    Returns:
        Some of `input_ids`, `attention_mask` and `token_type_ids`, all int64 (batch, longest).
    """
    longest = longest or max(len(row) for row in ids)
    feeds = {name: np.zeros((len(ids), longest), dtype=np.int64) for name in names}  # (B, T)
    feeds["input_ids"].fill(pad_token_id)
    for index, row in enumerate(ids):
        feeds["input_ids"][index, : len(row)] = row
        if "attention_mask" in feeds:
            feeds["attention_mask"][index, : len(row)] = 1
    if "token_type_ids" in feeds:
        for index, row in enumerate(types):
            feeds["token_type_ids"][index, : len(row)] = row
    return feeds
