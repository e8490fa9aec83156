"""fp32 is fp32 in torch: how the backends that run it set its precision, and what it then says of itself.

NumPy is not even needed; torch is imported when asked for.
"""

from __future__ import annotations

from .base import Facts


def use_full_fp32(threads: int | None) -> None:
    """No TF32 and no bf16 inside fp32 products and convolutions, on any device; and as many threads, if given.

    The older names for CUDA's switches set the newer ones too; the other way round, reading the older ones fails
    (torch 2.13), and its compiler reads them.
    """
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for kind in ("matmul", "conv", "rnn"):
        if operation := getattr(torch.backends.mkldnn, kind, None):  # since torch 2.9
            operation.fp32_precision = "ieee"
    if threads:
        torch.set_num_threads(threads)


def stated() -> Facts:
    """What torch runs with, read back from it."""
    import torch

    onednn = getattr(torch.backends.mkldnn, "conv", None)
    return {
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "onednn_fp32_precision": onednn.fp32_precision if onednn else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
    }
