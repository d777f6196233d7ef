"""The recipe: every option of every stage, declared once.

The YAML keys, `--set stage.field=value`, the command-line flags, the JSON Schema and docs/recipe.md all come from the
dataclasses in `stages.py` and `rows.py`.
"""

from edgeft.recipe.base import StageConfig
from edgeft.recipe.check import check_stage, from_tree
from edgeft.recipe.docs import json_schema, markdown
from edgeft.recipe.files import builtin_names, load, parse_settings, read_tree, resolve, to_yaml, with_settings
from edgeft.recipe.options import Option, leaves, options
from edgeft.recipe.rows import AugmentConfig, DataConfig
from edgeft.recipe.spelling import flag_words, name_option, setting, spell_option, spelled_with
from edgeft.recipe.stages import (
    BaselineConfig,
    BenchConfig,
    CalibrateConfig,
    DistillationConfig,
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    Recipe,
    ReportConfig,
    TrainingConfig,
    UpdateConfig,
)

__all__ = [
    "AugmentConfig",
    "BaselineConfig",
    "BenchConfig",
    "CalibrateConfig",
    "DataConfig",
    "DistillConfig",
    "DistillationConfig",
    "ExportConfig",
    "FinetuneConfig",
    "Option",
    "PruneConfig",
    "Recipe",
    "ReportConfig",
    "StageConfig",
    "TrainingConfig",
    "UpdateConfig",
    "builtin_names",
    "check_stage",
    "flag_words",
    "from_tree",
    "json_schema",
    "leaves",
    "load",
    "markdown",
    "name_option",
    "options",
    "parse_settings",
    "read_tree",
    "resolve",
    "setting",
    "spell_option",
    "spelled_with",
    "to_yaml",
    "with_settings",
]
