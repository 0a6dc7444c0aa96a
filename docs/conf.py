"""Sphinx's configuration: ``python -m sphinx -W docs build/docs``."""

import bpcore

project = "bpcore"
author = copyright = "The bpcore developers"
version = release = bpcore.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx-mathjax-offline", "numpydoc", "myst_parser"]
myst_enable_extensions = ["dollarmath"]

html_theme = "pydata_sphinx_theme"
html_title = f"bpcore {version}"
html_theme_options = {
    "github_url": "https://github.com/bpcore/bpcore",
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}
# Only the reference has pages below it.
html_sidebars = {page: [] for page in ("index", "[!ag]*", "guarantees")}

numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_typehints = "none"  # the sections of the docstrings name types


def skip_what_is_inherited(app, what, name, member, skip, options):
    """What the estimators have from scikit-learn is documented there, with links that lead nowhere here."""
    return True if (getattr(member, "__module__", None) or "").startswith("sklearn.") else None


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", skip_what_is_inherited)
