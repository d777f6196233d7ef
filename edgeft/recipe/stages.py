"""Every option of every stage."""

from __future__ import annotations

from typing import Annotated, Literal

from edgeft.recipe.base import Count, Dropout, Milliseconds, Points, Rate, Rows, Share, StageConfig, Tokens, Weight
from edgeft.recipe.options import config as _config
from edgeft.recipe.options import option as _option
from edgeft.recipe.rows import AugmentConfig, DataConfig


@_config()
class TrainingConfig(StageConfig):
    """Options of every stage that trains."""

    epochs: Annotated[float, _option("passes over the training rows", gt=0)] = 3.0
    batch_size: Annotated[int, _option("rows in one forward pass", "rows", ge=1)] = 16
    gradient_accumulation: Annotated[int, _option("forward passes before an optimizer step", ge=1)] = 1
    learning_rate: Annotated[Rate | None, _option("peak learning rate; unset: by method")] = None
    optimizer: Annotated[
        Literal["auto", "adamw", "sgd", "adamw_8bit", "paged_adamw_8bit"],
        _option("8-bit ones need CUDA; auto: adamw, or paged_adamw_8bit for QLoRA on CUDA"),
    ] = "auto"
    gradient_checkpointing: Annotated[
        bool | None,
        _option(
            "store only each layer's input and recompute the rest in the backward pass; unset: for QLoRA on CUDA only"
        ),
    ] = None
    schedule: Annotated[
        Literal["linear", "cosine", "constant"], _option("how the learning rate falls after the warm-up")
    ] = "linear"
    warmup_fraction: Annotated[float, _option("share of the steps in which the learning rate rises", ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, _option("weight decay of matrices (not of biases and norms)", ge=0)] = 0.01
    max_grad_norm: Annotated[float, _option("largest norm of the gradients; larger ones are clipped", gt=0)] = 1.0
    label_smoothing: Annotated[
        float, _option("share of a label's probability that the loss spreads over all labels", ge=0, lt=1)
    ] = 0.0
    layer_decay: Annotated[
        float, _option("learning rate of each layer, relative to the layer above it", gt=0, le=1)
    ] = 1.0
    length_grouped: Annotated[bool, _option("batch rows of similar length together, to reduce padding")] = True
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        _option("arithmetic of the training; auto: bf16 on a GPU that has it, fp16 on other GPUs, fp32 on a CPU"),
    ] = "auto"
    evaluations_per_epoch: Annotated[int, _option("evaluations on the validation split in each epoch", ge=1)] = 2
    early_stopping_patience: Annotated[
        int, _option("evaluations without improvement before training stops; 0: never", ge=0)
    ] = 4
    checkpoint_steps: Annotated[int, _option("optimizer steps between resumable checkpoints", "steps", ge=1)] = 50
    device: Annotated[Literal["auto", "cpu", "cuda"], _option("where to train; auto: a GPU where there is one")] = (
        "auto"
    )
    processes: Annotated[
        int, _option("processes on this machine that train together, each batch shared among them", ge=1)
    ] = 1
    report_to: Annotated[
        list[str] | None,
        _option("trackers that receive the training metrics, as accelerate names them: tensorboard, wandb, ..., all"),
    ] = None


@_config()
class BaselineConfig(StageConfig):
    """TF-IDF with logistic regression on the same rows."""

    enabled: Annotated[bool, _option("whether to train the baseline")] = True
    max_features: Annotated[int, _option("largest number of words and word pairs", ge=10)] = 50_000


@_config(epochs=None, batch_size=None, warmup_fraction=None, max_length=None)
class FinetuneConfig(TrainingConfig):
    """Fine-tuning the teacher; what is unset, `edgeft.train.defaults` decides from the rows and the model."""

    model: Annotated[str | None, _option("model folder, Hugging Face id, or demo:NAME")] = None
    method: Annotated[
        Literal["full", "head", "lora", "dora", "rslora", "qlora", "ia3", "peanut", "prompt", "prefix", "p_tuning"],
        _option("which weights train, and how the other weights are stored"),
    ] = "lora"
    freeze_layers: Annotated[
        int, _option("how many of the lowest layers don't train, nor do the embeddings; 0: all train", "layers", ge=0)
    ] = 0
    gradual_unfreezing: Annotated[
        bool, _option("train only the head at first, then add one layer at a time from the top, at equal intervals")
    ] = False
    max_length: Annotated[int, _option("longer texts are truncated", "tokens", ge=4)] = 128
    shard_frozen: Annotated[
        bool, _option("shard the frozen weights across the processes (FSDP), for adapters on large models")
    ] = False
    packing: Annotated[
        bool,
        _option("pack short texts into sequences of max_length, without attention between texts; language models only"),
    ] = False
    virtual_tokens: Annotated[
        Tokens | None,
        _option("virtual tokens of prompt and p_tuning in front of each text; not counted in max_length", "tokens"),
    ] = None
    ewc_weight: Annotated[
        Weight | None,
        _option(
            "in an update, weight of elastic weight consolidation, which protects what the earlier rows taught; 0: off"
        ),
    ] = None
    ewc_rows: Annotated[
        Rows | None,
        _option(
            "earlier training rows from which elastic weight consolidation estimates each weight's importance", "rows"
        ),
    ] = None
    rehearsal_fraction: Annotated[
        Share | None, _option("in an update, share of the earlier training rows to train on again")
    ] = None
    dropout: Annotated[
        Dropout | None,
        _option("dropout in the model's layers (Llama and its relatives: in attention); unset: as in config.json"),
    ] = None
    lora_rank: Annotated[int, _option("rank of the LoRA matrices, or width of peanut's bottlenecks", ge=1)] = 16
    lora_alpha: Annotated[int, _option("LoRA's scale is alpha / rank", ge=1)] = 32
    lora_dropout: Annotated[float, _option("dropout before the LoRA matrices", ge=0, lt=1)] = 0.05
    merge_tolerance: Annotated[
        float,
        _option(
            "largest difference between the logits of merged and adapter model, relative to the largest logit", gt=0
        ),
    ] = 1e-4
    counterfactual_augmentation: Annotated[
        bool, _option("also train on copies of the rows with identity terms swapped, under the same labels")
    ] = False
    identity_terms: Annotated[
        str | None, _option("YAML file of identity terms and their swaps; unset: the list of edgeft")
    ] = None
    bootstrap_resamples: Annotated[
        int, _option("bootstrap resamples for the 95% intervals of test metrics and slices", ge=100)
    ] = 1000


@_config()
class UpdateConfig(StageConfig):
    """Training a finished run further on new rows."""

    run: Annotated[
        str | None, _option("run folder whose model is trained further on data.file and its own rows; unset: no update")
    ] = None
    max_old_drop_points: Annotated[
        Points | None,
        _option(
            "refuse the update if the lead metric on earlier test rows, or on those of a label, surely drops by more",
            "points",
        ),
    ] = None


@_config()
class DistillationConfig(TrainingConfig):
    """Options of every stage that learns from a teacher."""

    temperature: Annotated[float, _option("temperature of both distributions in the soft-label loss", gt=0)] = 2.0
    soft_weight: Annotated[float, _option("weight of the soft-label loss", ge=0)] = 1.0
    hard_weight: Annotated[float, _option("weight of the cross-entropy on the labels", ge=0)] = 0.5
    hidden_weight: Annotated[float, _option("weight of the cosine loss on the last hidden states", ge=0)] = 1.0
    reverse_weight: Annotated[
        float, _option("weight of the reverse soft-label loss, the KL divergence of the student from the teacher", ge=0)
    ] = 0.0
    relation_weight: Annotated[
        float, _option("weight of the last layer's self-attention relations (MiniLMv2)", ge=0)
    ] = 0.0
    unlabelled: Annotated[bool, _option("also learn from unlabelled texts")] = True
    teacher_top_k: Annotated[
        int,
        _option("most likely tokens stored from a language model's teacher; the others are stored as one sum", ge=1),
    ] = 64
    int8_epochs: Annotated[
        float,
        _option(
            "additional epochs of quantization-aware training, in which the student computes as the int8 graph will",
            ge=0,
        ),
    ] = 0.0
    embedding_bits: Annotated[
        Literal[8, 4] | None,
        _option("bits of an embedding value in those epochs; unset: as in export, or 8 when the stage is run alone"),
    ] = None
    weight_bits: Annotated[Literal[8, 4] | None, _option("bits of a weight in those epochs; unset: as in export")] = (
        None
    )


@_config(epochs=4.0, learning_rate=1e-4)
class DistillConfig(DistillationConfig):
    """Distilling the teacher into a student."""

    enabled: Annotated[bool, _option("whether to distill; off: the teacher itself is pruned and exported")] = True
    student: Annotated[str | None, _option("checkpoint to initialize the student from; unset: the teacher")] = None
    layers: Annotated[
        list[int] | None,
        _option(
            "layers to initialize the student from; unset: evenly spread ones of the teacher, or all of a checkpoint"
        ),
    ] = None
    num_layers: Annotated[int, _option("how many of the teacher's layers to take, unless layers names them", ge=1)] = 3
    width: Annotated[
        Count | None,
        _option("hidden width, reduced to the principal directions of the hidden states; unset: the teacher's"),
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
            "tokens to keep: the most frequent, half from the rows and half from unlabelled texts; unset: all",
            "tokens",
        ),
    ] = None
    vocabulary_min_count: Annotated[
        int, _option("tokens that occur less often in the training texts are removed; 0: none", ge=0)
    ] = 0
    max_parameters: Annotated[
        Count | None,
        _option("remove heads and channels, in nearly equal shares, until at most this many parameters are left"),
    ] = None
    max_latency_ms: Annotated[
        Milliseconds | None,
        _option(
            "remove heads and channels, in nearly equal shares, until the latency table predicts this time for a text",
            "ms",
        ),
    ] = None
    latency_table: Annotated[
        str | None, _option("file of measured latencies, from this or another machine; unset: measure on this machine")
    ] = None
    rounds: Annotated[int, _option("prune in this many steps, each followed by a training", ge=1)] = 1
    importance: Annotated[
        Literal["taylor", "magnitude", "random"], _option("score that decides which heads and channels are removed")
    ] = "taylor"
    across_layers: Annotated[
        bool, _option("rank heads and channels across all layers; the ratios then hold for the whole model")
    ] = False
    importance_rows: Annotated[int, _option("training rows to compute the Taylor importance from", "rows", ge=1)] = 256
    max_drop_points: Annotated[
        float,
        _option(
            "if the lead metric on validation drops by more, pruning is retried at half the ratios", "points", ge=0
        ),
    ] = 1.5
    max_teacher_drop_points: Annotated[
        Points | None, _option("as max_drop_points, but compared with the teacher; set by drop in a budget", "points")
    ] = None


@_config()
class ExportConfig(StageConfig):
    """Capture to ONNX, int8, and the gates between them."""

    precision: Annotated[
        Literal["auto", "fp32", "int8", "int8-tensor", "int8-static", "int8-blocks", "int4-blocks", "fp16"],
        _option("auto: the fastest that agrees with fp32, is smaller and clearly faster"),
    ] = "auto"
    opset: Annotated[int, _option("ONNX operator set", ge=18)] = 20
    embedding_bits: Annotated[
        Literal[8, 4], _option("bits of a value in large embedding tables of a quantized graph; 4: in blocks of 32")
    ] = 8
    weight_bits: Annotated[
        Literal[8, 4],
        _option("stored bits of a weight of int8 and int8-tensor; 4: in blocks of 32, expanded to int8 at load"),
    ] = 8
    calibration_rows: Annotated[
        int, _option("training rows to calibrate the ranges of activations on", "rows", ge=1)
    ] = 128
    smoothing: Annotated[
        Share | None,
        _option("share of the activations' range to move into the int8 weights (SmoothQuant's alpha); unset: measured"),
    ] = None
    calibration: Annotated[
        Literal["minmax", "percentile", "entropy"], _option("how static int8 determines the range of an activation")
    ] = "minmax"
    parity_rows: Annotated[int, _option("validation rows for the parity check", "rows", ge=1)] = 256
    parity_tolerance: Annotated[
        float, _option("largest difference between the logits of the fp32 graph and torch", gt=0)
    ] = 1e-4
    min_agreement: Annotated[
        float, _option("smallest share of answers that must be the same as with fp32", gt=0, le=1)
    ] = 0.98
    min_speedup: Annotated[
        float, _option("a precision must be this many times faster than fp32; below, it counts as a tie", ge=1)
    ] = 1.05
    float_layers: Annotated[
        list[str] | None,
        _option("weights to keep in fp32 in a quantized graph; unset: chosen by measured sensitivity"),
    ] = None
    latency_queries: Annotated[int, _option("queries to each precision when they are timed in turns", ge=10)] = 100


@_config()
class CalibrateConfig(StageConfig):
    """Calibrating the probabilities on the validation logits of the graph that ships."""

    enabled: Annotated[bool, _option("whether to calibrate; off: the same as method none")] = True
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
            "largest share of wrong answers: less confident ones get abstain=true to stay below it; unset: none do"
        ),
    ] = None
    confidence: Annotated[float, _option("confidence level at which max_error holds", gt=0, lt=1)] = 0.95
    bins: Annotated[int, _option("equal-width bins for the expected calibration error", ge=2)] = 15


@_config()
class BenchConfig(StageConfig):
    """Measuring the artifact on this machine."""

    queries: Annotated[int, _option("timed queries to each form of the model; a p99 needs 662", ge=10)] = 662
    warmup: Annotated[int, _option("warm-up queries before the timed ones", ge=0)] = 20
    threads: Annotated[int, _option("threads of the engine", "threads", ge=1)] = 1
    batch_size: Annotated[int, _option("texts in one call when throughput is measured", "rows", ge=1)] = 8
    against_teacher: Annotated[
        bool, _option("also time the teacher in transformers.pipeline, in turns with the artifact in one process")
    ] = True


@_config()
class ReportConfig(StageConfig):
    """The HTML report."""

    mistakes: Annotated[int, _option("how many of the most confident mistakes to show with their text", ge=0)] = 20
    texts: Annotated[
        bool,
        _option("whether report and golden rows of the artifact contain texts of your rows; off: token ids"),
    ] = True


@_config()
class Recipe:
    """From a labelled file to an artifact."""

    name: Annotated[str, _option("name of the run folder, runs/NAME")] = "run"
    task: Annotated[str, _option("the task's tag, as on the Hugging Face Hub")] = "text-classification"
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
