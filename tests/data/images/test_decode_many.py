import random
import threading
import time
import warnings

import pytest

from flowgmm_cli.data.images.decode_many import map_in_order, worker_count


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
    if count > 4:
        assert reports[-1] == (count, count)


def test_several_threads_work():
    if worker_count() == 1:
        pytest.skip("one processor")
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
