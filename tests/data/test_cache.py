import sys
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.data.cache import encode, user_cache_dir


class Counting:
    """A vector that tells its text, and how often it was asked for."""

    dim = 3

    def __init__(self, key="counting 1"):
        self.key, self.asked = key, []

    def cache_key(self):
        return self.key

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(t), sum(map(ord, t)) % 1009, ord(t[:1] or "\0")] for t in texts], np.float32)


def parts(context):
    return sorted(Path(context.cache_dir).rglob("*.npz"))


def test_each_distinct_text_is_encoded_once_ever(context):
    first, second = Counting(), Counting()
    texts = ["b", "a", "", "b", "日本"]
    vectors = encode(first, texts, context)
    assert sorted(first.asked) == ["", "a", "b", "日本"]
    assert (vectors == Counting().encode(texts)).all()
    assert (encode(second, ["a", "c", "b"], context) == Counting().encode(["a", "c", "b"])).all()
    assert second.asked == ["c"]


def test_another_encoder_has_its_own_vectors_and_those_without_a_key_leave_none(context):
    encode(Counting(key=None), ["a"], context)
    assert not Path(context.cache_dir).exists()
    encode(Counting(), ["a"], context)
    encode(other := Counting("counting 2"), ["a"], context)
    assert other.asked == ["a"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign", "pickle"])
def test_a_damaged_part_is_passed_over_and_replaced(context, damage):
    texts = [f"text {i}" for i in range(20)]
    truth = encode(Counting(), texts, context)
    (part,) = parts(context)
    content = part.read_bytes()
    middle, objects = len(content) // 2, BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    damaged = {
        "truncate": content[:middle],
        "flip": content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :],
        "empty": b"",
        "foreign": b"not an npy file at all",
        "pickle": objects.getvalue(),
    }
    part.write_bytes(damaged[damage])
    again = Counting()
    assert (encode(again, texts, context) == truth).all()
    assert again.asked == texts
    assert (encode(last := Counting(), texts, context) == truth).all()
    assert last.asked == []


def test_a_part_of_another_width_is_passed_over(context):
    class Wider(Counting):
        dim = 4

        def encode(self, texts):
            return np.ones((len(texts), 4), np.float32)

    encode(Counting(), ["a"], context)
    assert encode(Wider(), ["a"], context).tolist() == [[1, 1, 1, 1]]


def test_several_writers_at_once_do_no_harm(context):
    texts = [f"text {i}" for i in range(300)]
    results = {}

    def work(seed):
        mine = np.random.default_rng(seed).permutation(texts).tolist()[:200]
        results[seed] = (mine, encode(Counting(), mine, context))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all((vectors == Counting().encode(mine)).all() for mine, vectors in results.values())
    assert not list(Path(context.cache_dir).rglob("*.tmp"))
    encode(after := Counting(), sorted({text for mine, _ in results.values() for text in mine}), context)
    assert after.asked == []


def test_a_cache_that_cannot_be_written_costs_a_note(context, notes, tmp_path):
    (tmp_path / "file").write_text("in the way")
    context = replace(context, cache_dir=str(tmp_path / "file"))
    assert encode(Counting(), ["a"], context).shape == (1, 3)
    assert len(notes) == 1
    assert "cannot be written" in notes[0]


def test_progress_is_reported_for_what_is_encoded(context):
    seen = []
    context = replace(context, progress=lambda done, total, what: seen.append((done, total)))
    encode(Counting(), [f"{i}" for i in range(5000)], context)
    assert seen[0] == (0, 5000)
    assert seen[-1] == (5000, 5000)
    assert len(seen) > 2


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("FLOWGMM_CACHE_DIR", "/a")
    assert user_cache_dir() == Path("/a")
    monkeypatch.delenv("FLOWGMM_CACHE_DIR")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", "/b")
        assert user_cache_dir() == Path("/b/flowgmm")
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert user_cache_dir() == Path.home() / ".cache" / "flowgmm"


def test_of_a_stream_of_texts_nothing_is_kept_or_looked_up(context):
    stream = replace(context, streaming=True)
    encode(Counting(), ["a", "b"], stream)
    assert parts(context) == []
    encode(Counting(), ["a"], context)
    encoder = Counting()
    assert (encode(encoder, ["a", "b", "a"], stream) == Counting().encode(["a", "b", "a"])).all()
    assert sorted(encoder.asked) == ["a", "b"]
