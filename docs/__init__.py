"""The site: pages, and what Sphinx needs to build them."""
