"""Folders of results as a sweep leaves them: rows of two engines with their loads, and the reference's predictions."""

import json

import result_files

from smlp.core import files
from smlp.results.predictions import Prediction, write_predictions

IMAGES = 1000
START = {"id": "s", "sha256": "ab" * 32, "md5": "cd" * 16}
FINGERPRINT = {
    "host": {"processor": "Testor 9000", "features": ["avx2", "fma"]},
    "processors": {"affinity": 2, "quota": None, "asked": 2, "used": 2},
    "memory": {"numa_nodes": "0"},
    "settings": {"threads": 2},
}
LOADS = (1.0, 1.004, 0.997)


class Results:
    """A folder of results with a pytorch reference and two engines, and what compare.py says of it."""

    def __init__(self, folder):
        self.folder = folder
        labels = [number % 10 for number in range(IMAGES)]
        found = [Prediction(number, f"val/{number}.png", label, label, 0) for number, label in enumerate(labels)]
        self.reference = folder / "evaluate/smlpnet_tiny/reference/digits.csv"
        write_predictions(self.reference, found)
        for backend in ("onnxruntime", "openvino"):
            self.score(backend)
            self.measure(backend, 50.0)

    def score(self, backend, lost=0, **more):
        flips = [
            {"image": f"val/{number}.png", "label": number % 10, "reference": number % 10, "predicted": 11}
            | {"kind": "right_to_wrong"}
            for number in range(lost)
        ]
        inputs = {"reference": {"path": "x.csv", "sha256": files.digest(self.reference)}}
        figures = {**result_files.COMPARED, "top1": 100 - 100 * lost / IMAGES, "flips": flips}
        figures |= {"inputs": inputs, "start": START}
        self.write("evaluate", backend, "digits/", result_files.accuracy(backend, "fp32", 8, **figures | more))

    def measure(self, backend, rate, loads=LOADS, **more):
        rates = [rate * load for load in loads]
        stated = {"loads": len(rates), "rates_of_loads": rates, "fingerprint": FINGERPRINT, "start": START, **more}
        self.write("measure", backend, "", result_files.throughput(backend, "fp32", 8, rate, **stated))

    def fail(self, stage, backend):
        level = "digits/" if stage == "evaluate" else ""
        self.write(stage, backend, level, result_files.failure(backend, "fp32", 8))

    def write(self, stage, backend, level, content):
        path = self.folder / stage / "smlpnet_tiny" / backend / "fp32" / level / "bs8.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def files(self, stage):
        return [str(path) for path in sorted(self.folder.glob(f"{stage}/**/bs8.json"))]

    def tabulate(self, kept, *more):
        """Make the tables, and with them an entry of the history; the page."""
        flags = ["--accuracy", *self.files("evaluate"), "--throughput", *self.files("measure"), "--history", str(kept)]
        flags += ["--references", str(self.reference), "--output_dir", str(self.folder / "tables"), *more]
        assert result_files.tabulate.main(flags) == 0
        return (self.folder / "tables" / "report.html").read_text()
