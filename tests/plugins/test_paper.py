"""The paper's numbers and suites agree, and only its own systems on its own data count as ours."""

import csv
import re
from dataclasses import replace

import pytest
from reidbench_reports import published
from reidbench_reports.published import TABLES, published_numbers

from reidbench import OptionError, Part, leaderboards_folder, resolved_items
from reidbench.runs.suite import find_suite, load_suite
from tests.support.parts import build_part, headings, printed
from tests.support.paths import SHARED
from tests.support.records import digest, make_item, replace_parts, run_of


def ours_of(part: Part) -> list[str]:
    """Return the mAP of ours in the table of the paper."""
    return [text[:5] for text in printed(part.tables[0], "ours: mAP (market)") if text != "–"]


@pytest.mark.parametrize("table", TABLES)
def test_a_suite_and_its_scales_have_all_jobs_of_a_table(table):
    suite = load_suite(find_suite(f"paper/table{table}"))
    published = {number.job for number in published_numbers(table) if number.job}
    others = {replace(job, seed=0) for job in suite.jobs} - published
    assert published <= set(suite.jobs)
    # Table 2's systems come with their controls, [43] with both of its metrics, [42] with its baseline.
    assert all(job.loss == "none" or job.recipe in ("ide_caffe", "zheng2017(steps=10100)") for job in others)
    assert not others or table == 2
    small = [suite.scale("tiny").jobs[job] for job in suite.jobs]
    assert len(set(small)) == len(suite.jobs)
    assert not set(small) & set(suite.jobs)


def test_figure_2_is_table_5():
    assert load_suite(find_suite("paper/fig2")).jobs == load_suite(find_suite("paper/table5")).jobs


@pytest.mark.parametrize("figure", [1, 3, 4, 5])
def test_figures_of_images_are_runs_of_table_2(figure):
    suite, table = (load_suite(find_suite(f"paper/{name}")) for name in (f"fig{figure}", "table2"))
    assert [job.protocol for job in suite.jobs] == (["mars", "market1501"] if figure == 3 else ["market1501"])
    tiny, of_table = suite.scale("tiny"), table.scale("tiny")
    assert tiny.jobs.items() <= of_table.jobs.items()
    assert tiny.data.items() <= of_table.data.items()


@pytest.mark.parametrize(("figure", "loss"), [(6, "batch_hard(margin=0.2)"), (7, "batch_hard"), (8, "batch_hard")])
def test_suites_of_the_papers_log_figures(figure, loss):
    (job,) = load_suite(find_suite(f"paper/fig{figure}")).jobs
    assert (job.loss, job.protocol, job.recipe) == (loss, "market1501", "hermans2017")
    assert job.backbone == ("tiny(height=128, width=64)" if figure == 8 else "lunet")


@pytest.mark.parametrize("table", TABLES)
def test_every_number_of_the_papers_text_is_there(table):
    file = SHARED / "paper" / "hermans2017.md"
    if not file.is_file():
        pytest.skip(f"{file} is not there: the paper's text lies beside the checkout only where this was written")
    text = file.read_text(encoding="utf-8")
    lines = text[: text.index(f"\nTable {table}:")].rstrip().split("\n")
    block: list[str] = []
    while "\t" in lines[-1]:
        block.insert(0, lines.pop())
    # Rows of numbers, not the two lines of headings; the first number names the row, Table 2's second its type.
    values = [
        float(found)
        for line in block[2:]
        for cell in line.split("\t")[1:]
        for found in re.findall(r"^(?:<b>)?([0-9]+\.[0-9]+)\*?(?:</b>)?$", cell.strip())
    ]
    assert sorted(values) == sorted(number.value for number in published_numbers(table))
    assert sum(line.count("*") for line in block[2:]) == sum("*" in number.mark for number in published_numbers(table))


def test_ours_is_beside_the_published_with_the_difference():
    trinet = next(number.job for number in published_numbers(2) if number.row == "TriNet" and number.column == "MARS")
    runs = [run_of(trinet, seed, scores={"map_market": value}) for seed, value in enumerate((0.67, 0.69))]
    part = build_part("paper(table=2)", runs)
    (table,) = part.tables
    row = list(zip(printed(table, "system"), printed(table, "data"), strict=True)).index(("TriNet", "MARS"))
    assert printed(table, "mAP (market)")[row] == "67.70"
    assert printed(table, "ours: mAP (market)")[row] == "68.00 ±1.41 (+0.30)"
    assert printed(table, "ours: rank-1").count("–") == len(table.rows) - 1
    assert part.notes[0].startswith("3 of 93 numbers have one of ours")
    assert [text for text in printed(table, "ours differs in") if text] == ["torchvision's ResNet-50"]
    assert printed(table, "ours differs in")[row]


def test_table_2_has_sixteen_rows_with_remarks_and_ours_of_real_data_alone():
    part = build_part("paper(table=2)", [])
    (table,) = part.tables
    remarks = {
        system: note for system in printed(table, "system") for note in part.notes if note.startswith(f"{system}: ")
    }
    assert len(set(printed(table, "system"))) == len(remarks) == 16
    assert not [heading for heading in headings(table) if heading.startswith("ours")]
    for system, remark in {
        "IDE (R) + ML ours": "torchvision's ResNet-50; only Adadelta is the paper's",
        "LOMO + Null Space [36]": "MQ pair in [36] probably of a fusion of two features",
        "IDE (R) + ML [43]": "which metric made it is not known for certain",
        "CNN + Video [37]": "its protocol on MARS is not known",
    }.items():
        assert remark in remarks[system]
    assert all("details ours" in remarks[system] for system in remarks if re.search(r"\[(8|31|37)\]", system))
    jobs = dict.fromkeys(number.job for number in published_numbers(2) if number.job)
    real, drawn = (build_part("paper(table=2)", [run_of(job, standin=x) for job in jobs]) for x in (False, True))
    assert len(real.tables) == 1
    assert len([text for text in printed(real.tables[0], "ours: rank-1") if text != "–"]) == len(jobs)
    assert headings(drawn.tables[0]) == headings(table)
    assert len(drawn.tables[1].rows) == len(jobs)


def test_stand_ins_failures_and_tiny_runs_are_never_ours():
    suite = load_suite(find_suite("trinet"))
    job = suite.jobs[0]
    runs = [
        run_of(job, 0, standin=True),
        run_of(job, 1, deviations=["partial data: gallery: 2 expected, 1 found", "recipe hermans2017(p=3)"]),
        run_of(job, 2, status="failed", scores={}),
        run_of(suite.scale("tiny").jobs[job], 3),
        run_of(replace(job, loss="classification"), 4),
    ]
    part = build_part("paper(table=2)", runs)
    ours, others = part.tables
    assert not [heading for heading in headings(ours) if heading.startswith("ours")]
    reasons = ["stand-in data", "partial data: gallery: 2 expected, 1 found; recipe hermans2017(p=3)", "failed", "tiny"]
    assert printed(others, "reason") == reasons
    assert set(printed(others, "system")) == {"TriNet"}
    assert set(printed(others, "data")) == {"Market-1501 SQ"}


def test_only_equal_options_and_versions_are_ours():
    job = load_suite(find_suite("trinet")).jobs[0]
    spelt = replace(job, loss=resolved_items(job)[0]["loss"], recipe=resolved_items(job)[0]["recipe"])
    assert spelt != job
    part = build_part("paper(table=2)", [run_of(spelt, scores={"map_market": 0.6})])
    assert ours_of(part) == ["60.00"]
    run = run_of(job)
    margin = make_item(job.loss, run.items["loss"].spec.replace("margin=soft", "margin=0.2"))
    for other in (
        replace(run, items=run.items | {"loss": margin}),  # the same text, from a version with another default
        replace_parts(run, evaluation={"version": run.evaluation.version - 1}),
        replace_parts(run, evaluation={"metric_is_auto": False}),
    ):
        part = build_part("paper(table=2)", [other])
        assert not any(heading.startswith("ours") for heading in headings(part.tables[0]))
        assert printed(part.tables[1], "reason") == ["other options or another version than now"]


def test_seeds_of_other_data_or_code_are_not_averaged():
    job = load_suite(find_suite("trinet")).jobs[0]
    old = run_of(job, 0, scores={"map_market": 0.1}, group=digest("old"))
    new = run_of(job, 1, scores={"map_market": 0.6}, group=digest("new"), finished="2026-11-22T11:00:00+00:00")
    by_other_code = replace(old, group=new.group, code=digest("other code"))
    for order in ([old, new], [new, old], [by_other_code, new], [new, by_other_code]):
        part = build_part("paper(table=2)", order)
        assert ours_of(part) == ["60.00"]
        assert printed(part.tables[1], "reason") == ["other data or code than the newest"]


def test_a_missing_item_costs_only_its_own_numbers(monkeypatch):
    suite = load_suite(find_suite("paper/table2"))
    gone = {job for job in suite.jobs if job.metric.startswith("xqda")}
    other = load_suite(find_suite("trinet")).jobs[0]
    runs = [run_of(next(iter(gone)), 1), run_of(other, scores={"map_market": 0.6})]

    def without_xqda(job):
        if job.metric.startswith("xqda"):
            raise OptionError('there is no metric "xqda"')
        return resolved_items(job)

    monkeypatch.setattr(published, "resolved_items", without_xqda)
    part = build_part("paper(table=2)", runs)
    assert ours_of(part) == ["60.00"]
    assert 'Left out, since something is not installed: there is no metric "xqda"' in part.notes
    assert len(part.tables) == 1  # nothing can be said of a run of what is left out


def test_stand_ins_are_in_the_papers_order():
    suite = load_suite(find_suite("paper/table2"))
    runs = [run_of(suite.scale("tiny").jobs[job]) for job in reversed(suite.jobs)]
    part = build_part("paper(table=2)", runs)
    published, others = ([row[:2] for row in table.cells()] for table in part.tables)
    assert others == [row for row in published if row in others]
    assert len(others) == len({number.job for number in published_numbers(2) if number.job})


def test_table_1_shows_the_runs_own_loss():
    number = published_numbers(1)[0]
    part = build_part("paper(table=1)", [run_of(number.job, standin=True)])
    shown = [printed(part.tables[1], heading) for heading in ("loss", "margin", "own loss")]
    assert shown == [["Triplet (L_tri)"], ["margin 0.1"], ["triplet(margin=0.1)"]]


def test_a_collapsed_run_has_the_papers_star():
    number = next(number for number in published_numbers(1) if "*" in number.mark)
    assert number.printed == "16.6*"
    collapsed = run_of(number.job, status="collapsed", scores={"map_market": 0.1})
    part = build_part("paper(table=1)", [collapsed])
    pairs = zip(*(printed(part.tables[0], heading) for heading in ("mAP (market)", "ours: mAP (market)")), strict=True)
    assert [pair for pair in pairs if pair[1] != "–"] == [("16.6*", "10.00* (-6.60)")]


def test_there_are_five_tables():
    with pytest.raises(OptionError, match="option table: expected one of the Tables 1 to 5, or baselines, got 6"):
        build_part("paper(table=6)", [])


def test_every_number_names_its_table_and_cell():
    for table in TABLES:
        file = leaderboards_folder() / "paper" / f"table{table}.csv"
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            expected = f"Hermans et al. 2017, Table {table}, row {row['row']}, column {row['column']}, "
            assert row["source"].startswith(expected)
