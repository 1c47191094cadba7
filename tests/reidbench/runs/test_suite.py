"""Suites: what lists multiply into, what stands as a default, and how mistakes are named."""

import itertools
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidbench.errors import DataError, OptionError
from reidbench.plugins.catalogue import command_defaults, load
from reidbench.runs import suite as suite_module
from reidbench.runs.job import Job
from reidbench.runs.suite import KEYS, expand, find_suite, leaderboards_folder, load_suite
from tests.support.cases import cases
from tests.support.paths import CHECKOUT

DEFAULTS = {"protocol": "p", "loss": ["l1", "l2"], "backbone": "b", "recipe": "auto", "metric": "auto"}
DEFAULTS |= {"rerank": "none", "seed": [0], "sections": ["not a key of a job"]}

words = st.text("abc", min_size=1, max_size=2)
tables = st.fixed_dictionaries(
    {},
    optional={key: words | st.lists(words, min_size=1, max_size=3) for key in KEYS if key != "seed"}
    | {"seed": st.integers(0, 3) | st.lists(st.integers(0, 3), min_size=1, max_size=3)},
)


def by_loops(table):
    """Return the jobs of a flat table, by the definition."""
    jobs: list[Job] = []
    lists = {key: value if isinstance(value, list) else [value] for key, value in (DEFAULTS | table).items()}
    for protocol, loss, backbone in itertools.product(lists["protocol"], lists["loss"], lists["backbone"]):
        for recipe, metric, rerank in itertools.product(lists["recipe"], lists["metric"], lists["rerank"]):
            for seed in lists["seed"]:
                job = Job(protocol, loss, backbone, recipe, metric, rerank, seed)
                if job not in jobs:
                    jobs.append(job)
    return jobs


@given(tables)
def test_lists_multiply_once_each_in_order(table):
    assert expand(table, DEFAULTS) == by_loops(table)


@given(tables, st.lists(tables, min_size=1, max_size=3))
def test_job_tables_multiply_alone_with_the_rest_as_defaults(common, own):
    expected = dict.fromkeys(job for table in own for job in by_loops(common | table))
    assert expand({**common, "job": own}, DEFAULTS) == list(expected)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        *cases(__file__, "mistakes_are_named"),
        ({"seed": 2**63}, r"^seed\[0\] .*got 9223372036854775808"),
        ({"seed": 10**300}, r"^seed\[0\] .*got 10000"),
    ],
)
def test_mistakes_are_named(table, message):
    with pytest.raises(OptionError, match=message):
        expand(table, DEFAULTS)


@pytest.mark.parametrize("tables", [{}, {"job": [{"protocol": "a"}, {"protocol": "b"}]}])
def test_more_than_100_000_jobs_are_refused_before_they_are_made(tables):
    texts = [f"x{number}" for number in range(10**4)]
    with pytest.raises(OptionError, match=r"100,000 jobs .*10,000 loss"):
        expand({"loss": texts, "backbone": texts, "metric": texts, "rerank": texts, **tables}, DEFAULTS)
    halves = {"loss": texts[:250], "backbone": texts[:250]}
    with pytest.raises(OptionError, match="100,000 jobs"):  # both tables together
        expand({**halves, "job": [{"metric": "a"}, {"metric": "b"}]}, DEFAULTS)
    with pytest.raises(OptionError, match="100,000 jobs"):
        expand({"seed": list(range(100_001))}, DEFAULTS)


def test_all_mistakes_are_named_at_once_and_each_with_the_file(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text('los = "x"\nseed = -1\n[[job]]\nbackbone = 3\n')
    with pytest.raises(OptionError) as caught:
        load_suite(file)
    lines = str(caught.value).splitlines()
    assert [line.startswith(f"{file}: ") for line in lines] == [True] * 3
    assert {key for line in lines for key in ("los", "seed", "backbone") if key in line} == {"los", "seed", "backbone"}


def test_a_suite_has_its_files_name_and_default_items(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('loss = ["a(x=1)", "b"]\nseed = [0, 1]\n')
    suite = load_suite(file)
    defaults = command_defaults()
    assert suite.name == "mine"
    assert [(job.loss, job.seed) for job in suite.jobs] == [("a(x=1)", 0), ("a(x=1)", 1), ("b", 0), ("b", 1)]
    assert {job.protocol for job in suite.jobs} == {defaults["protocol"]}
    assert {job.recipe for job in suite.jobs} == {"auto"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"seed = 1" + b"0" * 5_000, r"bad\.toml: is not TOML: "),
        (b'loss = "a"\nseed = = 1\n', r"bad\.toml: is not TOML: .*line 2"),
        (b"loss = " + b"[" * 100_000, r"bad\.toml: is not TOML: "),
    ],
)
def test_what_is_no_toml_is_named_with_its_line(tmp_path, content, said):
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(OptionError, match=said):
        load_suite(tmp_path / "bad.toml")


def test_a_suite_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.toml: cannot be read: No such file"):
        load_suite(tmp_path / "none.toml")


def test_suites_are_found_by_path_and_by_name(tmp_path, monkeypatch):
    (tmp_path / "own.toml").write_text("seed = 1\n")
    monkeypatch.chdir(tmp_path)
    assert find_suite("own.toml") == Path("own.toml")
    assert find_suite("synthetic") == CHECKOUT / "leaderboards" / "synthetic.toml"


def test_a_system_is_found_without_its_folder_and_a_folder_as_one_suite():
    systems = CHECKOUT / "leaderboards" / "systems"
    assert find_suite("trinet") == find_suite("systems/trinet") == systems / "trinet.toml"
    assert find_suite("systems") == systems
    files = [load_suite(file) for file in systems.glob("*.toml")]
    whole, table = load_suite(systems), load_suite(find_suite("paper/table2"))
    assert sorted(map(str, whole.jobs)) == sorted({str(job) for suite in files for job in suite.jobs})
    assert (table.name, table.jobs, table.scales) == ("table2", whole.jobs, whole.scales)
    small = {whole.scale("tiny").jobs[job] for job in whole.jobs}
    assert all(suite.scale("tiny").jobs[job] in small for suite in files for job in suite.jobs)


ONE = 'loss = ["a", "b"]\n[scale.tiny.loss]\na = "c"\n[scale.tiny.data]\nx = "drawn"\n[data]\ny = "drawn"\n'


@pytest.mark.parametrize(("two", "both", "said"), cases(__file__, "suites_of_suites"))
def test_suites_of_suites(two, both, said, tmp_path, monkeypatch):
    monkeypatch.setattr(suite_module, "leaderboards_folder", lambda: tmp_path)
    for name, text in {"one": ONE, "two": two, "both": 'suites = ["one", "two"]' + both}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    with pytest.raises(OptionError, match=said) if said else nullcontext():
        suite = load_suite(tmp_path / "both.toml")
        assert [suite.scale("tiny").jobs[job].loss for job in suite.jobs] == ["c", "b", "d"]
        assert suite.data == {"y": "drawn"}


@pytest.mark.parametrize("name", ["synthetik", "nothing.toml", "../pyproject", "own"])
def test_an_unknown_suite_is_an_error_that_lists_the_known(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    with pytest.raises(OptionError, match=r"there is no suite .*; list them: reidbench suites") as caught:
        find_suite(name)
    assert ('did you mean "synthetic"' in str(caught.value)) == (name == "synthetik")


@pytest.mark.parametrize(
    ("name", "expected"), [("trinett", "systems/trinet"), ("tabel2", "paper/table2"), ("run", "run/record.json")]
)
def test_a_mistyped_system_and_a_runs_folder_get_an_answer(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").touch()
    with pytest.raises(OptionError, match=expected):
        find_suite(name)


def test_the_checkouts_own_leaderboards_are_used():
    assert leaderboards_folder() == CHECKOUT / "leaderboards"


SUITES = sorted({*(CHECKOUT / "leaderboards").rglob("*.toml")} - {CHECKOUT / "leaderboards" / "paper" / "claims.toml"})


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_every_suite_of_the_house_can_be_resolved(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for published in ("trinet-market1501.npz", "trinet-mars.npz"):
        (tmp_path / published).touch()
    assert file.read_text().startswith("# ")  # what it is, the command, the time it takes, what to expect
    kinds = {"protocol": "protocol", "loss": "loss", "backbone": "backbone", "rerank": "reranker"}
    jobs = load_suite(file).jobs
    assert jobs
    for job in jobs:
        for key, kind in kinds.items():
            load().resolve(kind, getattr(job, key))


SCALED: str = cases(__file__, "scaled")


def test_a_scale_replaces_texts_and_leaves_the_rest(tmp_path):
    (tmp_path / "s.toml").write_text(SCALED)
    suite = load_suite(tmp_path / "s.toml")
    assert [suite.scale("tiny").jobs[job].backbone for job in suite.jobs] == ["narrow", "deep(x=1)"] * 2
    assert dict(suite.scale("tiny").data) == {"market": "drawn(identities=4)"}
    assert [job.loss for job in map(suite.scale("small").jobs.get, suite.jobs)] == ["a", "a", "b", "b"]
    assert len(suite.every_scale()) == 12
    with pytest.raises(OptionError, match=r'suite s has no scale \'tinny\'; did you mean "tiny"\?; it has tiny, small'):
        suite.scale("tinny")


@pytest.mark.parametrize(("scale", "said"), cases(__file__, "mistakes_in_a_scale_are_named_with_their_file"))
def test_mistakes_in_a_scale_are_named_with_their_file(tmp_path, scale, said):
    own = scale + '\nloss = "a"' if scale.startswith("scale =") else 'loss = "a"\n' + scale
    (tmp_path / "bad.toml").write_text(own)
    with pytest.raises(OptionError, match=rf"bad\.toml: {said}"):
        load_suite(tmp_path / "bad.toml")
