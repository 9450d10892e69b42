"""Installs Chromium and its driver for the report's browser test, where root and apt are there.

Never fails: where they cannot be installed the test is skipped and says why. Needs nothing but the
standard library.
"""

from __future__ import annotations

import os
import shutil
import subprocess

PACKAGES = ("chromium", "chromium-driver")


def main() -> None:
    if shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome")):
        return
    reason = None if shutil.which("apt-get") else "there is no apt-get"
    if reason is None and os.geteuid() != 0:
        reason = "only root can install packages"
    if reason is None:
        print("browser: installing chromium for the browser test", flush=True)
        reason = install()
    if reason is not None:
        print(
            f"browser: chromium is not there and cannot be installed ({reason}); the browser test will be skipped",
            flush=True,
        )


def install() -> str | None:
    """None, or why it did not work."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        try:
            done = subprocess.run(
                ["apt-get", *command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            return f"apt-get {command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    return None


if __name__ == "__main__":
    main()
