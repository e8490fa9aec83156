"""Measure what this host can reach at most: matrix products in each precision, and how fast memory is.

No engine can be faster than that, so the tables state each row as a share of its ceiling and mark what is above it.
Each usable processor multiplies small matrices on its own, all at the same time, with PyTorch's oneDNN (packed weights
for int8); the fastest rate that it reached three times counts, and those of all processors are added. Products that
cross processors, or that last longer, meet whatever else runs on the host. On CUDA it is cuBLAS on large matrices.
Bandwidth is that of copying and of reading arrays that fit into each level of cache, and of some that fit into none.
Writes a JSON file. Where a device has no probe here, as an NPU, resources/ceilings.csv has its data sheet.

  scripts/ceilings.py --device cpu --output results/ceilings/cpu.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ceilings_probes import NoCeiling, of_cpu, of_cuda

from smlp.core import cli, files, host, identity, lock, provenance
from smlp.core.code import code_digest

PACKAGES = ("torch", "numpy")


def main(argv: Sequence[str] | None = None) -> int:
    flags = _parse(argv)
    kind = flags.device.partition(":")[0]
    with lock.hold(flags.device, exclusive=True):
        try:
            found = of_cpu(flags.threads, flags.time_s) if kind == "cpu" else of_cuda(flags.device, flags.time_s)
        except NoCeiling as reason:
            cli.say(f"no ceilings of {flags.device}: {reason}")
            found = {"failed": str(reason)}
    fingerprint = {"host": host.facts(), "processors": host.processors(), "gpus": host.gpus() if kind == "cuda" else {}}
    decided = {"device": flags.device, "threads": flags.threads, "time_s": flags.time_s}
    content = {"figures": identity.digest(found)}
    versions = provenance.versions(PACKAGES)
    state = identity.state(
        "ceilings", content, flags=decided, code=code_digest("ceilings"), versions=versions, host=fingerprint
    )
    report = provenance.describe(
        packages=PACKAGES,
        state=state,
        device=kind,
        threads=flags.threads,
        fingerprint={**fingerprint, "where": flags.where},
        **found,
    )
    files.write_json(flags.output, report)
    for precision, rate in found.get("operations_per_s", {}).items():
        cli.say(f"{precision}: {rate / 1e12:.3f} Top/s" + ("" if found["settled"][precision] else ", not settled"))
    for level in found.get("bandwidths", []):
        cli.say(f"{level['level']}: {level['bytes_per_s'] / 1e9:.1f} GB/s")
    return 0


def _device(text: str) -> str:
    kind, colon, number = text.partition(":")
    if text != "cpu" and (kind != "cuda" or not colon or not number.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor cuda:N; others have a line in ceilings.csv")
    return text


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, or a GPU as cuda:0")
    parser.add_argument(
        "--threads", type=cli.positive_int, default=host.usable_processors(), help="processors to measure together"
    )
    parser.add_argument("--time_s", type=cli.positive_number, default=2, help="about how long to measure")
    parser.add_argument(
        "--where", choices=("here", "submitted"), default="here", help="whether a scheduler chose this host; recorded"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
