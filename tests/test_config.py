"""Laws of the configuration: parts of groups, rules beside the fields, files of defaults."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from interp_by_construction.cli import main
from interp_by_construction.config import (
    AlignConfig,
    Config,
    DataConfig,
    Group,
    LabelConfig,
    LabelerConfig,
    NodesConfig,
    SimulateConfig,
    SubjectConfig,
    TrainerConfig,
    compose,
    conf_dir,
    convert,
    from_dict,
    from_saved,
    only,
    to_dict,
)
from interp_by_construction.config.describe import MOST_CHANGED, documented, files, settings
from interp_by_construction.errors import ConfigError

SPLIT = (
    AlignConfig,
    DataConfig,
    LabelConfig,
    LabelerConfig,
    NodesConfig,
    SimulateConfig,
    SubjectConfig,
    TrainerConfig,
)


SIGNED = {"data.seed", "model.bias_init"}
"""Fields in which a number below 0 means something."""


def test_no_other_number_may_be_below_zero() -> None:
    names = [
        name
        for name, value in flat(to_dict(Config()))
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    assert len(names) > 90 and set(names) > SIGNED
    for name in names:
        if name in SIGNED:
            compose([f"{name}=-1"])
        else:
            with pytest.raises(ConfigError, match=rf"^{name.rpartition('.')[0]}.*: "):
                compose([f"{name}=-1"])


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize(
    "typed",
    [
        "seed=~",
        "seed={",
        "seed='",
        "seed=1,2",
        "seed=range(1,3)",
        "seed=a\nb",
        f"seed={'9' * 5000}",
    ],
)
def test_a_value_that_cannot_be_read_is_refused_in_one_line(typed: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^seed=.*: (the value cannot be|several values)"
    ) as error:
        compose([typed])
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("value", ["1" + "0" * 17, "9" * 400])
def test_a_number_is_no_larger_than_a_computation_can_hold(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^seed=.*: give an integer"):
        compose([f"seed={value}"])
    if len(value) > 308:
        with pytest.raises(ConfigError, match=r"^align.lr=.*: give a finite number"):
            compose([f"align.lr={value}"])


@pytest.mark.parametrize("kind", SPLIT)
def test_a_part_of_a_group_is_exactly_its_fields(kind: type[Group]) -> None:
    whole = kind()
    for part in kind.__bases__:
        values = dataclasses.asdict(only(part, whole))
        assert type(only(part, whole)) is part
        assert values and values == {name: getattr(whole, name) for name in values}


def test_defaults_satisfy_their_own_rules() -> None:
    Config().check()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["align.steps=-1"], "align.steps=-1: give an integer >= 0"),
        (["continue.lr=-1"], "continue.lr=-1.0: give a number >= 0"),
        (["judge=smollm2", "judge.concurrency=0"], "judge.concurrency=0: give an integer >= 1"),
        (["nodes.fraction=1.5"], "nodes.fraction=1.5: give a share between 0 and 1, or null"),
        (["subject.n_heads=3"], "subject.n_heads=3: it must divide subject.d_model"),
        (["data.fractions.train=0"], "data.fractions=.*: give positive shares that sum to 1"),
        (["bench.grades=[2]"], r"bench.grades=\[2.0\]: give correlations"),
        (["trainer.threads=2147483648"], "trainer.threads=2147483648: give an integer from 1"),
        (["seed=-1"], "seed=-1: give an integer >= 0"),
    ],
)
def test_a_broken_rule_names_the_field_the_value_and_the_fix(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)


def test_the_files_of_defaults_are_those_that_the_dataclasses_make() -> None:
    for name, text in files().items():
        assert (conf_dir() / name).read_text() == text, f"{name}: run `make config`"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and key != "fractions":
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["experiment=demo", "align.lr=1e-3", "run=null", "layer=[0,1]"],
        ["data=text", "data.path='../x, y'", "subject=hf", "subject.path=a/b", "align.weight=3"],
        ["align.weight=1", "judge=endpoint", "judge.url=http://127.0.0.1:1", "align.weight=2"],
        ["nodes=transcoder", "dictionary={k: 4, skip: true}", "trigger.phrase='a b=c'"],
    ],
)
def test_fields_that_are_set_on_composed_choices_are_what_hydra_makes_of_them(
    overrides: list[str],
) -> None:
    """Again with the same choices, too: what is set on a copy of them changes no other."""
    hydras = OmegaConf.to_container(convert._composed(conf_dir(), tuple(overrides)), resolve=True)
    for _ in range(2):
        made = OmegaConf.to_container(convert._set_on_choices(overrides), resolve=True)
        assert repr(made) == repr(hydras)
        convert._set_on_choices([*overrides, "seed=7"])


@pytest.mark.parametrize(
    "override",
    ["colour=red", "align.wieght=1", "layer=[1", "seed=0,1", "+seed=1", "~seed", "data=nope"],
)
def test_of_what_cannot_be_composed_hydra_says_what_is_wrong(override: str) -> None:
    assert convert._set_on_choices([override]) is None


@pytest.mark.parametrize("chosen", [[], ["judge=smollm2"], ["judge=endpoint", "nodes=transcoder"]])
def test_every_field_has_a_meaning_and_can_be_typed(chosen: list[str]) -> None:
    """All fields at once, each set to the value that it has."""
    config = compose(chosen)
    values = {key: value for key, value in _flat(to_dict(config)).items() if key != "judge"}
    typed = [
        f"{key}={json.dumps(value)}"
        for key, value in values.items()
        # A tiny subject is not adapted.
        if key != "data.fractions" and not key.startswith("subject.adapt_")
    ]
    assert compose([*chosen, *typed]) == config
    shown = documented(config)
    assert yaml.safe_load(shown) == to_dict(config)
    lines = shown.splitlines()
    for above, line in itertools.pairwise(lines):
        assert line == "" or line.lstrip().startswith("#") or above.lstrip().startswith("#"), line


def test_a_field_of_another_kind_of_subject_is_refused_only_where_it_is_typed() -> None:
    with pytest.raises(ConfigError, match=r"subject.n_layers=2: subject=smollm2 is pretrained"):
        compose(["subject=smollm2", "subject.n_layers=2"])
    with pytest.raises(ConfigError, match=r"subject.adapt_steps=3: subject=tiny"):
        compose(["subject.adapt_steps=3"])
    with pytest.raises(ConfigError, match=r"subject.pretrain=True: subject=tales is pretrained"):
        compose(["data=tales", "subject=tales", "subject.pretrain=true"])
    assert compose(["experiment=demo", "subject=smollm2"]).subject.kind == "smollm2"


@pytest.mark.parametrize("chosen", [[], ["judge=smollm2"]])
def test_what_a_run_saved_is_read_back_and_no_other_version_of_it(chosen: list[str]) -> None:
    saved = to_dict(compose(chosen))
    assert from_saved(saved) == compose(chosen)
    del saved["align"]["weight"]
    saved["label"]["colour"] = "red"
    with pytest.raises(
        ConfigError, match=r"unknown field label.colour; missing field align.weight"
    ):
        from_saved(saved)
    with pytest.raises(ConfigError, match="no configuration"):
        from_saved(None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.device=gpu", r"trainer.device=gpu: give auto, cpu, cuda, .*cuda:1"),
        ("trainer.device=cuda:x", r"trainer.device=cuda:x: give"),
        ("labeler.dtype=bf16", r"labeler.dtype=bf16: give one of auto, float32, bfloat16, float16"),
        ("subject.revision=main", r"subject.revision=main: only subject=hf"),
    ],
)
def test_a_device_a_precision_or_a_revision_that_cannot_be_is_refused_with_the_choices(
    override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([override])
    known = ["trainer.device=cuda:1", "labeler.dtype=float16", "labeler.revision=main"]
    assert compose(known).trainer.device == "cuda:1"


def test_what_was_removed_says_what_replaces_it_wherever_it_stands() -> None:
    for name, value in (("align.schedule", "constant"), ("schedule", "hybrid")):
        with pytest.raises(ConfigError, match=f"{name}={value}: it was removed"):
            compose([f"{name}={value}"])
    for group in ({"align": {"schedule": "ramp"}}, {"schedule": "hybrid"}):
        with pytest.raises(ConfigError, match="it was removed"):
            from_dict(to_dict(Config()) | group)


def test_help_shows_the_ten_settings_that_people_change_first_and_all_of_them_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(set(MOST_CHANGED)) == 10
    main(["--help"])
    main(["run", "--help", "align.weight=7"])
    short = capsys.readouterr().out
    for name in MOST_CHANGED:
        assert len(re.findall(rf"^  {re.escape(name)}=", short, flags=re.MULTILINE)) == 2, name
    assert "align.weight=7" in short and "align.lr" not in short and "--help=all" in short
    main(["run", "--help=all", "align.weight=7"])
    whole = capsys.readouterr().out
    main(["--help=all"])
    assert len(capsys.readouterr().out.splitlines()) == len(whole.splitlines())
    names = {each.name.rpartition(".")[2] for each in settings(Config())}
    assert all(re.search(rf"^ *{name}: ", whole, flags=re.MULTILINE) for name in names)
    assert "weight: 7" in whole


def test_help_of_another_kind_is_refused_with_the_two_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--help=most"])
    assert ended.value.code == 2
    assert "--help=most: give --help, or --help=all" in capsys.readouterr().err
