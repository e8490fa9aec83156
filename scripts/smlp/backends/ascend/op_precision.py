"""op_precision.ini, which chooses how CANN implements operators. Lines that CANN would silently ignore are errors.

Standard library only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

from pathlib import Path

from ...core.cli import UserError

# anything else in op_precision.ini is a warning in a log that nobody reads
_IMPL_MODES = (
    "high_performance",
    "high_precision",
    "super_performance",
    "enable_float_32_execution",
    "enable_hi_float_32_execution",
    "support_out_of_bound_index",
    "keep_fp16",
    "norm_class",
)


def check(path: Path, known: set[tuple[str, str]] | None, nodes: set[str]) -> None:
    """Raise UserError for a line of an op_precision.ini that CANN would ignore without a word.

    known: the pairs of operator type and mode that the installed CANN lists, None if it lists none. nodes: names of
    the model's nodes; a fused operator is called <last node>/<type>.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); lines like Gelu=high_performance were expected") from None
    section, seen = "[ByOpType]", set()
    for number, line in enumerate(map(str.strip, lines), 1):
        if line in ("[ByOpType]", "[ByNodeName]"):
            section = line
        elif line and not line.startswith("#"):
            key, equals, mode = (part.strip() for part in line.partition("="))
            problem = None
            if not (key and equals):
                problem = "is not of the form Type=mode"
            elif mode not in _IMPL_MODES:
                problem = f"has no mode of {', '.join(_IMPL_MODES)}"
            elif (section, key) in seen:
                problem = "repeats a key, and the first one counts"
            elif section == "[ByNodeName]" and not nodes & {key, key.rpartition("/")[0]}:
                problem = "names no node of the model"
            elif section == "[ByOpType]" and known is not None and (key, mode) not in known:
                types = sorted({kind for kind, _ in known if kind.lower() == key.lower()})
                problem = "is not in the list of this CANN (impl_mode/all_ops_impl_mode.ini)" + (
                    f", which writes {types[0]}" if types and types[0] != key else ""
                )
            if problem:
                raise UserError(f"{path}: line {number}, {line!r}, {problem}; CANN would silently ignore it")
            seen.add((section, key))


def known_modes(home: Path) -> set[tuple[str, str]] | None:
    """(operator type, mode) that this CANN has; None if it has no list."""
    path = home / "opp/built-in/op_impl/ai_core/tbe/impl_mode/all_ops_impl_mode.ini"
    if not path.exists():
        return None
    pairs = (line.partition("=") for line in path.read_text(errors="replace").splitlines() if "=" in line)
    return {(key.strip(), mode.strip()) for key, _, modes in pairs for mode in modes.split(",")}
