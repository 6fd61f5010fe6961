"""Settings of Sphinx for the site. `docs/build.py` gathers the pages and calls it; see there."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS / "extensions"), str(DOCS.parent)]

from repository import branch, public_address  # noqa: E402

import genot_helpers  # noqa: E402

project = "GenOT notebooks"
author = "the authors of the GenOT notebooks"
project_copyright = f"{author}, MIT licence"
version = release = genot_helpers.__version__
language = "en"
exclude_patterns = ["_*"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "names",
]

# Notebooks: shown as they were executed, never run here.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_text_lexer = "none"
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "html_image"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Reference: names from the docstrings, types from the annotations.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
nitpicky = True  # a name of our own that leads nowhere is an error ...
nitpick_ignore_regex = [("py:.*", r"(?!genot_helpers\.|\.).*")]  # ... other people's are not ours
nitpick_ignore = [("py:class", "genot_helpers.datasets.datasets.Demo")]  # the type of one value

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_favicon = "_static/logo.svg"
html_logo = "_static/logo.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "home_page_in_toc": True,
    "use_download_button": False,  # every notebook page has its own row of buttons
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "navbar_persistent": [],
    "logo": {"text": project},
}

ADDRESS = public_address()
if ADDRESS:
    html_theme_options |= {
        "repository_url": ADDRESS,
        "repository_branch": branch(),
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }
