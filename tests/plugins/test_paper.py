"""The paper's numbers and suites agree, and only the paper's own systems on its own data stand beside a number."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import pytest
from reidbench_reports import paper
from reidbench_reports.published import TABLES, cells

from reidbench import Job, OptionError, RunRecord, resolved_items
from reidbench.reports.sections import build_sections
from reidbench.runs.artifacts import RunFiles
from reidbench.runs.suite import find_suite, load_suite
from reidbench.utils.machine import local_machine
from tests.support.paths import CHECKOUT, SHARED
from tests.support.records import digest, make_item, make_record, replace_parts

FILES = RunFiles([], local_machine())


def run_of(job: Job, seed: int = 0, **changes: object) -> RunRecord:
    """Return a run of a job, with the items that it comes to."""
    texts, version = resolved_items(job)
    items = {kind: make_item(given, texts[kind]) for kind, given in asdict(job).items() if kind != "seed"}
    if job.metric == "auto":
        items["metric"] = make_item("auto", "euclidean(normalize=false)")
    record = make_record(job.loss, seed, items=items, **changes)  # type: ignore[arg-type]
    how = {"version": version, "metric_is_auto": job.metric == "auto"}
    return replace_parts(record, evaluation=how, job=replace(job, seed=seed), id=digest(job, seed, changes))


@pytest.mark.parametrize("table", TABLES)
def test_a_suite_makes_exactly_the_cells_that_have_a_job_and_each_scale_all_of_them(table: int) -> None:
    suite = load_suite(find_suite(f"paper/table{table}"))
    assert {replace(job, seed=0) for job in suite.jobs} == {cell.job for cell in cells(table) if cell.job}
    small = [suite.scale("tiny").of(job) for job in suite.jobs]
    assert len(set(small)) == len(suite.jobs)
    assert not set(small) & set(suite.jobs)


def test_figure_2_is_table_5() -> None:
    assert load_suite(find_suite("paper/fig2")).jobs == load_suite(find_suite("paper/table5")).jobs


@pytest.mark.parametrize(
    ("figure", "loss"),
    [(6, "batch_hard(margin=0.2)"), (7, "batch_hard"), (8, "batch_hard"), (9, "triplet_ohm(margin=0.1)")],
)
def test_the_logs_are_those_of_the_papers_figures(figure: int, loss: str) -> None:
    (job,) = load_suite(find_suite(f"paper/fig{figure}")).jobs
    assert (job.loss, job.protocol) == (loss, "mars" if figure == 9 else "market1501")
    assert job.backbone == ("tiny" if figure == 8 else "lunet")


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_is_there_in_its_order(table: int) -> None:
    file = SHARED / "paper" / "hermans2017.md"
    if not file.is_file():
        pytest.skip(f"{file} is not there: the paper's text lies beside the checkout only where this was written")
    text = file.read_text(encoding="utf-8")
    lines = text[: text.index(f"\nTable {table}:")].rstrip().split("\n")
    block: list[str] = []
    while "\t" in lines[-1]:
        block.insert(0, lines.pop())
    # Rows of numbers, not the two lines of headings; the first cell names the row, Table 2's second its type.
    values = [
        float(found)
        for line in block[2:]
        for cell in line.split("\t")[1:]
        for found in re.findall(r"^(?:<b>)?([0-9]+\.[0-9]+)\*?(?:</b>)?$", cell.strip())
    ]
    assert sorted(values) == sorted(cell.value for cell in cells(table))
    assert sum(line.count("*") for line in block[2:]) == sum("*" in cell.mark for cell in cells(table))


def test_ours_stands_beside_the_published_with_the_difference() -> None:
    trinet = next(cell.job for cell in cells(2) if cell.row == "TriNet" and cell.column == "MARS")
    assert trinet is not None
    runs = [run_of(trinet, seed, scores={"map_market": value}) for seed, value in enumerate((0.67, 0.69))]
    (part,) = build_sections(["paper(table=2)"], runs, FILES)
    (frame,) = part.tables
    row = frame[(frame["system"] == "TriNet") & (frame["data"] == "MARS")].iloc[0]
    assert row["mAP (market)"] == "67.70"
    assert row["ours: mAP (market)"] == "68.00 ±1.41 (+0.30)"
    assert frame["ours: rank-1"].tolist().count("–") == len(frame) - 1
    assert part.notes[0].startswith("3 of 93 numbers have one of ours")


def test_stand_ins_failures_and_tiny_runs_are_never_ours() -> None:
    suite = load_suite(find_suite("paper/table2"))
    job = suite.jobs[0]
    runs = [
        run_of(job, 0, standin=True),
        run_of(job, 1, deviations=["partial data: gallery: 2 expected, 1 found"]),
        run_of(job, 2, status="failed", scores={}),
        run_of(suite.scale("tiny").of(job), 3),
        run_of(replace(job, loss="classification"), 4),
    ]
    (part,) = build_sections(["paper(table=2)"], runs, FILES)
    ours, others = part.tables
    assert ours.columns.tolist() == ["system", "data", "mAP (market)", "rank-1", "rank-5"]  # nothing of ours to show
    assert others["reason"].tolist() == [
        "stand-in data",
        "partial data: gallery: 2 expected, 1 found",
        "failed",
        "tiny",
    ]
    assert set(others["system"]) == {"TriNet"}
    assert set(others["data"]) == {"Market-1501 SQ"}


def test_what_was_asked_for_in_other_words_is_ours_and_other_options_or_versions_are_not() -> None:
    job = load_suite(find_suite("paper/table2")).jobs[0]
    spelt = replace(job, loss=resolved_items(job)[0]["loss"], recipe=resolved_items(job)[0]["recipe"])
    assert spelt != job
    (part,) = build_sections(["paper(table=2)"], [run_of(spelt, scores={"map_market": 0.6})], FILES)
    assert [text[:5] for text in part.tables[0]["ours: mAP (market)"] if text != "–"] == ["60.00"]
    run = run_of(job)
    margin = make_item(job.loss, run.items["loss"].spec.replace("margin=soft", "margin=0.2"))
    for other in (
        replace(run, items=run.items | {"loss": margin}),  # the same text, from a version with another default
        replace_parts(run, evaluation={"version": run.evaluation.version - 1}),
        replace_parts(run, evaluation={"metric_is_auto": False}),
    ):
        (part,) = build_sections(["paper(table=2)"], [other], FILES)
        assert not any(column.startswith("ours") for column in part.tables[0].columns)
        assert part.tables[1]["reason"].tolist() == ["other options or another version than now"]


def test_seeds_of_other_data_or_code_than_the_newest_are_not_averaged_with_them() -> None:
    job = load_suite(find_suite("paper/table2")).jobs[0]
    old = run_of(job, 0, scores={"map_market": 0.1}, group=digest("old"))
    new = run_of(job, 1, scores={"map_market": 0.6}, group=digest("new"), finished="2026-11-22T11:00:00+00:00")
    by_other_code = replace(old, group=new.group, code=digest("other code"))
    for order in ([old, new], [new, old], [by_other_code, new], [new, by_other_code]):
        (part,) = build_sections(["paper(table=2)"], order, FILES)
        assert [text[:5] for text in part.tables[0]["ours: mAP (market)"] if text != "–"] == ["60.00"]
        assert part.tables[1]["reason"].tolist() == ["other data or code than the newest"]


def test_an_item_that_is_not_installed_costs_its_own_cells_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite(find_suite("paper/table2"))
    gone = {job for job in suite.jobs if job.metric.startswith("xqda")}
    assert gone
    assert gone != {*suite.jobs}
    runs = [run_of(next(iter(gone)), 1), run_of(suite.jobs[0], scores={"map_market": 0.6})]

    def without_xqda(job: Job) -> tuple[dict[str, str], int]:
        if job.metric.startswith("xqda"):
            raise OptionError('there is no metric "xqda"')
        return resolved_items(job)

    monkeypatch.setattr(paper, "resolved_items", without_xqda)
    (part,) = build_sections(["paper(table=2)"], runs, FILES)
    assert [text[:5] for text in part.tables[0]["ours: mAP (market)"] if text != "–"] == ["60.00"]
    said = [note for note in part.notes if "not installed" in note]
    assert said == ['Left out, for what is not installed here: there is no metric "xqda"']
    assert len(part.tables) == 1  # nothing can be said of a run of what is left out


def test_what_stands_for_the_paper_stands_in_the_papers_order() -> None:
    suite = load_suite(find_suite("paper/table2"))
    runs = [run_of(suite.scale("tiny").of(job)) for job in reversed(suite.jobs)]
    (part,) = build_sections(["paper(table=2)"], runs, FILES)
    published, others = ([tuple(row) for row in frame[["system", "data"]].to_numpy()] for frame in part.tables)
    assert others == [row for row in published if row in others]
    assert len(others) == 18


def test_in_table_1_the_rows_loss_and_the_runs_own_stand_beside_each_other() -> None:
    cell = cells(1)[0]
    assert cell.job is not None
    (part,) = build_sections(["paper(table=1)"], [run_of(cell.job, standin=True)], FILES)
    (row,) = part.tables[1].to_dict("records")
    assert (row["loss"], row["margin"], row["own loss"]) == ("Triplet (L_tri)", "margin 0.1", "triplet(margin=0.1)")


def test_a_collapsed_run_has_the_papers_star() -> None:
    cell = next(cell for cell in cells(1) if "*" in cell.mark)
    assert cell.printed == "16.6*"
    assert cell.job is not None
    collapsed = run_of(cell.job, status="collapsed", scores={"map_market": 0.1})
    (part,) = build_sections(["paper(table=1)"], [collapsed], FILES)
    row = part.tables[0][part.tables[0]["ours: mAP (market)"] != "–"].iloc[0]
    assert (row["mAP (market)"], row["ours: mAP (market)"]) == ("16.6*", "10.00* (-6.60)")


def test_there_are_five_tables() -> None:
    with pytest.raises(OptionError, match="option table: expected one of the Tables 1 to 5, got 6"):
        build_sections(["paper(table=6)"], [], FILES)


def test_every_number_names_its_table_and_cell() -> None:
    for table in TABLES:
        for cell in cells(table):
            assert cell.source.startswith(f"Hermans et al. 2017, Table {table}, row {cell.row}, column {cell.column}, ")


def test_the_suites_folder_is_the_installed_one_or_the_checkouts() -> None:
    assert find_suite("paper/table2").is_relative_to(CHECKOUT)
