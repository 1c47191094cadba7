"""Scores across datasets: a matrix of the data that networks were trained on and the data that they were tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reidbench import Chart, Column, Part, RunFiles, RunRecord, Series, Spec, Table, hookimpl, named_score
from reidbench_reports.combinations import Combination, combinations, newest, percent_column

SHARED = ("loss", "backbone", "recipe", "metric", "rerank")


class Transfer:
    """A matrix of the primary score for each combination that was tested on other data than it was trained on.

    Options:
        most: number of combinations with a heat map, in the order of the runs; all have a table.
    """

    def __init__(self, *, most: int = 6) -> None:
        self.most = most

    def build(self, records: Sequence[RunRecord], files: RunFiles) -> Part:
        """Return the part: a table and a heat map for each combination; empty where no run is across datasets."""
        part = Part(title="Across datasets")
        matrices: dict[tuple[str, ...], list[Combination]] = {}
        for row in combinations([record for record in newest(records)[0] if record.scored]):
            key = *(row.first.items[kind].short for kind in SHARED), row.first.evaluation.primary
            matrices.setdefault(key, []).append(row)
        crossed = {key: rows for key, rows in matrices.items() if any("train" in row.first.items for row in rows)}
        specs = dict.fromkeys(spec for rows in crossed.values() for row in rows for spec in _domains(row.first))
        labels = _labels(list(specs))
        for key, rows in crossed.items():
            cells: dict[tuple[str, ...], tuple[float | None, float | None]] = {}
            for row in rows:
                pair, score = tuple(labels[spec] for spec in _domains(row.first)), row.mean(key[-1])
                if cells.setdefault(pair, score) != score:  # views or pooling differ
                    part.notes.append(
                        f"Left out, as the matrix has another of these data: {row.first.items['protocol'].short}."
                    )
            sources, targets = (
                [label for label in labels.values() if label in side] for side in zip(*cells, strict=True)
            )
            title = f"{named_score(key[-1]).label} in percent: {_name(key, list(crossed))}"
            table = [
                {"trained on": source}
                | {target: cells.get((source, target), (None, None))[0] for target in targets}
                | {f"{target}_sd": cells.get((source, target), (None, None))[1] for target in targets}
                for source in sources
            ]
            columns = [Column("trained on"), *(percent_column(target, f"on {target}") for target in targets)]
            part.tables.append(Table(table, columns, title))
            if len(part.charts) < self.most:
                part.charts.append(_heatmap(title, table, targets))
        if crossed:
            part.notes.append("Rows: training data; columns: queries and gallery; a dash: no run.")
            part.notes.extend(f"{label}: {spec}." for spec, label in labels.items() if label != spec)
        return part


def _domains(record: RunRecord) -> tuple[str, str]:
    """Return the specs of the training data and of the test data."""
    test = record.items["dataset"]
    return record.items.get("train", test).short, test.short


def _labels(specs: Sequence[str]) -> dict[str, str]:
    """Return a label for each dataset: its spec, or its name with a number where several have that name."""
    names = [Spec.parse(spec).item.name for spec in specs]
    return {
        spec: f"{name} {names[:place].count(name) + 1}" if names.count(name) > 1 else spec
        for place, (spec, name) in enumerate(zip(specs, names, strict=True))
    }


def _name(key: tuple[str, ...], keys: Sequence[tuple[str, ...]]) -> str:
    """Return the loss of a combination with the items that differ among the combinations."""
    varying = [each for place, each in enumerate(key[:-1]) if not place or len({other[place] for other in keys}) > 1]
    return ", ".join(each for each in varying if each != "none") or "untrained"


def _heatmap(title: str, table: Sequence[Mapping[str, float | str | None]], targets: Sequence[str]) -> Chart:
    percent = [[None if row[t] is None else 100 * float(row[t] or 0) for t in targets] for row in table]
    rows = [Series(str(row["trained on"]), list(targets), values) for row, values in zip(table, percent, strict=True)]
    return Chart("heatmap", title, rows, "tested on", "trained on")


@hookimpl
def register_sections() -> Mapping[str, Callable[..., Transfer]]:
    return {"transfer": Transfer}
