"""How Sphinx builds the documentation; scripts/docs runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.model.setting import settings_of
from durable_streams.settings import HttpSettings, Settings
from durable_streams.version import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Durable Streams server"
author = "the authors of durable-streams-server"
copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "code"
# :proof:`test_name` names a test that a statement rests on; tests/test_documents.py looks for it.
rst_prolog = ".. role:: proof(literal)\n"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_copyright = False


def _describe_setting(
    _app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """What is known of a setting is its documentation."""
    module, _, attribute = name.rpartition(".")
    for kind in (Settings, HttpSettings):
        if what == "attribute" and module.endswith(f".{kind.__name__}"):
            for setting in settings_of(kind):
                if setting.name == attribute:
                    lines[:] = [setting.described]


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _describe_setting)
