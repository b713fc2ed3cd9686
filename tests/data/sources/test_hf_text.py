import datasets
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.sources import hub_tables, tables
from flowgmm_cli.data.specs import HfTextConfig
from flowgmm_cli.errors import DataError

FEATURES = datasets.Features({
    "text": datasets.Value("string"),
    "title": datasets.Value("string"),
    "label": datasets.ClassLabel(names=["World", "Sports"]),
})  # fmt: skip
TRAIN = {"text": ["one", "", None], "title": ["T", "U", "V"], "label": [1, 0, None]}
TEST = {"text": ["two"], "title": ["W"], "label": [0]}


def load(context, path, **parameters):
    path = [str(part) for part in path] if isinstance(path, list) else str(path)
    return tables.build(HfTextConfig(path=path, **parameters), context).load()


@pytest.fixture
def folder(tmp_path):
    """A hub-style folder in which the README names the files of each split."""
    folder = tmp_path / "my hub (copy)"
    (folder / "data").mkdir(parents=True)
    for split, rows in (("train", TRAIN), ("test", TEST)):
        datasets.Dataset.from_dict(rows, features=FEATURES).to_parquet(
            str(folder / "data" / f"{split}-00000-of-00001.parquet")
        )
    return folder


def test_a_hub_style_folder_with_class_names(context, folder):
    data = load(context, folder)
    assert data.class_names == ("World", "Sports")
    assert data.splits["train"].columns["text"].tolist() == ["one", "", ""]
    assert data.splits["train"].labels.tolist() == [1, 0, -1]
    assert data.splits["test"].labels.tolist() == [0]
    assert data.splits["test"].ids.tolist() == ["test:1"]


def test_several_texts_and_other_splits(context, folder):
    data = load(context, folder, text=["title", "text"], train_split="test", test_split=None)
    assert data.columns[0].name == "text"
    assert data.splits["train"].columns["text"].tolist() == ["W\ntwo"]
    assert set(data.splits) == {"train"}


@pytest.mark.parametrize("name", ["train", "rows"])
def test_a_file_alone_is_the_training_split(context, tmp_path, name):
    path = tmp_path / "t.csv"
    path.write_text("text,label\nball,sport\nvote,\n")
    data = load(context, path, train_split=name)
    assert data.class_names == ("sport",)
    assert data.splits["train"].labels.tolist() == [0, -1]
    assert "no split `test`" in data.notes[0]


def test_several_files_are_splits_by_name(context, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}-all.csv").write_text(f"text,label\n{split} text,a\n")
    data = load(context, [tmp_path / "test-all.csv", tmp_path / "train-all.csv"])
    assert data.splits["train"].columns["text"].tolist() == ["train text"]
    assert data.splits["test"].columns["text"].tolist() == ["test text"]
    (tmp_path / "other.csv").write_text("text,label\nx,a\n")
    with pytest.raises(DataError, match="belongs to no split"):
        load(context, [tmp_path / "train-all.csv", tmp_path / "other.csv"])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"train_split": "trian"}, "did you mean `train`"),
        ({"test_split": "validation"}, "no split `validation` (data.test_split)"),
        ({"val_split": "dev"}, "no split `dev`"),
        ({"text": "Text"}, "did you mean `text`"),
        ({"label": "lable"}, "did you mean `label`"),
    ],
)
def test_wrong_names_are_errors(context, folder, parameters, words):
    with pytest.raises(DataError) as caught:
        load(context, folder, **parameters)
    assert words in caught.value.message


def test_a_folder_whose_name_is_a_pattern_is_refused(context, folder):
    other = folder.rename(folder.with_name("hub [copy]"))
    with pytest.raises(DataError, match="patterns"):
        load(context, other)
    files = sorted((other / "data").glob("*.parquet"))
    assert len(load(context, files).splits) == 2


def test_a_folder_without_data(context, tmp_path):
    with pytest.raises(DataError, match="cannot be read as a data set"):
        load(context, tmp_path)


def test_folders_of_texts_by_class_and_split(context, tmp_path):
    for name in ("train/b", "train/a", "train/unsup", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.txt").write_text(f"a text\nof {name}")
    data = load(context, tmp_path)
    assert data.class_names == ("a", "b")
    assert data.splits["train"].labels.tolist() == [0, 1, -1]
    assert data.splits["test"].columns["text"].tolist() == ["a text\nof test/b"]
    assert load(context, tmp_path / "train").splits["train"].labels.tolist() == [0, 1, -1]


def test_what_looks_like_a_path_is_never_looked_up_on_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(hub_tables, "probe", lambda *_: pytest.fail("the hub was asked"))
    for path in (tmp_path / "none", "data/none.csv", "~/none/there/x", "./none"):
        with pytest.raises(DataError, match="no such file"):
            load(DataContext(), path)


def test_offline_says_which_cache_was_looked_in_and_sends_no_request(context, monkeypatch):
    monkeypatch.setattr(hub_tables, "probe", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(DataError) as caught:
        load(context, "unknown/no-such-data-set")
    assert caught.value.message.startswith("offline, and unknown/no-such-data-set is neither")
    assert str(datasets.config.HF_DATASETS_CACHE) in caught.value.message
    assert "data.path" in caught.value.hint


def test_a_hub_out_of_reach_is_an_error_that_says_so(monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(DataError, match=r"the hub cannot be reached .Name or service not known") as caught:
        load(DataContext(), "unknown/no-such-data-set")
    assert "local folder" in caught.value.hint


def test_ag_news_as_a_hub_folder(context, shared_data):
    data = load(context, shared_data / "ag_news_hub")
    assert data.class_names == ("World", "Sports", "Business", "Sci/Tech")
    assert [len(rows) for rows in data.splits.values()] == [40250, 7600]
