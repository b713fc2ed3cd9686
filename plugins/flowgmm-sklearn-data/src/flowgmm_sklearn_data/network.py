"""Keeps scikit-learn offline, and translates its errors."""

from __future__ import annotations

import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

from flowgmm_cli.api import DataError, RecipeError


class _Refusal(urllib.request.BaseHandler):
    handler_order = 0

    def default_open(self, request: urllib.request.Request) -> None:
        raise URLError("offline")


@contextmanager
def downloads(what: str, data_home: str | None, *, offline: bool) -> Iterator[None]:
    """Turn errors of the block into flowgmm's, and let it connect to nothing if `offline`.

    scikit-learn opens every address with `urllib.request`, whose opener can be replaced.

    Args:
        what: the data's name in messages.
        data_home: scikit-learn's folder of downloads, None for its default.
        offline: refuse to open any address.
    """
    before = getattr(urllib.request, "_opener", None)
    if offline:
        urllib.request.install_opener(urllib.request.build_opener(_Refusal))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of a name, retries, and what pandas will change
            yield
    except (DataError, RecipeError):
        raise
    except (OSError, EOFError) as error:  # URLError is an OSError, and so is scikit-learn's own `not found`
        place = data_home or "scikit-learn's folder (~/scikit_learn_data, or SCIKIT_LEARN_DATA)"
        if offline:
            raise DataError(
                f"{what} is not in {place}, and this run is offline",
                hint="run it once with the network, or set data.data_home to where the download is",
            ) from error
        raise DataError(
            f"{what} cannot be loaded: {_first_line(error)}",
            hint=f"check the network, or put the files into {place}",
        ) from error
    # OpenML's refusals, and answers that scikit-learn does not know; it refuses arguments with a TypeError
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, TypeError):
            raise RecipeError(f"{what} cannot be called like this: {_first_line(error)}") from error
        raise DataError(
            f"{what} cannot be loaded: {_first_line(error)}", hint="check its parameters in the data section"
        ) from error
    finally:
        if offline:
            urllib.request.install_opener(before)  # None means the default


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
