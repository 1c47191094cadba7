# The public names, and the module that defines each. Type checkers read this file; __init__.py reads it at import.

from reidbench.data.image_list import (
    ListColumns as ListColumns,
    read_image_list as read_image_list,
    whole_number as whole_number,
)
from reidbench.data.protocol import Protocol as Protocol
from reidbench.data.samples import Samples as Samples
from reidbench.data.split import Split as Split, hold_out as hold_out
from reidbench.errors import (
    DataError as DataError,
    OptionError as OptionError,
    PluginError as PluginError,
    ReidbenchError as ReidbenchError,
    TrainingError as TrainingError,
    did_you_mean as did_you_mean,
)
from reidbench.plugins.catalogue import build as build, choose as choose
from reidbench.plugins.hookspecs import hookimpl as hookimpl
from reidbench.plugins.interfaces import (
    Backbone as Backbone,
    BackboneInfo as BackboneInfo,
    Loss as Loss,
    LossValue as LossValue,
    Metric as Metric,
    PairMetric as PairMetric,
    Preprocess as Preprocess,
    Reranker as Reranker,
    TrainInfo as TrainInfo,
    TrainView as TrainView,
)
from reidbench.plugins.options import (
    File as File,
    LabelOption as LabelOption,
    LaterOption as LaterOption,
    Searched as Searched,
    Weights as Weights,
)
from reidbench.plugins.spec import Spec as Spec
from reidbench.plugins.weights import load_tensors as load_tensors
from reidbench.ranking.bootstrap import mean_and_sd as mean_and_sd
from reidbench.ranking.external_embeddings import evaluate as evaluate
from reidbench.ranking.rank import nearest as nearest, unit_rows as unit_rows
from reidbench.ranking.rankings import Ranking as Ranking
from reidbench.ranking.scores import (
    HEADLINE as HEADLINE,
    Score as Score,
    Scores as Scores,
    average_precision as average_precision,
    first_match as first_match,
    headline_scores as headline_scores,
    named_score as named_score,
    shown_scores as shown_scores,
)
from reidbench.reports.compare_runs import (
    Difference as Difference,
    RunComparison as RunComparison,
    compare as compare,
    difference as difference,
    identities_of as identities_of,
    mean_interval as mean_interval,
    same_matches as same_matches,
)
from reidbench.reports.chart_figures import chart_figure as chart_figure
from reidbench.reports.charts import Chart as Chart, Series as Series
from reidbench.reports.report import Report as Report, report as report
from reidbench.reports.pictures import Picture as Picture, PictureGrid as PictureGrid
from reidbench.reports.sections import Part as Part, Section as Section
from reidbench.reports.table import Column as Column, Table as Table
from reidbench.reports.artifacts import RunFiles as RunFiles
from reidbench.runs.execute import run as run
from reidbench.runs.export import TrainedNetwork as TrainedNetwork, load as load
from reidbench.runs.job import Job as Job, resolved_items as resolved_items
from reidbench.runs.record import RunRecord as RunRecord
from reidbench.runs.records import Records as Records, records as records
from reidbench.runs.suite import leaderboards_folder as leaderboards_folder, load_suite as load_suite
from reidbench.runs.tasks import Executor as Executor, Task as Task, TaskState as TaskState
from reidbench.runs.tracking import TrackedRun as TrackedRun, Tracker as Tracker
from reidbench.studies.comparison import (
    Comparison as Comparison,
    LossScores as LossScores,
    Pair as Pair,
)
from reidbench.studies.page import StudyFiles as StudyFiles
from reidbench.studies.study import LossResult as LossResult, Study as Study, Trial as Trial
from reidbench.studies.run_study import study as study
from reidbench.training.recipe import Recipe as Recipe
from reidbench.utils.arrays import IntArray as IntArray, read_arrays as read_arrays
from reidbench.utils.compiled import compiled as compiled
from reidbench.utils.lock import lock as lock
from reidbench.utils.progress import track as track
from reidbench.utils.random_streams import stream as stream, stream_key as stream_key
from reidbench.utils.untrusted_files import parse_json as parse_json, read_text as read_text

__version__: str
__all__: list[str]

def public_modules() -> dict[str, str]: ...
