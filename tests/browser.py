"""Pages in a real browser: what Chromium makes of them, in a window of any width."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--virtual-time-budget=2000",
)  # fmt: skip

Look = Callable[..., str]  # (page, width) -> the page as the browser has it once its scripts ran


def looking(folder: Path) -> Look:
    """A browser whose profile lies in this folder."""

    def dump(page: Path, width: int = 1200) -> str:
        assert CHROMIUM is not None
        command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
        environment = {**os.environ, "HOME": str(folder)}
        done = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, check=True, env=environment)
        return done.stdout.decode("utf-8")

    return dump


def title(dom: str) -> str:
    return re.findall(r"<title>(.*?)</title>", dom, re.DOTALL)[0]


def with_script(page: Path, script: str) -> Path:
    """A copy of the page with one more script that its policy allows beside what it allows already."""
    text = page.read_text("utf-8")
    allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    head, body = text.split("</head>", 1)
    if "script-src" in head:
        head = head.replace("script-src ", f"script-src {allowed} ")
    else:
        head = head.replace("form-action 'none'", f"form-action 'none'; script-src {allowed}")
    copy = page.with_name(f"with-script-{page.name}")
    copy.write_text(f"{head}</head>{body.replace('</body>', f'<script>{script}</script></body>')}", "utf-8")
    return copy
