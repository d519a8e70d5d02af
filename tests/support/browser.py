"""Headless Chromium, where there is one."""

import os
import shutil
import subprocess
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


def opened(page: Path, fragment: str, profile: Path) -> str:
    """The document that headless Chromium makes of a page and its script."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--disable-background-networking", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=2000", f"{page.as_uri()}{fragment}"]
    # a BLAS that was lent to MLX is none of the browser's business
    clean = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, env=clean
    )
    return found.stdout
