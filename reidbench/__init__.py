"""reidbench: a plugin-based benchmark suite for metric-learning losses on person re-identification.

This module is the public API, and the one module that plugins import. Names are loaded on first use, so that
``reidbench --help`` and plugins without a network need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from reidbench.compilation import compiled
    from reidbench.errors import DataError, OptionError, PluginError, ReidbenchError, TrainingError
    from reidbench.evaluation import evaluate
    from reidbench.holdout import hold_out
    from reidbench.hookspecs import hookimpl
    from reidbench.interfaces import Backbone, Loss, Metric, Reranker, Section
    from reidbench.options import File, choose
    from reidbench.plan import resolved_items
    from reidbench.plugins import build
    from reidbench.progress import track
    from reidbench.randomness import stream, stream_key
    from reidbench.ranking import nearest, unit_rows
    from reidbench.recipe import Recipe
    from reidbench.record import RunRecord
    from reidbench.run_comparison import difference, identities_of, same_matches
    from reidbench.run_files import RunFiles
    from reidbench.sampling import pk_round, shuffled_round
    from reidbench.scores import Scores, average_precision, first_match
    from reidbench.spec import Spec
    from reidbench.statistics import interval, mean_and_sd, paired_difference
    from reidbench.suite import leaderboards_folder, load_suite
    from reidbench.values import (
        BackboneInfo,
        IntArray,
        Job,
        LossValue,
        Part,
        Preprocess,
        Protocol,
        Ranking,
        Samples,
        Split,
        TrainInfo,
        TrainView,
    )

_HOME = {
    "Backbone": "interfaces",
    "BackboneInfo": "values",
    "DataError": "errors",
    "File": "options",
    "IntArray": "values",
    "Job": "values",
    "Loss": "interfaces",
    "LossValue": "values",
    "Metric": "interfaces",
    "OptionError": "errors",
    "Part": "values",
    "PluginError": "errors",
    "Preprocess": "values",
    "Protocol": "values",
    "Ranking": "values",
    "Recipe": "recipe",
    "ReidbenchError": "errors",
    "Reranker": "interfaces",
    "RunFiles": "run_files",
    "RunRecord": "record",
    "Samples": "values",
    "Scores": "scores",
    "Section": "interfaces",
    "Split": "values",
    "TrainInfo": "values",
    "TrainView": "values",
    "TrainingError": "errors",
    "average_precision": "scores",
    "build": "plugins",
    "choose": "options",
    "compiled": "compilation",
    "difference": "run_comparison",
    "evaluate": "evaluation",
    "first_match": "scores",
    "hold_out": "holdout",
    "hookimpl": "hookspecs",
    "identities_of": "run_comparison",
    "interval": "statistics",
    "leaderboards_folder": "suite",
    "load_suite": "suite",
    "resolved_items": "plan",
    "Spec": "spec",
    "nearest": "ranking",
    "mean_and_sd": "statistics",
    "paired_difference": "statistics",
    "pk_round": "sampling",
    "same_matches": "run_comparison",
    "shuffled_round": "sampling",
    "stream": "randomness",
    "stream_key": "randomness",
    "track": "progress",
    "unit_rows": "ranking",
}

__all__ = [
    "Backbone",
    "BackboneInfo",
    "DataError",
    "File",
    "IntArray",
    "Job",
    "Loss",
    "LossValue",
    "Metric",
    "OptionError",
    "Part",
    "PluginError",
    "Preprocess",
    "Protocol",
    "Ranking",
    "Recipe",
    "ReidbenchError",
    "Reranker",
    "RunFiles",
    "RunRecord",
    "Samples",
    "Scores",
    "Section",
    "Spec",
    "Split",
    "TrainInfo",
    "TrainView",
    "TrainingError",
    "average_precision",
    "build",
    "choose",
    "compiled",
    "difference",
    "evaluate",
    "first_match",
    "hold_out",
    "hookimpl",
    "identities_of",
    "interval",
    "leaderboards_folder",
    "load_suite",
    "mean_and_sd",
    "nearest",
    "paired_difference",
    "pk_round",
    "resolved_items",
    "same_matches",
    "shuffled_round",
    "stream",
    "stream_key",
    "track",
    "unit_rows",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reidbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"reidbench.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
