"""Keys and passwords are used for requests, and stand in nothing that is written or shown."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer
from labeler_clients import config
from stock import STOCK_KEY, Stock

from interp_by_construction import shown
from interp_by_construction.cli import main
from interp_by_construction.config import LabelerConfig, compose, to_dict
from interp_by_construction.config.credentials import VARIABLE, login_of, without_login
from interp_by_construction.errors import ConfigError, IbcError, LabelerError
from interp_by_construction.llm.api_keys import api_key
from interp_by_construction.llm.server_addresses import Address
from interp_by_construction.llm.vllm_command import server_environment

KEY, PASSWORD = "sk-canary-5e1f", "canary-pw-77d0"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of one test is known in the next."""
    monkeypatch.setenv(VARIABLE, "{}")
    monkeypatch.setattr(shown, "_secrets", set())


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.mark.parametrize(
    "setting",
    [
        "labeler.api_key=KEY",
        "judge.api_key=KEY",
        "+labeler.api_key=KEY",
        "++judge.api_key=KEY",
        "labeler={api_key: KEY}",
        "labeler.extra_args=[--api-key,KEY]",
        "labeler.extra_args=['--api_key=KEY']",
    ],
)
def test_a_key_is_refused_where_others_can_read_it(
    setting: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a command line, before anything is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["run", setting.replace("KEY", KEY)])
    error = capsys.readouterr().err
    group = "judge" if "judge" in setting else "labeler"
    assert ended.value.code == 2 and KEY not in error and len(error.splitlines()) == 1
    assert f"IBC_{group.upper()}_API_KEY" in error and f"{group}.api_key_file=FILE" in error
    assert not list(tmp_path.iterdir())


def test_a_key_is_refused_in_a_configuration() -> None:
    from interp_by_construction.config import from_dict

    for group in ("labeler", "judge"):
        values = to_dict(compose(["judge=smollm2"]))
        values[group] |= {"api_key": KEY}
        with pytest.raises(ConfigError, match=f"{group}.api_key_file=FILE") as error:
            from_dict(values)
        assert KEY not in str(error.value)


def test_where_a_key_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cfg = tmp_path / "my key", LabelerConfig()
    assert api_key(cfg, "labeler") is None
    monkeypatch.setenv("IBC_LABELER_API_KEY", f" {KEY}\n")
    assert api_key(cfg, "labeler") == KEY and api_key(cfg, "judge") is None
    of_file = LabelerConfig(api_key_file=str(file))
    with pytest.raises(LabelerError, match=r"judge.api_key_file=.*No such file"):
        api_key(of_file, "judge")
    file.write_text("other-key\n")
    for mode in (0o640, 0o604, 0o622):
        file.chmod(mode)
        with pytest.raises(LabelerError, match=r"run `chmod 600 '.*my key'`"):
            api_key(of_file, "labeler")
    file.chmod(0o600)
    assert api_key(of_file, "labeler") == "other-key"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two keys", b"two\nkeys", b"\xff", b"k\x1bey", b"x" * 5000]
)
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(LabelerError, match="holds no API key"):
        api_key(LabelerConfig(api_key_file=str(file)), "labeler")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(LabelerError, match="is no file"):
        api_key(LabelerConfig(api_key_file=str(tmp_path / "pipe")), "labeler")


@pytest.mark.parametrize(
    ("given", "kept", "login"),
    [
        ("http://host:1/v1", "http://host:1/v1", None),
        ("http://me:pw@host:1/v1", "http://host:1/v1", ("me", "pw")),
        ("https://me:p%40w@host", "https://host", ("me", "p@w")),
        ("https://me:p@w@host", "https://host", ("me", "p@w")),
        ("http://me:@[::1]:1/", "http://[::1]:1/", ("me", "")),
        ("http://token@host", "http://host", ("token", "")),
    ],
)
def test_a_login_is_kept_apart(given: str, kept: str, login: tuple[str, str] | None) -> None:
    assert without_login(given) == kept and login_of(kept) == login
    cfg = LabelerConfig(url=given)
    assert (cfg.url == kept and given == kept) or given not in repr(cfg)


def test_logins_of_a_sweep_and_of_other_fields() -> None:
    assert without_login("http://a:b@x,http://c:d@y:2") == "http://x,http://y:2"
    assert login_of("http://y:2/v1") == ("c", "d")
    with pytest.raises(ConfigError, match=r"data.path=http://host/x.*no place") as error:
        compose(["data=text", f"data.path=http://me:{PASSWORD}@host/x"])
    assert PASSWORD not in str(error.value)
    with pytest.raises(ConfigError, match="give a URL such as"):
        compose(["labeler.url=host:8000"])


def test_errors_show_neither_logins_nor_known_keys() -> None:
    shown.hide(KEY)
    text = str(IbcError(f"proxy http://me:{PASSWORD}@host:1 said: key {KEY} is wrong"))
    assert text == "proxy http://host:1 said: key *** is wrong"


def test_programs_that_need_no_endpoint_inherit_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBC_JUDGE_API_KEY", KEY)
    without_login(f"http://me:{PASSWORD}@host")
    assert not any(
        c in value
        for c in (KEY, PASSWORD)
        for value in server_environment(LabelerConfig()).values()
    )


def test_a_login_and_a_key_cannot_go_together(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp_by_construction.llm.server_addresses import Endpoints

    monkeypatch.setenv("IBC_LABELER_API_KEY", KEY)
    with pytest.raises(LabelerError, match="leave one out"):
        Endpoints(config(server, url="http://me:password@host")).address("generate")
    assert Address("", None, ("me", "é:")).headers["Authorization"].startswith("Basic ")


def files_with(root: Path, *secrets: str) -> list[Path]:
    found = [each.encode() for each in secrets]
    every = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in every if any(each in path.read_bytes() for each in found)]


@pytest.mark.parametrize("way", ["key", "login"])
def test_no_secret_is_written_or_shown(
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of a simulation that succeeds, and of a run or a sweep whose endpoint says the secret
    aloud."""
    monkeypatch.chdir(tmp_path)
    coded = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    (tmp_path / "in.jsonl").write_text('{"label": "animals", "tokens": ["a", " dog"]}\n')
    if way == "key":
        monkeypatch.setenv("IBC_LABELER_API_KEY", KEY)
    with FakeServer(api_key=KEY if way == "key" else None) as server:
        url = server.url if way == "key" else server.url.replace("://", f"://me:{PASSWORD}@")
        endpoint = ["labeler=endpoint", f"labeler.url={url}", f"labeler.classify_url={url}"]
        main(["simulate", "input=in.jsonl", "output=out.jsonl", *endpoint])
        heard = server.heard[-1]
        assert heard == (f"Bearer {KEY}" if way == "key" else f"Basic {coded}")
        server.models = f'{{"error": "{heard} of {url}"}}'.encode()
        more = ["logger=none"] if way == "key" else ["-m", "seed=0", "logger=csv"]
        with pytest.raises(SystemExit) as ended:
            main(["run", *more, "run=r", *endpoint])
        assert ended.value.code == 2
    out, err = capfd.readouterr()
    assert "is no OpenAI-compatible server" in err
    assert (tmp_path / "runs" / "r" / ("config.yaml" if way == "key" else "0/error.txt")).is_file()
    for secret in (KEY, PASSWORD, coded):
        assert secret not in out + err and not files_with(tmp_path, secret)


def test_a_whole_run_writes_no_key(tmp_path: Path, stock: Stock) -> None:
    stock.plain(tmp_path)
    assert not files_with(stock.folder / "plain", STOCK_KEY)
