"""Every column of the table of throughputs, stated once, as columns.py does those of the other tables."""

from __future__ import annotations

from dataclasses import replace

from .columns import (
    BACKEND,
    BATCH,
    CEILING,
    CONDITIONS,
    DEVICE,
    EMULATED,
    ENGINE,
    FAILED,
    IMPLAUSIBLE,
    MODEL,
    OTHER_CONDITIONS,
    PERCENTILES,
    PRECISION,
    ROOF,
    VARIANT,
    Column,
)

# What a sustained run of the row's engine adds to it.
_OVER_TIME = (("temperature_c", "°C"), ("clock_mhz", "MHz"), ("power_w", "W"))
SUSTAINED = (
    Column(
        "sustained_percent",
        "Float64",
        "percent",
        "sustained (%)",
        ".1f",
        "images/s in the last tenth of a long run, as a share of those in its first minute: what heat, a power limit "
        "or the like leave of the figure that a short measurement gives.",
        optional=True,
    ),
    Column("sustained_s", "Float64", "s"),
    Column("sustained_first_images_per_s", "Float64", "images/s"),
    Column("sustained_last_images_per_s", "Float64", "images/s"),
    *(
        Column(f"sustained_{name}_{when}", "Float64", unit)
        for name, unit in _OVER_TIME
        for when in ("start", "max", "end")
    ),
    Column("sustained_throttling", "string"),
    Column("sustained_disturbed", "string"),
)

THROUGHPUT = (
    MODEL,
    BACKEND,
    PRECISION,
    VARIANT,
    BATCH,
    Column(
        "way",
        "string",
        header="way",
        legend="several requests at once over the runtime's streams, each on a batch of its own; images/s by the wall "
        "clock, latency that of a request among the others. Elsewhere one request runs at a time.",
        term="throughput way",
        after="variant",
    ),
    Column("batch_checked", "boolean"),
    Column("requests", "Int64", "requests", "requests"),
    Column("streams", "Int64", "streams", "streams"),
    DEVICE,
    Column("chip", "string"),
    EMULATED,
    FAILED,
    Column(
        "stable",
        "boolean",
        header="stable",
        legend="unstable: a load was disturbed, had not settled, drifted or swung, or the loads differ; the column "
        "disturbed says what. Measure again on an idle machine.",
        term="*",
        after="warmup_runs",
    ),
    Column("disturbed", "string", header="why unstable", optional=True, after="stable"),
    Column(
        "images_per_s",
        "Float64",
        "images/s",
        "images/s",
        ".1f",
        "1000 · batch size / mean compute milliseconds, as ais_bench and the model-zoo guide define it. Transfers are "
        "not counted; end-to-end images/s counts them.",
        term="throughput",
    ),
    Column("images_per_s_low", "Float64", "images/s", "95% interval (images/s)", ".1f", upper="images_per_s_high"),
    Column("images_per_s_high", "Float64", "images/s"),
    Column(
        "loads",
        "Int64",
        "loads",
        "loads",
        legend="how often a fresh process loaded the engine and measured it. The figure is the mean over loads, the "
        "interval Student's over them: there is none of fewer than three.",
    ),
    Column("rates_of_loads", "list", "images/s"),
    Column(
        "spread_percent",
        "Float64",
        "percent",
        "spread (%)",
        ".1f",
        "standard deviation of the loads' mean latencies.",
        optional=True,
    ),
    Column("autocorrelation", "Float64"),
    Column("drift_percent", "Float64", "percent"),
    Column("known_to_percent", "Float64", "percent"),
    Column(
        "discarded", "Int64", "loads", "discarded", legend="loads that were disturbed and taken again.", optional=True
    ),
    Column("discarded_why", "string"),
    Column("end_to_end_images_per_s", "Float64", "images/s", "end-to-end (images/s)", ".1f"),
    Column("latency_ms_mean", "Float64", "ms", "mean (ms)", ".3f"),
    Column(
        "latency_ms_p50",
        "Float64",
        "ms",
        "p50 (ms)",
        ".3f",
        "latency of a whole batch; only where the runs support one: p90 from 30, p95 from 60, p99 from 300.",
        term="percentiles",
    ),
    *(Column(f"latency_ms_{name}", "Float64", "ms", f"{name} (ms)", ".3f") for name in PERCENTILES[1:]),
    Column("runs", "Int64", "runs", "runs"),
    Column("warmup_runs", "Int64", "runs", "warm-up runs"),
    Column("threads", "Int64", "threads", "threads", after="streams"),
    Column("host_load_before", "Float64", "processes", "host load before", ".2f"),
    Column("host_load_after", "Float64", "processes"),
    # what an engine costs beside its time
    Column(
        "compile_s", "Float64", "s", "compile (s)", ".1f", "when the engine was made, if that was here.", optional=True
    ),
    Column("engine_mb", "Float64", "MB", "engine (MB)", ".1f", optional=True),
    Column("load_s", "Float64", "s", "load (s)", ".2f", optional=True),
    Column("first_inference_ms", "Float64", "ms", "first inference (ms)", ".1f", optional=True),
    Column(
        "peak_host_mb",
        "Float64",
        "MB",
        "peak memory (MB)",
        ".0f",
        "of the whole process that measured, its images and the runtime among it; MB are 10^6 bytes.",
        optional=True,
    ),
    Column("peak_device_mb", "Float64", "MB", "peak device memory (MB)", ".0f", optional=True),
    # what accelerators with a tool for it say about themselves
    Column("temperature_c_before", "Float64", "°C"),
    Column("temperature_c_after", "Float64", "°C"),
    Column("aicore_percent_before", "Float64", "percent"),
    Column("aicore_percent_after", "Float64", "percent"),
    Column("clock_mhz_before", "Float64", "MHz"),
    Column("clock_mhz_after", "Float64", "MHz"),
    Column("clock_mhz_mean", "Float64", "MHz", "clock (MHz)", ".0f", "mean while it was measured.", optional=True),
    Column(
        "throttling",
        "string",
        header="throttling",
        legend="why the device, or the processor, ran below its clock, at any time of a measurement.",
        optional=True,
    ),
    Column("power_w_before", "Float64", "W"),
    Column("power_w_after", "Float64", "W"),
    Column("power_w_mean", "Float64", "W"),
    Column("images_per_joule", "Float64", "images/J"),
    Column("energy_source", "string"),
    Column("idle_w", "Float64", "W"),
    Column(
        "joules_per_image",
        "Float64",
        "J",
        "energy (J/image)",
        ".4g",
        "above what the device, or the processor, uses idle; only where it tells its energy or power.",
        optional=True,
    ),
    *SUSTAINED,
    ENGINE,
    Column("started_at", "string", "UTC"),
    CONDITIONS,
    replace(OTHER_CONDITIONS, header="other conditions", optional=True),
    CEILING,
    ROOF,
    Column("ceiling_images_per_s", "Float64", "images/s"),
    Column("operations_per_byte", "Float64", "operations/byte"),
    Column("ceiling_source", "string"),
    replace(IMPLAUSIBLE, header="implausible", optional=True),
    Column("usable_processors", "Int64", "processors"),
    Column("file", "string"),
    Column("cpu_model", "string"),
    Column("versions", "json"),
)
