"""The plan that all rules ask, wildcard constraints, and what jobs need of this host."""

import re

from scripts.smlp import backends
from scripts.smlp.core import cli, host
from scripts.smlp.core.provenance import versions
from scripts.smlp.workflow import ceilings, checks, jobs, outside, past, plan, sustaining
from scripts.smlp.workflow.measuring import FIRST
from scripts.smlp.workflow.plan import Cell
from scripts.smlp.workflow.why import code_digest

sweep = plan.Sweep(config)
hosts = sweep.hosts
contents = outside.Contents(sweep, config)
# Of the data, before the first job and in a dry run; they add no input.
needed = checks.Checks(sweep, config, contents, workflow.is_main_process)

# All that this run was given: a job that asks for them runs alone. A run that only submits jobs has no cores of its
# own; the job that runs on the node counts them, and the profile asks for the node.
ALL_CORES = jobs.usable_cores(workflow)
# The host of a sweep that runs here: what was measured on another one is measured again.
HOST = host.facts() if workflow.resource_settings.cores and workflow.is_main_process else {}
if workflow.resource_settings.cores:  # on this host no more jobs at once than it has devices
    for resource in hosts.resources:
        workflow.global_resources.setdefault(resource, hosts.limit(resource))


wildcard_constraints:
    model="|".join(map(re.escape, sweep.models)),
    backend="|".join(backends.names()),
    precision="[a-z0-9_]+",
    variant=sweep.variant_pattern,
    batch=r"\d+",
    load=r"\d+",
    dataset=re.escape(sweep.dataset),
    transform=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    shard=r"\d+",
    graph="[a-z]+",
    # empty for export.opset_version
    opset=r"(_opset\d+)?",


def of_cell(answer):
    """An input or parameter: what the plan answers about the engine that a job's wildcards name."""
    return lambda wildcards: cli.or_fail(answer, Cell.of(wildcards))


def of_backend(answer):
    """As of_cell, about the backend alone."""
    return lambda wildcards: cli.or_fail(answer, wildcards.backend)


def of_model(answer, *more):
    """As of_cell, about the model alone. more: further arguments of `answer`."""
    return lambda wildcards: cli.or_fail(answer, wildcards.model, *more)


def of_reference(answer):
    """As of_cell, about the engine that a job's model is judged by."""
    return lambda wildcards: cli.or_fail(answer, sweep.reference_cell(wildcards.model))


def digest_of(command):
    """The digest of the code that a command runs for a job's backend."""
    return lambda wildcards: code_digest(command, wildcards.backend)


def growing(amount):
    """A resource of which attempt n gets n × amount."""
    return lambda wildcards, attempt: amount * attempt


def counted(resource):
    """How many of what schedulers count a job on the device of its backend needs."""
    return lambda wildcards: hosts.count(wildcards.backend, resource)


# the resources of a job that runs an engine, those of every kind of device
DEVICES = {resource: counted(resource) for resource in hosts.resources}
