import os
import random
import threading
import time
import warnings

import numpy as np
import pytest

from flowgmm_cli.data.images.encoded_images import EncodedImages, decode_images, list_files, map_in_order
from flowgmm_cli.data.images.format import ImageFormat
from flowgmm_cli.errors import DataError

GREY = np.zeros((2, 2), np.uint8)


def test_images_are_listed_in_natural_order_without_hidden_files(save):
    for name in ("b/10.png", "b/9.PNG", "A/x.jpeg", "b/c/1.gif", "top.bmp"):
        folder = save(name, GREY) and save("b/10.png", GREY).parent.parent
    for name in (".DS_Store", "b/.hidden.png", "b/._9.PNG", "b/notes.TXT", "b/README"):
        (folder / name).write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git/a.png").write_text("x")
    (folder / "empty").mkdir()
    listing = list_files(folder)
    assert listing.files == ["A/x.jpeg", "b/9.PNG", "b/10.png", "b/c/1.gif", "top.bmp"]
    assert dict(listing.others) == {".txt": 1, "": 1}
    assert listing.folders == ["A", "b", "b/c", "empty"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_links_to_folders_are_followed_but_not_in_a_circle(save, tmp_path):
    folder = save("cat/1.png", GREY).parent.parent
    (tmp_path / "other").mkdir()
    (folder / "cat/1.png").rename(tmp_path / "other/2.png")
    (folder / "dog").symlink_to(tmp_path / "other")
    (folder / "cat/loop").symlink_to(folder)
    assert list_files(folder).files == ["dog/2.png"]


def test_a_folder_that_cannot_be_listed_is_named(save, monkeypatch):
    folder = save("cat/1.png", GREY).parent.parent
    save("dog/1.png", GREY)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="dog cannot be read: Permission denied"):
        list_files(folder)


def test_errors_are_text_that_keeps_no_image_alive(save):
    folder = save("a.png", np.zeros((9, 9), np.uint8)).parent
    (folder / "b.png").write_text("no image")
    images = EncodedImages.in_folder(folder, ["a.png", "b.png", "c.png"])
    pixels, errors, _ = decode_images(images, np.arange(3), ImageFormat(2, 2, colour=False))
    assert not pixels.any()
    assert [errors[index].message for index in range(3)] == [
        "the image is 9x9 pixels, the model reads 2x2",
        "it is not an image of a known type",
        "it cannot be opened: No such file or directory",
    ]


def test_the_signature_is_that_of_names_sizes_and_times(save):
    folder = save("a.png", GREY).parent
    before = EncodedImages.in_folder(folder, ["a.png"]).signature()
    assert EncodedImages.in_folder(folder, ["a.png"]).signature() == before
    os.utime(folder / "a.png", ns=(5, 5))
    assert EncodedImages.in_folder(folder, ["a.png"]).signature() != before
    assert EncodedImages.in_folder(folder, ["gone.png"]).signature() != before


@pytest.mark.parametrize("count", [0, 1, 4, 5, 700])
def test_results_come_in_order_however_long_each_takes(count):
    def work(index):
        if index % 50 == 0:
            time.sleep(random.Random(index).random() / 200)
        return index * 2

    reports = []
    assert list(map_in_order(work, count, lambda done, total: reports.append((done, total)))) == [
        2 * index for index in range(count)
    ]
    assert reports == sorted(reports)
    assert reports[-1] == (count, count)


def test_several_threads_work():
    barrier = threading.Barrier(2, timeout=20)
    results = list(map_in_order(lambda index: index if index > 1 else barrier.wait(), 10))
    assert results[2:] == list(range(2, 10))


def test_errors_come_through_and_threads_end():
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(lambda index: 1 / (index - 7), 20))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_warnings_of_pillow_are_not_shown_and_others_are():
    def work(index):
        warnings.warn_explicit("odd EXIF", UserWarning, "file", 1, module="PIL.Image")
        return index

    assert list(map_in_order(work, 10)) == list(range(10))
    with pytest.raises(UserWarning, match="custom"):
        list(map_in_order(lambda index: warnings.warn("custom", stacklevel=1), 1))
