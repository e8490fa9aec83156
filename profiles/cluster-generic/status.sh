#!/bin/sh
# The state of the Slurm job $1, as Snakemake wants to hear it: running, success or failed. Needs no accounting.
state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2>/dev/null | head -n 1)
case "$state" in
    COMPLETED) echo success ;;
    PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | REQUEUED | RESIZING | STAGE_OUT | PREEMPTED) echo running ;;
    "") # forgotten, or the controller does not answer: that says nothing about the job
        if scontrol ping 2>/dev/null | grep -q 'is UP'; then echo failed; else echo running; fi ;;
    *) echo failed ;;
esac
