"""The answer in words: what to deploy, and everything that a reader can meet that keeps it from being certain."""

import pytest
from result_files import (
    DECIDED_ACCURACY,
    DECIDED_THROUGHPUT,
    Sweep,
    accuracy,
    engine_id,
    failure,
    judged,
    throughput,
)

from smlp.results.statistics import images_to_decide, paired_difference_interval

REFERENCE = [accuracy("pytorch", "fp32", 8), throughput("pytorch", "fp32", 8, 10.0)]
ENGINE = {"path": "results/compile/m/openvino/int8/bs8.xml"}


def answer_of(root, accuracies, rates, *flags):
    return Sweep(root, accuracies, rates).make(*flags).text("answer.md")


def with_engine(*about, **more):
    path = f"results/compile/smlpnet_tiny/{about[0]}/{about[1]}/bs{about[2]}.xml"
    return throughput(*about, engine={"path": path, "id": engine_id(*about[:3])}, **more)


def test_what_to_deploy_and_what_it_does(tmp_path):
    words = [
        ".venv/bin/python",
        "scripts/measure.py",
        "--model",
        "results/a b.xml",
        "--batchsize",
        "8",
        "--threads",
        "2",
    ]
    words += ["--env", "A=1", "--input", "bins", "--min_time_s", "4", "--output", "load-0.json"]
    rates = [REFERENCE[1], with_engine("openvino", "int8", 8, 80.0, command=words)]
    text = answer_of(tmp_path, [REFERENCE[0], judged("openvino", "int8", 8)], rates)
    assert text.splitlines() == [
        "# Answer",
        "",
        "## smlpnet_tiny on cpu (Testor 9000)",
        "",
        "**Deploy openvino int8 at batch size 8: results/compile/smlpnet_tiny/openvino/int8/bs8.xml**",
        "",
        "- Speed: 80.0 images/s (95% interval 77.6 to 81.6); 8.00 times the best of pytorch fp32; "
        "120.0 ms a batch (p95)",
        "- Accuracy: top-1 81.70 % on 1,000 images; drop +0.20 points (95% interval -0.25 to +0.83) from pytorch fp32: "
        "pass, the margin is 1.0 points",
        "- Run it:",
        "  `.venv/bin/python scripts/infer.py --model 'results/a b.xml' --batchsize 8 --threads 2 --env A=1 "
        "--input bins --output out`",
    ]


def test_each_device_has_its_own(tmp_path):
    other = throughput("onnxruntime", "fp32", 8, 50.0, device="cuda:0")
    rates = [*REFERENCE[1:], throughput("openvino", "fp32", 8, 20.0), other]
    verdicts = [REFERENCE[0], judged("openvino", "fp32", 8), judged("onnxruntime", "fp32", 8)]
    text = answer_of(tmp_path, verdicts, rates)
    first, second = text.split("## ")[1:]
    assert "on cpu (Testor 9000)" in first and "Deploy openvino fp32" in first
    assert "on cuda:0" in second and "Deploy onnxruntime fp32" in second


def test_within_a_limit_on_latency(tmp_path):
    text = answer_of(
        tmp_path, DECIDED_ACCURACY, DECIDED_THROUGHPUT, "--latency_ms_max", "30", "--latency_percentile", "50"
    )
    assert "**Deploy openvino int8 at batch size 1" in text and "(p50, within 30 ms)" in text
    text = answer_of(
        tmp_path, DECIDED_ACCURACY, DECIDED_THROUGHPUT, "--latency_ms_max", "1", "--latency_percentile", "50"
    )
    assert "**Nothing to deploy yet (verdicts: " in text and "no eligible row stays within 1 ms" in text


def test_nothing_passes(tmp_path):
    rates = [throughput("openvino", "int8", 8, 80.0)]
    text = answer_of(tmp_path, [judged("openvino", "int8", 8, "fail", drop_points=7.5)], rates)
    assert "**Nothing to deploy yet (verdicts: 1 fail): no row is eligible. openvino int8, batch size 8" in text


def test_everything_is_undecided(tmp_path):
    verdicts = [
        judged("openvino", "int8", 8, "undecided", images=100),
        judged("onnxruntime", "fp32", 8, "undecided"),  # which its own interval would not be
    ]
    rates = [throughput("openvino", "int8", 8, 80.0), throughput("onnxruntime", "fp32", 8, 20.0)]
    text = answer_of(tmp_path, verdicts, rates)
    assert "**Nothing to deploy yet (verdicts: 2 undecided): " in text
    assert "- openvino int8 batch size 8 (80.0 images/s) is undecided on 100 images; about " in text
    assert (
        "- onnxruntime fp32 batch size 8 (20.0 images/s) is undecided on 1,000 images, as the verdicts are judged"
        in text
    )


def test_a_faster_engine_that_fails_is_named(tmp_path):
    text = answer_of(tmp_path, DECIDED_ACCURACY, DECIDED_THROUGHPUT)
    assert "- openvino int8 batch size 8 is faster (80.0 images/s) and fails: it loses 7.50 points\n" in text


def test_a_faster_engine_that_is_undecided_is_told_and_a_slower_one_is_not(tmp_path):
    verdicts = [
        judged("openvino", "int8", 8, "undecided"),
        *REFERENCE[:1],
        judged("onnxruntime", "int8", 8, "undecided"),
    ]
    rates = [throughput("openvino", "int8", 8, 80.0), REFERENCE[1], throughput("onnxruntime", "int8", 8, 5.0)]
    text = answer_of(tmp_path, verdicts, rates)
    assert "Deploy pytorch fp32" in text and "it is the reference itself" in text
    assert "openvino int8 batch size 8 (80.0 images/s) is undecided" in text and "onnxruntime int8" not in text


def test_only_one_row(tmp_path):
    text = answer_of(tmp_path, REFERENCE[:1], REFERENCE[1:])
    assert "It is the only row that was measured" in text


def test_a_reference_that_failed(tmp_path):
    verdicts = [failure("pytorch", "fp32", 8, "no memory"), accuracy("openvino", "fp32", 8)]
    rates = [failure("pytorch", "fp32", 8, "no memory"), throughput("openvino", "fp32", 8, 20.0)]
    text = answer_of(tmp_path, verdicts, rates)
    assert "Nothing to deploy yet" in text and "- the reference failed at batch size 8: no memory\n" in text


def test_a_reference_at_chance_level(tmp_path):
    chance = {"verdict": None, "verdict_reason": "the reference is too close to guessing"}
    verdicts = [accuracy("pytorch", "fp32", 8, **chance), judged("openvino", "fp32", 8, **chance)]
    text = answer_of(tmp_path, verdicts, [REFERENCE[1], throughput("openvino", "fp32", 8, 20.0)])
    assert text.count("- no verdict on any engine: the reference is too close to guessing\n") == 1


def test_images_that_were_left_out(tmp_path):
    text = answer_of(tmp_path, [accuracy("pytorch", "fp32", 8, skipped=7, images_of=50_000)], REFERENCE[1:])
    assert "on 1,000 of 50,000 images" in text and "- 7 images were left out, since they could not be read\n" in text


def test_rows_that_failed_or_are_unstable_come_with_what_makes_them_again(tmp_path):
    failed = failure("openvino", "int8", 8, "out of memory")
    failed["smlp"]["engine"] = {"path": "results/compile/smlpnet_tiny/openvino/int8/bs8.xml", "id": "ab"}
    rates = [REFERENCE[1], failed, throughput("onnxruntime", "fp32", 8, 20.0, stable=False, disturbed="only 3 runs")]
    text = answer_of(tmp_path, [REFERENCE[0], judged("onnxruntime", "fp32", 8)], rates)
    assert (
        "- openvino int8 batch size 8 failed: out of memory:\n"
        "  `snakemake --cores all --forcerun results/compile/smlpnet_tiny/openvino/int8/bs8.xml`\n"
    ) in text
    assert "- its speed is unstable: only 3 runs:\n  `snakemake --cores all --forcerun " in text
    assert "throughput-2/load-*.json`\n" in text


def test_imported_figures_have_no_engine_to_run_and_nothing_that_measures_them_again(tmp_path):
    content = throughput("ascend", "fp16", 8, 300.0, device="npu:0", engine=None, images_per_s_low=None, stable=False)
    sweep = Sweep(tmp_path, [judged("ascend", "fp16", 8)], [content])
    (tmp_path / "imported").mkdir()
    sweep.files["throughput"] = [sweep.files["throughput"][0].rename(tmp_path / "imported" / "bs8.json")]
    text = sweep.make().text("answer.md")
    assert (
        "**Deploy ascend fp16 at batch size 8: its figures were imported, its engine is not among the results**" in text
    )
    assert "Run it" not in text and "snakemake" not in text and "- its speed is unstable\n" in text


def test_an_emulator_gives_no_answer(tmp_path):
    rates = [throughput("ascend", "fp16", 8, 2000.0, emulated=True, device="npu:0")]
    text = answer_of(tmp_path, [judged("ascend", "fp16", 8, emulated=True)], rates)
    assert "## smlpnet_tiny on npu:0 (emulated)" in text and "Deploy" not in text
    assert "**Nothing can be said of speed here: an emulator stood in for the device**" in text


def test_everything_failed(tmp_path):
    text = answer_of(tmp_path, [], [failure("openvino", "int8", 8, "no\nmemory")])
    assert "## smlpnet_tiny\n\n**Nothing to deploy: no row could be measured**" in text
    assert "- openvino int8 batch size 8 failed: no memory:\n" in text


def test_no_rows_at_all(tmp_path):
    assert "nothing to deploy" in answer_of(tmp_path, REFERENCE[:1], [])


def test_the_page_begins_with_it(tmp_path):
    page = Sweep(tmp_path, DECIDED_ACCURACY, DECIDED_THROUGHPUT).make().text("report.html")
    assert page.index("Deploy openvino int8 at batch size 1") < page.index("<table")


@pytest.mark.parametrize("counts", [(3, 1, 1000), (0, 0, 96), (30, 20, 2000)])
def test_as_many_images_decide_and_fewer_do_not(counts):
    b, c, n = counts
    enough = images_to_decide(b, c, n, 0.01)

    def is_decided(images):
        low, high = paired_difference_interval(b * images / n, c * images / n, images)
        return high < 0.01 or low > 0.01

    assert is_decided(enough) and not is_decided(0.99 * enough)
    assert images_to_decide(10, 0, 1000, 0.01) is None
