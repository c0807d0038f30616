"""The CPU time of the server, for each answered request (for each delivery, if readers follow).

The load client reads it as measuring begins and as it ends: start-up, filling, warm-up and reading
back do not count.  The sum is that of the process's CPU clock (``clock_getcpuclockid``): all
threads, those that have ended too, in nanoseconds.  The ticks of ``/proc/PID/stat`` are a coarse
10 ms, and ``/proc/PID/task/*/schedstat`` forgets threads that end.  But only the ticks tell user
from system, so they say in which parts the sum is split.  Most kernels find these parts by looking
at what runs a few hundred times a second: the parts are an estimate, the sum is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tools.bench.client import Report

CPU_US: Final = "cpu_us"
USER_US: Final = "cpu_user_us"
SYSTEM_US: Final = "cpu_system_us"
REQUEST_BYTES: Final = "request_bytes"
REQUESTS: Final = "requests"


def cpu_metrics(report: Report) -> dict[str, float]:
    """Microseconds for each request; nothing if nothing was answered, or the server had ended."""
    if report.requests == 0 or "cpu_s" not in report.more:
        return {}
    user, system = report.more["user_ticks"], report.more["system_ticks"]
    user_share = user / (user + system) if user + system else 0.0
    cpu_us = report.more["cpu_s"] * 1e6 / report.requests
    return {
        CPU_US: cpu_us,
        USER_US: cpu_us * user_share,
        SYSTEM_US: cpu_us * (1 - user_share),
        REQUEST_BYTES: report.bytes / report.requests,
        REQUESTS: report.requests,
    }
