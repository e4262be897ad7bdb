"""Does the gate find a slowdown, and only that? ``python -m benchmarks.tracking.trial``.

In a clone of the last commit, which it throws away, it plants a slowdown of about 20 % in a helper
that another file's kernels inline, then one in a kernel, then none: a commit beside itself. Each is
checked several times.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tracking.check import ROOT

PLANTS = {
    "helper": (
        "kernels/_exp.py",
        "    q = _multiply_add(r, _Q32[4], _Q32[3])\n",
        "    q = _multiply_add(r, _Q32[4], _Q32[3])\n"
        "    for _ in range(4):\n"
        "        q = _multiply_add(r, q, q)\n",
    ),
    "kernel": (
        "kernels/_gemm.py",
        "                b_at, b_row, depth, init, init_row, at, m, r1 - r0, w)  # fmt: skip\n",
        "                b_at, b_row, depth, init, init_row, at, m, r1 - r0, w)  # fmt: skip\n"
        "            if block == 0:\n"
        "                microkernel(dense, address_of(x, r0 * a_row + k0 * a_k), a_row, a_k,\n"
        "                    b_at, b_row, depth, init, init_row, at, m, (r1 - r0) // 5, w)\n",
    ),
    "itself": ("kernels/relu.py", "", "\n"),
}
"""What is planted: the file, the text, and what replaces it, the first time that it is found."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Plant, check and count."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking.trial")
    parser.add_argument("--times", type=int, default=5, help="checks of each, default: 5")
    parser.add_argument("--only", nargs="+", choices=PLANTS, default=list(PLANTS))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "njitnet"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        reported = dict.fromkeys(options.only, 0)
        for time in range(options.times):
            for plant in options.only:
                file, before, after = PLANTS[plant]
                source = (clone / file).read_text(encoding="utf-8")
                if before not in source:
                    sys.exit(f"{file}: expected the line to replace, did not find {before!r}")
                (clone / file).write_text(source.replace(before, after, 1), encoding="utf-8")
                print(f"\n{plant}, time {time + 1} of {options.times}", flush=True)
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.tracking.check"],
                    cwd=clone,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                print(done.stdout[max(0, done.stdout.find("The fastest of all")) :], flush=True)
                reported[plant] += done.returncode == 1
                (clone / file).write_text(source, encoding="utf-8")
        for plant, count in reported.items():
            print(f"{plant}: slower {count} times of {options.times}")


if __name__ == "__main__":
    main()
