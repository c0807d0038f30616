"""How Sphinx builds the documentation; scripts/docs runs it."""

from importlib import metadata

project = "Durable Streams server"
author = "the authors of durable-streams-server"
copyright = author
release = version = metadata.version("durable-streams-server")

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
