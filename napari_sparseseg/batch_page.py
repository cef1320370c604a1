"""The frame of a batch's page, and how any text gets into it safely."""

import base64
import hashlib
import unicodedata
from html import escape
from importlib import resources
from urllib.parse import quote

_UNSEEN = ("Cc", "Cf", "Cs")  # categories of Unicode: control, format, lone surrogates


def wrap_page(title: str, body: str) -> str:
    """Return a whole page around `body`, which is HTML; `title` is any text.

    Style and script are in it.  A policy lets no other script run, and nothing be fetched from the net.
    """
    files = resources.files("napari_sparseseg")
    style = (files / "batch_page.css").read_text(encoding="utf-8")
    script = (files / "batch_page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "; ".join((
        "default-src 'none'", "img-src data: file: 'self'", "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
    ))  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{show_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def show_text(text: str) -> str:
    """Return any text as HTML that shows it, also in an attribute.

    Characters that cannot be seen or that turn the direction of what follows, and bytes of a file's name
    that are no text, are shown by their codes.
    """
    return escape("".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in text))


def make_link(path: str) -> str:
    """Return a path relative to the page as the quoted value of ``href`` or ``src``."""
    return escape("./" + quote(path, errors="surrogateescape"))


def embed_jpeg(picture: bytes) -> str:
    """Return a JPEG file as the value of ``src``."""
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()
