"""The Python process of a running notebook, watched: memory, processor time, limits."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

import psutil
from jupyter_client.manager import AsyncKernelManager

__all__ = ["KernelWatch"]

_SECONDS_BETWEEN_LOOKS = 0.25


class KernelWatch:
    """Follow a kernel from its start to its end, and stop it when it exceeds a limit.

    Parameters
    ----------
    timeout_minutes : float, optional
        Wall time after which the kernel is stopped.
    memory_mb : float, optional
        Memory in use (10⁶ bytes, child processes included) above which it is stopped.

    Attributes
    ----------
    peak_memory_mb : float or None
        Highest memory of the kernel's process in 10⁶ bytes. Linux keeps the true peak; elsewhere it
        is the highest of a look every quarter of a second. None if no kernel was seen.
    cpu_seconds : float or None
        Processor time of the kernel and of the children that it has waited for.
    stopped : str or None
        Why the watch stopped the kernel.
    """

    def __init__(self, timeout_minutes: float | None = None, memory_mb: float | None = None):
        self.timeout_minutes = timeout_minutes
        self.memory_mb = memory_mb
        self.peak_memory_mb: float | None = None
        self.cpu_seconds: float | None = None
        self.stopped: str | None = None
        self._kernel: psutil.Process | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._begin = time.monotonic()

    def __enter__(self) -> KernelWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._kernel is not None:  # interrupted while the kernel was at work
            self._kill()

    def manager_class(self) -> type[AsyncKernelManager]:
        """Return a kernel manager for papermill that tells this watch which process it started."""
        watch = self

        class WatchedKernelManager(AsyncKernelManager):
            async def start_kernel(self, **options: Any) -> None:
                await super().start_kernel(**options)
                watch._kernel = psutil.Process(self.provisioner.pid)

            async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
                watch._look()  # the last look, while there is something to look at
                await super().shutdown_kernel(now=now, restart=restart)

        return WatchedKernelManager

    def _follow(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            in_use = self._look()
            minutes = (time.monotonic() - self._begin) / 60
            if self._kernel is None or self.stopped:
                continue
            if self.timeout_minutes is not None and minutes > self.timeout_minutes:
                self._stop(f"It took longer than its limit of {self.timeout_minutes:g} minutes.")
            elif self.memory_mb is not None and in_use > self.memory_mb:
                self._stop(
                    f"It used {in_use:,.0f} MB of memory, more than its limit of "
                    f"{self.memory_mb:,.0f} MB."
                )

    def _look(self) -> float:
        """Note processor time and peak; return the memory in use, in MB."""
        kernel = self._kernel
        if kernel is None:
            return 0.0
        try:
            times = kernel.cpu_times()
            in_use = kernel.memory_info().rss / 1e6
            peak = max(in_use, _highest_of_linux(kernel.pid), self.peak_memory_mb or 0.0)
            self.cpu_seconds = sum(times[:4])  # user and system, own and of ended children
            self.peak_memory_mb = peak
            return in_use + sum(_memory_of(child) for child in kernel.children(recursive=True))
        except psutil.Error:  # it has ended
            return 0.0

    def _stop(self, reason: str) -> None:
        self.stopped = reason
        self._kill()

    def _kill(self) -> None:
        with suppress(psutil.Error):  # none is left, as it should be
            for process in (*self._kernel.children(recursive=True), self._kernel):
                process.kill()


def _memory_of(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 1e6
    except psutil.Error:
        return 0.0


def _highest_of_linux(pid: int) -> float:
    """Return the highest memory a process ever had, in MB; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123
            lines = [line for line in status if line.startswith("VmHWM:")]
        return float(lines[0].split()[1]) * 1024 / 1e6
    except (OSError, IndexError):
        return 0.0
