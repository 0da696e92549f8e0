"""The findings of one case."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.benchmarks.case import Case
from kernels.benchmarks.ceilings import Ceilings


@dataclass
class Row:
    """One case. Empty texts were not measured; `note` gives the reason. `by`: the kernel's author, if not
    ours; `our_speedup`: its time divided by ours.
    """

    kernel: str
    shape: str
    by: str = ""
    verdict: str = "not run"
    error: str = ""
    tolerance: str = ""
    microseconds: str = ""
    limit_microseconds: str = ""
    percent_of_limit: str = ""
    gigabytes_per_second: str = ""
    teraflops: str = ""
    our_speedup: str = ""
    note: str = ""

    def compare(self, case: Case, slack: float) -> None:
        """Records whether the case's result is right."""
        error, tolerance = case.error(), case.tolerance * slack
        self.error, self.tolerance = f"{error:.1e}", f"{tolerance:.0e}"
        self.verdict = "right" if error <= tolerance else "WRONG"

    def time(self, case: Case, seconds: float, ceilings: Ceilings) -> None:
        """Records how long the case took."""
        limit = ceilings.limit_seconds(case.num_bytes, case.flops)
        self.microseconds, self.limit_microseconds = f"{seconds * 1e6:.1f}", f"{limit * 1e6:.1f}"
        self.percent_of_limit = f"{100 * limit / seconds:.0f}"
        self.gigabytes_per_second = f"{case.num_bytes / seconds / 1e9:.0f}"
        self.teraflops = f"{case.flops / seconds / 1e12:.1f}"

    def compare_times(self, ours: Row) -> None:
        """Records how much faster our kernel is, if both were timed."""
        if self.microseconds and ours.microseconds:
            self.our_speedup = f"{float(self.microseconds) / float(ours.microseconds):.2f}"
