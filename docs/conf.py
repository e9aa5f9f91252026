"""How Sphinx builds the site; `make docs` runs it.

Warnings are errors there: a broken link, a public name without a page, a notebook that
fails. The pages need no network, neither to be built nor to be read.
"""

import os
import sys
from importlib.resources import files
from pathlib import Path

import lstm_jax

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

project = "lstm_jax"
author = "The lstm_jax contributors"
copyright = author
version = release = lstm_jax.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "docs.extensions.gallery",
    "docs.extensions.offline",
    "docs.extensions.reference",
]
exclude_patterns = ["images", "static", "extensions", "skeleton_cell.py"]

# --- pages ---------------------------------------------------------------------------

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"  # equations in docstrings are no Python
default_role = "py:obj"  # `unroll` in a docstring is a link where there is one
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_title = "lstm_jax"
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "article_footer_items": [],
    "navbar_persistent": [],
}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

# --- mathematics: MathJax with its letters as paths, one file without fonts ----------

html_static_path.append(str(files("mathjax") / "static/mathjax/es5/tex-svg-full.js"))
mathjax_path = "tex-svg-full.js"
mathjax3_config = {
    "options": {"enableMenu": False},
    "svg": {"fontCache": "global"},
}

# --- notebooks: run anew at every build, in a temporary folder -----------------------

nb_execution_mode = "force"
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
nb_code_prompt_show = nb_code_prompt_hide = "Solution"
nb_ipywidgets_js = {}
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

# --- the reference, from docstrings --------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 80
add_module_names = False
