import os

import numpy as np
import pytest

from flowgmm_cli.data.images.encoded_images import images_in_folder, list_files

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
    assert listing.images == ["A/x.jpeg", "b/9.PNG", "b/10.png", "b/c/1.gif", "top.bmp"]
    assert dict(listing.others) == {".txt": 1, "": 1}
    assert listing.folders == ["A", "b", "b/c", "empty"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_links_to_folders_are_followed_but_not_in_a_circle(save, tmp_path):
    folder = save("cat/1.png", GREY).parent.parent
    (tmp_path / "other").mkdir()
    (folder / "cat/1.png").rename(tmp_path / "other/2.png")
    (folder / "dog").symlink_to(tmp_path / "other")
    (folder / "cat/loop").symlink_to(folder)
    assert list_files(folder).images == ["dog/2.png"]


def test_the_signature_is_that_of_names_sizes_and_times(save):
    folder = save("a.png", GREY).parent
    before = images_in_folder(folder, ["a.png"]).signature()
    assert images_in_folder(folder, ["a.png"]).signature() == before
    os.utime(folder / "a.png", ns=(5, 5))
    assert images_in_folder(folder, ["a.png"]).signature() != before
    assert images_in_folder(folder, ["gone.png"]).signature() != before
