"""Lists on disk, good and bad, in both dialects, and a real data set brought along."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from reidbench_datasets.csv_list import csv_list, csv_list_protocol, csv_list_val_protocol
from reidbench_datasets.csv_list_example import synthesize

import reidbench
from reidbench import DataError, File, OptionError, Samples
from reidbench.images.contents import check_images
from reidbench.images.decode import read_image
from tests.support.cases import cases

OWN: str = cases(__file__, "own")
OML: str = cases(__file__, "oml")


def write(folder: Path, text: str, name: str = "list.csv") -> File:
    for place in ("a", "b"):
        (folder / place).mkdir(exist_ok=True)
    for number in range(1, 10):
        (folder / ("a" if number < 4 else "b") / f"{number}.png").write_bytes(b"pixels are not looked at here")
    (folder / name).write_text(text, encoding="utf-8")
    return File(folder / name)


def load(folder: Path, text: str, **options) -> reidbench.Split:
    return csv_list(Path("the data root is not used"), file=write(folder, text), **options)


def mistakes(folder: Path, text: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        load(folder, text, **options)
    assert str(folder / "list.csv") in str(caught.value)
    return str(caught.value)


def rows(samples: Samples) -> list[tuple[list[str], int, int]]:
    bounds = samples.starts.tolist()
    units = [samples.images[first:end].tolist() for first, end in pairwise(bounds)]
    return list(zip(units, samples.pids.tolist(), samples.cams.tolist(), strict=True))


def test_a_list_in_our_format(tmp_path):
    split = load(tmp_path, OWN)
    assert split.train.root == tmp_path
    assert rows(split.train) == [(["a/1.png"], 1, 1), (["a/2.png"], 1, 2), (["a/3.png"], 2, 1)]
    assert rows(split.query) == [(["b/4.png"], 3, 1)]
    assert rows(split.gallery) == [(["b/5.png"], 3, 2), (["b/6.png"], 3, 1), (["b/7.png"], 0, 4), (["b/8.png"], -1, 2)]
    assert split.expected == {}


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t + "\n\n"])
def test_a_list_as_spreadsheets_write_it(tmp_path, change):
    assert load(tmp_path, change(OWN)).digest == load(tmp_path, OWN).digest


def test_columns_in_any_order_and_quoted(tmp_path):
    lines = [line.split(",") for line in OWN.split()]
    text = "".join(f'"{split}",{camid},{pid},"{path}"\n' for path, pid, camid, split in lines)
    assert load(tmp_path, text).digest == load(tmp_path, OWN).digest


def test_a_relative_list_and_an_unusual_path(tmp_path, monkeypatch):
    expected = load(tmp_path, OWN).digest
    write(tmp_path, OWN.replace("a/1.png", "./a//1.png"))
    monkeypatch.chdir(tmp_path / "a")
    assert csv_list(Path(), file=File("../list.csv")).digest == expected


def test_without_camid_every_image_has_its_own_camera(tmp_path):
    text = "path,pid,split\na/1.png,1,train\n" + "".join(
        f"b/{number}.png,3,{part}\n" for number, part in [(4, "query"), (4, "gallery"), (5, "gallery"), (6, "query")]
    )
    split = load(tmp_path, text)
    assert split.query.cams[0] == split.gallery.cams[0]
    assert len({*split.train.cams.tolist(), *split.query.cams.tolist(), *split.gallery.cams.tolist()}) == 4


def test_tracklets_are_units(tmp_path):
    text = cases(__file__, "tracklets")
    split = load(tmp_path, text)
    assert rows(split.train) == [(["a/1.png"], 1, 1), (["a/2.png"], 1, 2)]
    assert rows(split.query) == [(["b/4.png"], 3, 1)]
    assert rows(split.gallery) == [
        (["b/6.png", "b/8.png"], 3, 2),
        (["b/4.png", "b/5.png"], 3, 1),
        (["b/7.png"], 3, 2),
        (["b/9.png"], 3, 2),
    ]


def test_without_camid_every_tracklet_has_its_own_camera(tmp_path):
    text = "path,pid,split,tracklet\na/1.png,1,train,\na/2.png,1,train,t\na/3.png,1,train,t\n"
    text += "b/4.png,3,query,t\nb/5.png,3,gallery,t\nb/6.png,3,gallery,u\n"
    split = load(tmp_path, text)
    assert [images for images, _, _ in rows(split.train)] == [["a/1.png"], ["a/2.png", "a/3.png"]]
    assert split.query.cams[0] == split.gallery.cams[0]  # one tracklet of one person
    assert len({*split.train.cams.tolist(), *split.gallery.cams.tolist()}) == 4  # another person's t is another


def test_a_list_of_open_metric_learning(tmp_path):
    split = load(tmp_path, OML)
    assert rows(split.query) == [(["b/4.png"], 3, split.query.cams[0]), (["b/5.png"], 3, split.query.cams[0])]
    assert [images for images, _, _ in rows(split.gallery)] == [["b/5.png"], ["b/6.png"], ["b/7.png"]]
    assert split.train.pids.tolist() == [1, 1, 2]  # labels are numbered as they come, 0 and negative ones too
    assert split.gallery.pids.tolist() == [3, 3, 4]
    assert split.gallery.cams[0] == split.query.cams[0]  # of sequence s1
    assert len(set(split.gallery.cams.tolist())) == 3
    assert len(set(split.train.cams.tolist())) == 3


def test_holdout_uses_only_training_rows(tmp_path):
    trained = "\n".join(
        f"{'a' if n < 4 else 'b'}/{n}.png,{pid},{n % 2},train" for n, pid in enumerate([1, 1, 2, 2, 3, 3, 4, 4, 5], 1)
    )
    text = "path,pid,camid,split\n" + trained + "\n"  # no test rows are needed
    split = load(tmp_path, text, holdout=0.4, holdout_seed=1)
    held = set(split.gallery.pids.tolist())
    assert len(held) == 2
    assert set(split.query.pids.tolist()) == held
    assert set(split.train.pids.tolist()) == {1, 2, 3, 4, 5} - held
    draws = {tuple(sorted(set(load(tmp_path, text, holdout=0.4, holdout_seed=s).gallery.pids))) for s in range(8)}
    assert len(draws) > 1


@pytest.mark.parametrize("holdout", [-0.1, 1.0])
def test_holdout_must_be_a_fraction(tmp_path, holdout):
    with pytest.raises(OptionError, match="expected a fraction from 0 to below 1"):
        load(tmp_path, OWN, holdout=holdout)


@pytest.mark.parametrize(
    ("line", "message"),
    [*cases(__file__, "an_invalid_line_is_reported"), (f"{'x' * 300}.png,1,1,train", "File name too long")],
)
def test_an_invalid_line_is_reported(tmp_path, line, message):
    text = mistakes(tmp_path, OWN + "\n" + line + "\n")
    assert re.search(f"line 11: .*{message}", text), text


@pytest.mark.parametrize(("line", "message"), cases(__file__, "an_invalid_line_of_oml_is_reported"))
def test_an_invalid_line_of_oml_is_reported(tmp_path, line, message):
    start = "label,path,split,is_query,is_gallery\n"
    assert f"line 2: {message}" in mistakes(tmp_path, start + line + "\n")


def test_a_box_is_refused_and_empty_columns_are_not(tmp_path):
    head, *lines = OML.splitlines()
    empty = "\n".join([f"{head},x_1,x_2,y_1,y_2", *(f"{line},,,," for line in lines)])
    assert load(tmp_path, empty).digest == load(tmp_path, OML).digest
    boxed = empty.replace("b/4.png,validation,1,0,pets,s1,,,,", "b/4.png,validation,1,0,pets,s1,1,20,1,20")
    assert "line 5: has a box (x_1, x_2, y_1, y_2), which is not supported" in mistakes(tmp_path, boxed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected path, pid, split"),
        (OWN.replace("pid", "id", 1), "lacks the column pid, .*'id'; did you mean 'pid'.* found 'path', 'id', 'camid'"),
        (OWN.replace("path,pid", " Path,PID", 1), "' Path'; did you mean 'path'.*'PID'; did you mean 'pid'"),
        (OWN.replace(",", ";"), "line 1: .*semicolons"),
        (OWN.replace(",", "\t"), "line 1: .*tabs"),
        (OML.replace("is_query,", "", 1), "lacks the column is_query"),
        (OWN.replace("camid", "camera", 1), "unknown column 'camera'; did you mean 'camid'"),
        (OWN.replace("camid", "split", 1), "repeats a column"),
        ("path,pid,camid,split\n", "has no rows for train and query and gallery"),
        ("\n".join(line for line in OWN.split() if "query" not in line), "has no rows for query"),
        ("\n".join(line for line in OWN.split() if "train" not in line), "has no rows for train"),
        ('path,pid,split\n"a/1.png,1,train\n', "line 2: not valid CSV: unexpected end of data"),
        ('path,pid,split\n"a/1.png"x,1,train\n', "line 2: not valid CSV"),
    ],
)
def test_an_invalid_list_is_reported(tmp_path, text, message):
    assert re.search(message, mistakes(tmp_path, text))


def test_a_list_in_another_encoding(tmp_path):
    file = write(tmp_path, OWN)
    file.write_bytes("path,pid,split\na/ü.png,1,train\n".encode("latin-1"))
    with pytest.raises(DataError, match="no UTF-8"):
        csv_list(tmp_path, file=file)


def test_up_to_ten_mistakes_are_reported_at_once(tmp_path):
    three = mistakes(tmp_path, OWN.replace("a/1.png,1", "a/1.png,one").replace(",query", ",ask").replace("0,4", "0,x"))
    assert [line.split(":")[0].strip() for line in three.splitlines()[1:]] == ["line 2", "line 5", "line 8"]
    many = mistakes(tmp_path, "path,pid,split\n" + "a/1.png,x,train\n" * 30).splitlines()[1:]
    assert len(many) == 11
    assert many[-1].strip() == "reading stopped after 10 mistakes"


def test_images_below_the_data_root(tmp_path):
    photos, lists = tmp_path / "photos", tmp_path / "lists"
    for folder in (photos, lists):
        folder.mkdir()
    beside = csv_list(tmp_path, file=write(photos, OWN))
    absolute = OWN.replace("a/", f"{photos}/a/").replace("b/5", f"{photos}/b/5")
    (photos / "absolute.csv").write_text(absolute)
    (tmp_path / "link").symlink_to(photos)
    for root, file in ((photos, "list.csv"), (tmp_path / "link", "list.csv"), (tmp_path, "../photos/absolute.csv")):
        (lists / "list.csv").write_text(absolute)
        split = csv_list(root, file=File(lists / file))
        assert split.digest == beside.digest
        assert "a/1.png" in split.train.images
    for text in (OWN, absolute):  # with another data root
        (lists / "list.csv").write_text(text)
        with pytest.raises(DataError, match=f"line 2: .* below {lists}.*--data-root"):
            csv_list(tmp_path / "other", file=File(lists / "list.csv"))
    (lists / "list.csv").write_text(OWN.replace("a/2.png", "../lists/list.csv"))
    with pytest.raises(DataError, match=f"line 3: .* must be below {photos}"):
        csv_list(photos, file=File(lists / "list.csv"))


def test_links_may_not_leave_the_folder(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"x")
    write(inside, OWN)
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "linked").symlink_to(outside)
    (inside / "fine.png").symlink_to(inside / "a" / "1.png")
    (inside / "broken.png").symlink_to("nothing")
    for path in ("link.png", "linked/secret.png"):
        message = mistakes(inside, OWN + f"{path},1,1,train\n")
        assert f"line 10: path {path!r} is a link to {outside / 'secret.png'}" in message
    assert "line 10: path 'broken.png' cannot be read" in mistakes(inside, OWN + "broken.png,1,1,train\n")
    assert "fine.png" in load(inside, OWN + "fine.png,1,1,train\n").train.images
    (tmp_path / "alias").symlink_to(inside)
    assert csv_list(tmp_path, file=File(tmp_path / "alias" / "list.csv")).query.images.tolist() == ["b/4.png"]


def test_a_list_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        csv_list(tmp_path, file=File(tmp_path / "gone.csv"))


@pytest.mark.parametrize("name", ["list.csv", 'quote " and \\ back.csv', "ünïcode, list.csv"])
def test_protocols_name_their_dataset(tmp_path, name):
    file = write(tmp_path, OWN, name)
    protocol = csv_list_protocol(file=file)
    assert reidbench.build("dataset", protocol.dataset, tmp_path).digest == csv_list(tmp_path, file=file).digest
    assert (protocol.views, protocol.recipe, protocol.exclude) == ("center_flip", "quick", ("junk", "same_camera"))
    assert protocol.defaults == {"weights": None}
    held = reidbench.build("dataset", csv_list_val_protocol(file=file, holdout=0.5, holdout_seed=3).dataset, tmp_path)
    assert held.digest == csv_list(tmp_path, file=file, holdout=0.5, holdout_seed=3).digest


def test_protocols_by_name(tmp_path):
    file = write(tmp_path, OWN)
    for name in ("csv_list", "csv_list_val"):
        protocol = reidbench.build("protocol", f'{name}(file="{file}", views=original)')
        assert protocol.views == "original"
        assert str(file) in protocol.dataset
    with pytest.raises(OptionError, match="no file"):
        reidbench.build("protocol", f'csv_list(file="{tmp_path}/gone.csv")')


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example") / "deep" / "people"
    return folder, list(synthesize(folder, identities=6, cameras=2))


def test_the_example_can_be_read(example, tmp_path):
    folder, steps = example
    split = csv_list(tmp_path, file=File(folder / "list.csv"))
    total = len(split.train.images) + len(split.query.images) + len(split.gallery.images)
    assert steps == [(done, total) for done in range(total + 1)]
    assert [path for path in folder.parent.iterdir() if path != folder] == []
    assert split.counts["train_identities"] == 4
    assert split.counts["query_identities"] == 2
    assert split.counts["cameras"] == 2
    assert min(split.counts["junk"], split.counts["distractors"]) > 0
    check_images([split.train, split.query, split.gallery], 2, read_image)


def test_the_example_depends_only_on_its_seed(example, tmp_path):
    folder, _ = example
    for seed, same in ((0, True), (1, False)):
        other = tmp_path / str(seed)
        other.mkdir()  # an empty folder is welcome
        list(reidbench.build("synthesizer", f"csv_list(identities=6, cameras=2, seed={seed})", other))
        first = sorted((folder / "query").iterdir())[0].name
        assert ((other / "query" / first).read_bytes() == (folder / "query" / first).read_bytes()) is same


def test_example_leaves_other_folders_unchanged(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(DataError, match="is not empty"):
            synthesize(taken)
    with pytest.raises(DataError, match=r"cannot write its .* images there: Not a directory"):
        list(synthesize(tmp_path / "mine.txt" / "below", identities=4, cameras=2))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_example_leaves_nothing(tmp_path):
    steps = synthesize(tmp_path / "people", identities=4, cameras=2)
    for _ in range(3):
        next(steps)
    assert len(list(tmp_path.iterdir())) == 1
    steps.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"identities": 3}, {"cameras": 1}, {"cameras": 10}, {"identities": 10_000}])
def test_example_options_out_of_range(tmp_path, options):
    with pytest.raises(OptionError, match="4 to 9999 identities and 2 to 9 cameras"):
        synthesize(tmp_path / "people", **options)
