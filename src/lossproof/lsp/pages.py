"""The rules' pages for an editor: as a file to open, and the part that belongs beside a finding."""

from __future__ import annotations

import os
import re
from functools import cache

from lossproof import __version__, cachedir
from lossproof.lsp.documents import uri_of
from lossproof.problem import CannotRun
from lossproof.rules import registry

_SECTION = re.compile(r"^## (.+)$", re.M)


@cache
def address(code: str) -> str | None:
    """The address of a rule's page. It is written into the cache folder: that needs no network and fits the version."""
    rule = registry.all_rules().get(code)
    folder = cachedir.prepare(cachedir.default())
    if rule is None or folder is None:
        return None
    path = os.path.join(folder, "rules", f"{code}-{rule.name}.md")
    from lossproof.atomic import write_atomically

    text = f"{rule.page.strip()}\n\n<!-- lossproof {__version__}; the same as `lossproof explain {code}` -->\n"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomically(path, text)
    except (OSError, CannotRun):
        return None
    return uri_of(path)


@cache
def sections(code: str) -> dict[str, str]:
    """A page's sections by their titles."""
    rule = registry.all_rules().get(code)
    if rule is None:
        return {}
    parts = _SECTION.split(rule.page)
    return {title.strip(): text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}
