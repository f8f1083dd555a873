"""The lines that `parity verify` prints."""

from __future__ import annotations

from collections.abc import Sequence

from parity import tolerances
from parity.report.result import Result, nearest


def result_line(result: Result) -> str:
    """The line of one check: whether it holds, and by how much."""
    verdict = "ok  " if result.passed else "FAIL"
    count = f"{len(result.comparisons)} compared"
    seconds = f"[{result.seconds:.1f} s]"
    return (
        f"  {result.dtype}  {result.check:14} {verdict} {count:>12}; "
        f"worst {margin(result)}  {seconds}"
    )


def margin(result: Result) -> str:
    """The largest difference and the bound of the comparison nearest to its bound."""
    worst = nearest(result.comparisons)
    if worst is None:
        return "nothing"
    if result.passed and worst.bound == 0.0:
        return "every bit equal"
    gap = "not comparable" if worst.max_abs is None else f"{worst.max_abs:.1e}"
    return f"{gap}, {worst.bound:.1e} allowed, {worst.name}"


def explanation(result: Result, advice: Sequence[str] = ()) -> str:
    """What is wrong, as far as it is known, and how a claim fails.

    That is: the advice, the first comparison that fails, the last that holds before it,
    and the command to ask again.
    """
    failed = [comparison for comparison in result.comparisons if not comparison.passed]
    if not failed:
        return "    nothing was compared"
    names = [comparison.name for comparison in result.comparisons]
    number = names.index(failed[0].name)
    texts = [f"{result.network} · {text}" for text in advice]
    texts.append(f"{result.network} · {result.check}: {failed[0].explain()}")
    if number > 0:
        texts.append(f"'{names[number - 1]}' before it agrees.")
    if len(failed) > 1:
        texts.append(f"{len(failed)} of {len(names)} comparisons fail.")
    texts.append(f"Again: {result.command}")
    return "\n".join(f"    {line}" for text in texts for line in text.splitlines())


def judgement(results: Sequence[Result]) -> str:
    """How each precision of the results is judged, one line for each."""
    dtypes = {result.dtype for result in results}
    lines = [""]
    for dtype, text in tolerances.JUDGEMENTS.items():
        if dtype in dtypes:
            lines.append(f"{dtype}: {text}")
    return "\n".join(lines)


def verdict(results: Sequence[Result]) -> str:
    """Whether all claims hold, and which fail."""
    total = len(results)
    failed = [result for result in results if not result.passed]
    if failed:
        claims = [f"{result.network} {result.check} {result.dtype}" for result in failed]
        return f"\n{len(failed)} of {total} claims FAIL: {', '.join(claims)}"
    networks = len({result.network for result in results})
    comparisons = sum(len(result.comparisons) for result in results)
    noun = "network" if networks == 1 else "networks"
    return f"\nall {total} claims hold: {networks} {noun}, {comparisons} comparisons"
