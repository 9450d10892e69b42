"""A sweep on the terminal: every planned job, the settings it differs in, and its state."""

from __future__ import annotations

from collections import Counter
from functools import partial

from rich.markup import escape

from interp_by_construction.engine.store import Store
from interp_by_construction.report.facts import share_through_free
from interp_by_construction.report.tables import console, or_dash, titled
from interp_by_construction.sweeps.grid import key_of, swept
from interp_by_construction.sweeps.record import JobState, SweepDirectory

STYLES: dict[JobState, str] = {
    "complete": "green",
    "failed": "red",
    "running": "yellow",
    "incomplete": "yellow",
    "missing": "yellow",
}


def show_sweep(sweep: SweepDirectory) -> None:
    """One row per job, then why jobs failed and which ones are not done."""
    out, jobs, name = console(), sweep.jobs, sweep.path.name
    say = partial(out.print, soft_wrap=True)
    varied = swept([job.overrides for job in jobs])
    states = {job.number: sweep.state(job.number) for job in jobs}
    counts = Counter(states.values())
    count = ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])
    columns = ("job", "differs in", "state", "final score", "tax", "through free nodes")
    table = titled(f"sweep {name}: {len(jobs)} jobs, {count}", columns)
    for job in jobs:
        state = states[job.number]
        summary = sweep.run(job.number).summary if state == "complete" else None
        differs = " ".join(override for override in job.overrides if key_of(override) in varied)
        score, tax, hidden = "", "", ""
        if summary is not None:
            means = [layer["score"]["final"]["mean"] for layer in summary["layers"]]
            score, tax = ", ".join(map(or_dash, means)), f"{summary['loss']['tax']:+.4f}"
            hidden = or_dash(share_through_free(summary))
        table.add_row(
            str(job.number), escape(differs), f"[{STYLES[state]}]{state}[/]", score, tax, hidden
        )
    out.print(table)
    for number in [number for number, state in states.items() if state == "failed"]:
        say(f"[red]failed[/red]   {escape(f'{name}/{number}: {sweep.reason(number)}')}")
    together, alone = seconds(sweep)
    if together:
        both = f"computed {together:,.0f} s; the same runs one by one: {alone:,.0f} s"
        say(f"{both} ({together / alone:.2f})")
    left = [number for number, state in states.items() if state not in ("complete", "running")]
    if left:
        listing = ", ".join(map(str, left))
        say(
            f"not done {listing}; the same `ibc run -m` goes on with them and computes nothing twice"
        )
    say(f"next     ibc status {name}   |   ibc report {name}", markup=False)


def seconds(sweep: SweepDirectory) -> tuple[float, float]:
    """Wall seconds of all artifacts of the complete jobs: first with each artifact counted once,
    then counted once for every job that needs it.

    The second is what the same runs cost if nothing is shared. Jobs that ran at the same time slow
    each other down in both.
    """
    store = Store(sweep.path.parent.parent / "store")
    known: dict[tuple[str, str], float] = {}
    alone = 0.0
    for job in sweep.jobs:
        if sweep.state(job.number) != "complete":
            continue
        for stage, fingerprint in sweep.run(job.number).artifacts:
            if (stage, fingerprint) not in known:
                artifact = store.get(stage, fingerprint)
                known[stage, fingerprint] = 0.0 if artifact is None else artifact.seconds
            alone += known[stage, fingerprint]
    return sum(known.values()), alone
