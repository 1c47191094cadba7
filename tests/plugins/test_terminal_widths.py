"""Every table of every section at every usual width of a terminal, with one protocol and with three."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from reidbench import RunFiles, RunRecord, Table
from reidbench.plugins.catalogue import load
from reidbench.reports.sections import build_sections
from reidbench.reports.text_formats import render_terminal
from reidbench.utils.machine import local_machine
from tests.support.records import digest, make_item

WIDTHS = (40, 60, 74, 80, 100, 120, 200)
OPTIONS = {
    "camera_pairs": "(most=1)",
    "failures": "(pictures=false, queries=1, most=1)",
    "outliers": "(pictures=false, most=1)",
    "tsne": "(most=0)",  # which has no table
}
PROTOCOLS = ("synthetic(identities=40)", 'csv_list(file="a_list_of_images.csv")', "mars_torchreid_gallery")


@pytest.fixture(scope="module")
def reports(ran):
    """The parts of all sections, by the number of protocols; each has two seeds of two losses, one of a long name."""
    records, files = ran
    machine = local_machine(data=files.machine.data, threads=1)
    sections = [item.name + OPTIONS.get(item.name, "") for item in load().list_items("section")]
    reports = {}
    for count in (1, 3):
        runs: list[tuple[Path, RunRecord]] = []
        for protocol in PROTOCOLS[:count]:
            for seed in (0, 1):
                runs += [(files.folder(record), variant(record, protocol, seed)) for record in records]
        reports[count] = build_sections(sections, [record for _, record in runs], RunFiles(runs, machine))
        assert not [part.error for part in reports[count] if part.error]
    return reports


def variant(record: RunRecord, protocol: str, seed: int) -> RunRecord:
    long_name = make_item(record.job.loss.replace("classification", "0.5*batch_hard(margin=0.2) + classification"))
    items = {**record.items, "protocol": make_item(protocol), "loss": long_name}
    ids = {"id": digest(record.id, protocol, seed), "group": digest(record.group, protocol)}
    return replace(record, items=items, job=replace(record.job, seed=seed), **ids)


def printed(parts, width):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    render_terminal(parts, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cut_words(table: Table, text: str) -> set[str]:
    """Return the words of cells that a text lacks, of columns that no width leaves out; numbers count whole."""
    printed_words = {word.strip("·,") for word in text.split()}
    words: set[str] = set()
    for row in table.cells():
        for column, cell in zip(table.columns, row, strict=True):
            if column.kind == "number" and not column.minor:
                words |= {word for word in cell.split() if word.strip("·,") not in printed_words}
            elif not column.minor:
                words |= {word for word in re.findall(r"[A-Za-z0-9.]+", cell) if word not in text}
    return words


@pytest.mark.parametrize("protocols", [1, 3])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_table_is_too_wide_or_cut(reports, width, protocols):
    for part in reports[protocols]:
        text = printed([part], width)
        lines = [line for line in text.splitlines() if line not in part.commands]  # which a terminal wraps
        assert max(map(cell_len, lines)) <= width, part.title
        assert "…" not in text, part.title
        assert [cut_words(table, text) for table in part.tables] == [set()] * len(part.tables), part.title
