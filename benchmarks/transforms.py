"""Time of FFTW's row transforms without measured plans, by length: `python benchmarks/transforms.py`, one minute.

The lengths of `microscope.arrays.FAST_LENGTHS` are those at which a point takes the least time.
"""

import time
from collections.abc import Callable

import harness
import numpy as np
from harness import Figure

from alloyscope.microscope.arrays import CPU, FAST_LENGTHS

OTHERS = (112, 176, 208, 224, 270, 272, 288, 300, 336, 352, 360, 416, 448, 480)


def median_s(action: Callable[[], object], repeats: int) -> float:
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=40, metavar="N", help="default: 40")
    arguments = parser.parse_args()
    figures = {}
    for length in sorted({*FAST_LENGTHS, *OTHERS}):
        source, out = CPU.ones((1, length, length), "complex64"), CPU.empty((1, length, length), "complex64")
        spent_s = median_s(lambda source=source, out=out: CPU.fft(source, out), arguments.repeats)
        against = f"complex, {length} rows of {length}, FFTW_ESTIMATE"
        figures[f"transform_ns_per_point_{length}"] = Figure(1e9 * spent_s / length**2, "ns", against)
    harness.publish("transforms", figures, arguments.out)


if __name__ == "__main__":
    harness.run(main)
