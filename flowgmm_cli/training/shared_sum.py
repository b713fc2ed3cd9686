"""The sum of a vector of every process of one machine, in memory that all of them see.

A vector that goes through sockets is copied several times on its way; for a wide network that costs more than
the sum itself. Here each process writes its own, adds up a share of all, and reads the rest where it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from flowgmm_cli.training.meeting import reserved
from flowgmm_cli.training.processes import Processes


class SharedSum:
    """Vectors of all processes, and their sum.

    Args:
        rows: one for each process, and one for the sum, `(processes + 1, size)`; the same memory everywhere.
        processes: those that share it.

    Attributes:
        mine: this process's vector, which it alone writes, between two sums.
    """

    def __init__(self, rows: Tensor, processes: Processes) -> None:
        self._rows, self._processes = rows, processes
        self.mine = rows[processes.rank]

    @classmethod
    def like(cls, vector: Tensor, processes: Processes) -> SharedSum | None:
        """Room for such vectors; None where there is none, or not all processes see the same memory.

        All of them must ask, and all get the same answer.

        Raises:
            LostProcessError: another process is gone.
        """
        if processes.alone or processes.here < processes.count or vector.device.type != "cpu":
            return None
        size = (processes.count + 1) * vector.numel()
        path = processes.told(reserved(size * vector.element_size()) if processes.leads else "")
        try:
            rows = _opened(path, size, vector.dtype)
            seen = processes.all_agree(rows is not None)
        finally:
            if path and processes.leads:
                Path(path).unlink()  # the memory lives as long as somebody sees it, and no longer
        if rows is None or not seen:
            return None
        return cls(rows.view(processes.count + 1, -1), processes)

    def add_up(self) -> Tensor:
        """The sum of what all have written, for reading only; it stays until the next.

        Raises:
            LostProcessError: another process is gone.
        """
        *rows, total = self._rows.unbind()
        share = self._processes.share(len(total))
        self._processes.wait()
        torch.add(rows[0][share], rows[1][share], out=total[share])
        for row in rows[2:]:
            total[share].add_(row[share])
        self._processes.wait()
        return total


def _opened(path: str, size: int, dtype: torch.dtype) -> Tensor | None:
    if not path or not Path(path).exists():
        return None
    try:
        return torch.from_file(path, shared=True, size=size, dtype=dtype)
    except (OSError, RuntimeError):
        return None
