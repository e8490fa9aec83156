"""A fake CANN installation and the environment of a process on the emulated host.

    home = make_cann_tree(tmp_path / "Ascend", "7.0.0")
    subprocess.run(command, env=environment(tmp_path / "Ascend", npu_smi="310P3-busy"))

Comments name sections of npu_smi.md. The folder given stands for /usr/local/Ascend.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARCH = f"{platform.machine()}-linux"
# what ATC calls the chips of the hosts in bin/npu-smi, section 1.3
SOCS = {"310P3": "Ascend310P3", "910B3": "Ascend910B3", "a3": "Ascend910_9392"}
IMPL_MODES = ("Gelu=high_performance", "Gelu=high_precision", "Sigmoid=high_performance", "Tanh=high_performance")


def make_cann_tree(root: Path | str, version: str = "7.0.0") -> Path:
    """Write CANN `version` ("5.1.RC2", "8.3.RC2", …) and its driver below `root`. Returns ASCEND_TOOLKIT_HOME."""
    root = Path(root)
    major, minor = map(int, re.match(r"(\d+)\.(\d+)", version).groups())
    if (major, minor) >= (8, 5):  # 4.1: from 8.5 on in cann/
        toolkit = home = root / "cann"
        home.mkdir(parents=True)
    else:
        toolkit, home = root / "ascend-toolkit", root / "ascend-toolkit/latest"
        (toolkit / version).mkdir(parents=True)
        home.symlink_to(version)
    texts = {  # 4.1
        home / ARCH / "ascend_toolkit_install.info": "package_name=Ascend-cann-toolkit\n"
        f"version={version}\ninnerversion=V100R001C15SPC006B220\n"
        f"compatible_version=[V100R001C15]\narch={platform.machine()}\nos=linux\npath={home}/{ARCH}\n",
        home / "version.cfg": "# version: 1.0\n"
        + "".join(f"{part}_running_version=[7.6.0.1.220:{version}]\n" for part in ("runtime", "compiler", "opp")),
        home / "opp/built-in/op_impl/ai_core/tbe/impl_mode/all_ops_impl_mode.ini": "\n".join(IMPL_MODES) + "\n",
        root / "driver/version.info": "Version=24.1.rc1\nascendhal_version=7.35.19\n"
        "compatible_version_fw=[7.0.0,7.2.99]\npackage_version=24.1.rc1\n",
        root / "firmware/version.info": "Version=7.1.0.11.220\nfirmware_version=1.0\npackage_version=24.1.rc1\n",
        toolkit / "set_env.sh": "\n".join(f'export {key}="{value}"' for key, value in _exports(home).items()) + "\n",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for link, target in ((home / "bin/atc", "atc"), (root / "bin/npu-smi", "npu-smi")):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(HERE / "bin" / target)
    return home


def _exports(home: Path) -> dict[str, str]:
    """What set_env.sh sets, section 4.2. `$X` of a variable that may be unset is the real one's habit."""
    return {
        "ASCEND_TOOLKIT_HOME": f"{home}",
        "ASCEND_HOME_PATH": f"{home}",
        "ASCEND_OPP_PATH": f"{home}/opp",
        "ASCEND_AICPU_PATH": f"{home}",
        "TOOLCHAIN_HOME": f"{home}/toolkit",
        "LD_LIBRARY_PATH": f"{home}/lib64:{home}/lib64/plugin/opskernel:$LD_LIBRARY_PATH",
        "PYTHONPATH": f"{home}/python/site-packages:{HERE / 'site'}:$PYTHONPATH",
        "PATH": f"{home}/bin:{home}/compiler/ccec_compiler/bin:$PATH",
    }


def environment(
    root: Path | str,
    *,
    sourced: bool = True,
    aclruntime: str = "0.0.2",
    npu_smi: str = "310P3-old",
    devices: int = 1,
    **more: str,
) -> dict[str, str]:
    """Variables for a process on the host with the CANN tree below `root`.

    sourced: whether set_env.sh was. aclruntime, npu_smi: the variants that site/aclruntime.py and
    bin/npu-smi list. devices: how many NPUs can be opened. `python3`, which runs atc, is this interpreter.
    """
    root = Path(root)
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("ASCEND_", "SMLP_EMULATOR_"))}
    variables["PATH"] = f"{Path(sys.executable).parent}:{root / 'bin'}:{variables.get('PATH', '')}"
    variables["PYTHONPATH"] = f"{HERE / 'site'}:{variables.get('PYTHONPATH', '')}".rstrip(":")  # pip install aclruntime
    if sourced:
        home = root / "cann" if (root / "cann").exists() else root / "ascend-toolkit/latest"
        for key, value in _exports(home).items():
            variables[key] = value.replace(f"${key}", variables.get(key, "")).rstrip(":")
    soc = next((soc for chip, soc in SOCS.items() if npu_smi.startswith(chip)), "Ascend310P3")
    variables.update(
        SMLP_EMULATOR_ACLRUNTIME=aclruntime,
        SMLP_EMULATOR_NPU_SMI=npu_smi,
        SMLP_EMULATOR_DEVICES=str(devices),
        SMLP_EMULATOR_SOC=soc,
    )
    return {**variables, **more}
