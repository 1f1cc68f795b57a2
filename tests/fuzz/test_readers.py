"""Every reader accepts a damaged file or refuses it in one sentence: no traceback, no crash, no hang, no bomb.

Inputs are numbered; a number gives the same input in every session. `--fuzz-count` says how many each reader
gets, `--fuzz-seed N` reads input N alone.
"""

from pathlib import Path

import pytest
from readers import READERS
from worker import Outcome, Reader, outcomes

SHOWN = 5  # failures


def _numbers(reader: Reader, config: pytest.Config) -> list[int]:
    seed, count = config.getoption("--fuzz-seed"), config.getoption("--fuzz-count")
    return list(range(0, count + 1, reader.every)) if seed is None else [seed]


def _report(reader: Reader, failed: list[Outcome]) -> str:
    lines = [f"{reader.name}: {len(failed)} inputs are neither accepted nor refused in a sentence"]
    for outcome in failed[:SHOWN]:
        again = f"python -m pytest tests/fuzz -k '[{reader.name}]' --fuzz-seed {outcome.number}"
        lines += [f"  {outcome.words}", f"    {again}"]
    return "\n".join(lines)


@pytest.mark.timeout(7200)  # of thousands of inputs; each has its own limit
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_reader(reader: Reader, fuzz_root: Path, pytestconfig: pytest.Config) -> None:
    found = list(outcomes(reader, _numbers(reader, pytestconfig), fuzz_root))
    if table := pytestconfig.getoption("--fuzz-table"):
        counts = [sum(one.kind == kind for one in found) for kind in ("accepted", "refused", "failed")]
        worst, peak = max(one.seconds for one in found), max(one.mib for one in found)
        with Path(table).open("a") as stream:
            columns = (reader.name, len(found), *counts, f"{worst:.2f}", f"{peak:.0f}")
            stream.write(f"| {' | '.join(map(str, columns))} |\n")
    failed = [one for one in found if one.kind == "failed"]
    if failed:
        pytest.fail(_report(reader, failed), pytrace=False)
