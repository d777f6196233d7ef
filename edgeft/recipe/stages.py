"""Every option of every stage."""

from __future__ import annotations

from typing import Annotated, Literal

from edgeft.recipe.base import Count, Dropout, Milliseconds, Points, Rate, Rows, Share, StageConfig, Tokens, Weight
from edgeft.recipe.options import config as _config
from edgeft.recipe.options import option as _option
from edgeft.recipe.rows import AugmentConfig, DataConfig


@_config()
class TrainingConfig(StageConfig):
    """What every stage that trains has."""

    epochs: Annotated[float, _option("passes over the training rows", gt=0)] = 3.0
    batch_size: Annotated[int, _option("rows in one forward pass", "rows", ge=1)] = 16
    gradient_accumulation: Annotated[int, _option("forward passes before an optimizer step", ge=1)] = 1
    learning_rate: Annotated[Rate | None, _option("peak learning rate; unset: by method")] = None
    optimizer: Annotated[
        Literal["auto", "adamw", "sgd", "adamw_8bit", "paged_adamw_8bit"],
        _option("what turns gradients into steps; 8-bit needs CUDA; auto: adamw, for QLoRA on CUDA the paged one"),
    ] = "auto"
    gradient_checkpointing: Annotated[
        bool | None,
        _option("keep the layers' inputs alone, and compute the rest anew backwards; unset: for QLoRA on CUDA only"),
    ] = None
    schedule: Annotated[
        Literal["linear", "cosine", "constant"], _option("how the rate goes down after the warm-up")
    ] = "linear"
    warmup_fraction: Annotated[float, _option("share of the steps with a rising rate", ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, _option("decay of matrices (not of biases and norms)", ge=0)] = 0.01
    max_grad_norm: Annotated[float, _option("gradients are clipped to this norm", gt=0)] = 1.0
    label_smoothing: Annotated[
        float, _option("share of a label's probability that is spread over all labels in the loss", ge=0, lt=1)
    ] = 0.0
    layer_decay: Annotated[
        float, _option("each layer below the top learns at so much of the rate of the one above it", gt=0, le=1)
    ] = 1.0
    length_grouped: Annotated[bool, _option("batches of rows of similar length, so that little of them is padding")] = (
        True
    )
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        _option("arithmetic of the training; auto: bf16 on a GPU that has it, fp16 on other GPUs, fp32 on a CPU"),
    ] = "auto"
    evaluations_per_epoch: Annotated[int, _option("looks at the validation split in each epoch", ge=1)] = 2
    early_stopping_patience: Annotated[int, _option("looks without improvement before stopping; 0: never", ge=0)] = 4
    checkpoint_steps: Annotated[int, _option("optimizer steps between resumable checkpoints", "steps", ge=1)] = 50
    device: Annotated[Literal["auto", "cpu", "cuda"], _option("where to train; auto: a GPU where there is one")] = (
        "auto"
    )
    processes: Annotated[
        int, _option("processes on this machine that train together, each batch shared among them", ge=1)
    ] = 1
    report_to: Annotated[
        list[str] | None,
        _option("trackers that get the training's figures, as accelerate names them: tensorboard, wandb, ..., all"),
    ] = None


@_config()
class BaselineConfig(StageConfig):
    """TF-IDF with logistic regression on the same rows."""

    enabled: Annotated[bool, _option("whether to train the baseline")] = True
    max_features: Annotated[int, _option("words and word pairs kept", ge=10)] = 50_000


@_config(epochs=None, batch_size=None, warmup_fraction=None, max_length=None)
class FinetuneConfig(TrainingConfig):
    """Fine-tuning the teacher; what is unset, `edgeft.train.defaults` decides from the rows and the model."""

    model: Annotated[str | None, _option("model folder, Hugging Face id, or demo:NAME")] = None
    method: Annotated[
        Literal["full", "head", "lora", "dora", "rslora", "qlora", "ia3", "peanut", "prompt", "prefix", "p_tuning"],
        _option("which weights train, and how the rest is kept"),
    ] = "lora"
    freeze_layers: Annotated[
        int, _option("the lowest layers, and the embeddings, that don't train", "layers", ge=0)
    ] = 0
    gradual_unfreezing: Annotated[
        bool, _option("train the head alone at first, then one more layer from the top in equal parts of the steps")
    ] = False
    max_length: Annotated[int, _option("longer texts are truncated", "tokens", ge=4)] = 128
    shard_frozen: Annotated[
        bool, _option("split the weights that don't train among the processes (FSDP), for adapters on large models")
    ] = False
    packing: Annotated[
        bool, _option("short texts share an item of max_length and don't see each other; for language models")
    ] = False
    virtual_tokens: Annotated[
        Tokens | None, _option("learnt in front of every text by prompt and p_tuning, beyond max_length", "tokens")
    ] = None
    ewc_weight: Annotated[
        Weight | None,
        _option("in an update, weight of elastic weight consolidation, which holds what earlier rows need; 0: off"),
    ] = None
    ewc_rows: Annotated[Rows | None, _option("earlier training rows that say what they need", "rows")] = None
    rehearsal_fraction: Annotated[
        Share | None, _option("in an update, share of the earlier training rows that are learned again")
    ] = None
    dropout: Annotated[
        Dropout | None,
        _option("of the model's layers while it trains (Llama's kind: of attention); unset: what config.json says"),
    ] = None
    lora_rank: Annotated[int, _option("rank of the LoRA matrices, width of peanut's bottlenecks", ge=1)] = 16
    lora_alpha: Annotated[int, _option("LoRA's scale is alpha / rank", ge=1)] = 32
    lora_dropout: Annotated[float, _option("dropout before the LoRA matrices", ge=0, lt=1)] = 0.05
    merge_tolerance: Annotated[
        float,
        _option("largest difference of logits, merged against adapter, relative to the largest logit", gt=0),
    ] = 1e-4
    counterfactual_augmentation: Annotated[
        bool, _option("also train on copies of the rows with identity terms swapped, under the same labels")
    ] = False
    identity_terms: Annotated[
        str | None, _option("YAML file of identity terms and what each is swapped with; unset: those of edgeft")
    ] = None
    bootstrap_resamples: Annotated[
        int, _option("draws behind the 95% intervals of test metrics and slices", ge=100)
    ] = 1000


@_config()
class UpdateConfig(StageConfig):
    """Training a finished run further on new rows."""

    run: Annotated[str | None, _option("run folder whose model learns data.file beside its own rows; unset: none")] = (
        None
    )
    max_old_drop_points: Annotated[
        Points | None,
        _option(
            "refused where the lead metric on earlier test rows, or on those of a label, surely falls by more", "points"
        ),
    ] = None


@_config()
class DistillationConfig(TrainingConfig):
    """What learning from a teacher has."""

    temperature: Annotated[float, _option("softens both distributions of the soft-label loss", gt=0)] = 2.0
    soft_weight: Annotated[float, _option("weight of the soft-label loss", ge=0)] = 1.0
    hard_weight: Annotated[float, _option("weight of the cross-entropy on the labels", ge=0)] = 0.5
    hidden_weight: Annotated[float, _option("weight of the cosine loss on the last hidden states", ge=0)] = 1.0
    reverse_weight: Annotated[
        float, _option("weight of the reverse soft-label loss, the divergence of the student from the teacher", ge=0)
    ] = 0.0
    relation_weight: Annotated[
        float, _option("weight of the last layer's self-attention relations (MiniLMv2)", ge=0)
    ] = 0.0
    unlabelled: Annotated[bool, _option("also learn from the texts without label")] = True
    teacher_top_k: Annotated[
        int, _option("likeliest tokens that are kept of a language model's teacher, the others as one", ge=1)
    ] = 64
    int8_epochs: Annotated[
        float, _option("further epochs in which the student computes as the int8 graph will", ge=0)
    ] = 0.0
    embedding_bits: Annotated[
        Literal[8, 4] | None,
        _option("bits of a value of embeddings in those epochs; unset: as the export, of a stage run alone 8"),
    ] = None
    weight_bits: Annotated[Literal[8, 4] | None, _option("likewise, of a weight; unset: as the export")] = None


@_config(epochs=4.0, learning_rate=1e-4)
class DistillConfig(DistillationConfig):
    """Distilling the teacher into a student."""

    enabled: Annotated[bool, _option("off: the teacher itself goes on")] = True
    student: Annotated[str | None, _option("checkpoint that the student starts from; unset: the teacher")] = None
    layers: Annotated[
        list[int] | None,
        _option("layers that the student starts from; unset: the teacher's, evenly spread, or all of a checkpoint's"),
    ] = None
    num_layers: Annotated[int, _option("how many of the teacher's layers, where they are not named", ge=1)] = 3
    width: Annotated[
        Count | None, _option("hidden width, by the principal directions of the hidden states; unset: the teacher's")
    ] = None


@_config(epochs=1.0, learning_rate=5e-5)
class PruneConfig(DistillationConfig):
    """Pruning vocabulary, layers, hidden width, heads and feed-forward channels, then recovery under the teacher."""

    enabled: Annotated[bool, _option("whether to prune")] = True
    head_ratio: Annotated[float, _option("share of the attention heads removed", ge=0, lt=1)] = 0.25
    channel_ratio: Annotated[float, _option("share of the feed-forward channels removed", ge=0, lt=1)] = 0.25
    width_ratio: Annotated[float, _option("share of the hidden width removed", ge=0, lt=1)] = 0.0
    layer_ratio: Annotated[float, _option("share of the layers removed", ge=0, lt=1)] = 0.0
    vocabulary_size: Annotated[
        Tokens | None,
        _option(
            "tokens that stay, the most frequent in rows and in texts without label, half and half; unset: all",
            "tokens",
        ),
    ] = None
    vocabulary_min_count: Annotated[
        int, _option("occurrences in the training texts that a token needs to stay; 0: none", ge=0)
    ] = 0
    max_parameters: Annotated[
        Count | None, _option("heads and channels go, in nearly equal shares, until so many parameters are left")
    ] = None
    max_latency_ms: Annotated[
        Milliseconds | None,
        _option("heads and channels go, in nearly equal shares, until a text takes so long by the latency table", "ms"),
    ] = None
    latency_table: Annotated[
        str | None, _option("file of measured latencies, of this or another machine; unset: measured here")
    ] = None
    rounds: Annotated[int, _option("cut in so many steps, with as many trainings", ge=1)] = 1
    importance: Annotated[
        Literal["taylor", "magnitude", "random"], _option("what decides which heads and channels go")
    ] = "taylor"
    across_layers: Annotated[
        bool, _option("heads and channels compete across the layers: the shares say how much goes in all")
    ] = False
    importance_rows: Annotated[int, _option("training rows behind the Taylor importance", "rows", ge=1)] = 256
    max_drop_points: Annotated[
        float,
        _option("a larger loss of the lead metric on validation is retried at half the ratios", "points", ge=0),
    ] = 1.5
    max_teacher_drop_points: Annotated[
        Points | None, _option("likewise, against the teacher; a budget's drop sets it", "points")
    ] = None


@_config()
class ExportConfig(StageConfig):
    """Capture to ONNX, int8, and the gates between them."""

    precision: Annotated[
        Literal["auto", "fp32", "int8", "int8-tensor", "int8-static", "int8-blocks", "int4-blocks", "fp16"],
        _option("auto: the fastest that is smaller and clearly faster than fp32 and agrees with it"),
    ] = "auto"
    opset: Annotated[int, _option("ONNX operator set", ge=18)] = 20
    embedding_bits: Annotated[
        Literal[8, 4], _option("bits of a value of large embedding tables in a quantized graph; 4: in blocks of 32")
    ] = 8
    weight_bits: Annotated[
        Literal[8, 4],
        _option("bits of a weight in the file of int8 and int8-tensor; 4: in blocks of 32, made int8 again at load"),
    ] = 8
    calibration_rows: Annotated[int, _option("training rows that give the ranges of activations", "rows", ge=1)] = 128
    smoothing: Annotated[
        Share | None, _option("share of the activations' range that moves into int8 weights; unset: by measurement")
    ] = None
    calibration: Annotated[
        Literal["minmax", "percentile", "entropy"], _option("how static int8 finds the range of an activation")
    ] = "minmax"
    parity_rows: Annotated[int, _option("validation rows of the parity check", "rows", ge=1)] = 256
    parity_tolerance: Annotated[float, _option("largest difference of fp32 logits from torch", gt=0)] = 1e-4
    min_agreement: Annotated[
        float, _option("smallest share of answers that the artifact shares with fp32", gt=0, le=1)
    ] = 0.98
    min_speedup: Annotated[
        float, _option("a precision must be so many times faster than fp32; less than this is a tie", ge=1)
    ] = 1.05
    float_layers: Annotated[
        list[str] | None,
        _option("weights kept in fp32 inside a quantized graph; unset: decided by measured sensitivity"),
    ] = None
    latency_queries: Annotated[int, _option("queries of the race of all precisions", ge=10)] = 100


@_config()
class CalibrateConfig(StageConfig):
    """Probabilities that mean what they say, fitted on the validation logits of the graph that ships."""

    enabled: Annotated[bool, _option("off: as with the method none")] = True
    method: Annotated[
        Literal["auto", "temperature", "vector", "isotonic", "none"],
        _option(
            "auto: none, temperature or vector, by cross-validation; vector (a scale and a bias for each label) and "
            "isotonic (a table for each label) can change a label"
        ),
    ] = "auto"
    max_error: Annotated[
        Share | None,
        _option(
            "wanted share of wrong answers: those that are too unsure to hold it get abstain=true; unset: none does"
        ),
    ] = None
    confidence: Annotated[float, _option("with which max_error is held", gt=0, lt=1)] = 0.95
    bins: Annotated[int, _option("equal-width bins of the expected calibration error", ge=2)] = 15


@_config()
class BenchConfig(StageConfig):
    """Measuring the artifact on this machine."""

    queries: Annotated[int, _option("timed queries for each contender; a p99 wants 662", ge=10)] = 662
    warmup: Annotated[int, _option("queries before the timed ones", ge=0)] = 20
    threads: Annotated[int, _option("threads of the engine", "threads", ge=1)] = 1
    batch_size: Annotated[int, _option("texts in one throughput call", "rows", ge=1)] = 8
    against_teacher: Annotated[
        bool, _option("race the teacher in transformers.pipeline, interleaved in one process")
    ] = True


@_config()
class ReportConfig(StageConfig):
    """The HTML report."""

    mistakes: Annotated[int, _option("most confident mistakes shown with their text", ge=0)] = 20
    texts: Annotated[
        bool,
        _option("whether texts of your rows go into the artifact: its report, and its golden rows; off: token ids"),
    ] = True


@_config()
class Recipe:
    """From a labelled file to an artifact."""

    name: Annotated[str, _option("names the run folder, runs/NAME")] = "run"
    task: Annotated[str, _option("the ecosystem's tag of the task")] = "text-classification"
    seed: Annotated[int, _option("random seed of every stage that has none of its own", ge=0, lt=2**32)] = 0
    budget: Annotated[str | None, _option('limits of the artifact, as in "p99<=15ms,size<=30MB,drop<=1pt"')] = None
    data: DataConfig = DataConfig()
    baseline: BaselineConfig = BaselineConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    update: UpdateConfig = UpdateConfig()
    augment: AugmentConfig = AugmentConfig()
    distill: DistillConfig = DistillConfig()
    prune: PruneConfig = PruneConfig()
    export: ExportConfig = ExportConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    bench: BenchConfig = BenchConfig()
    report: ReportConfig = ReportConfig()
