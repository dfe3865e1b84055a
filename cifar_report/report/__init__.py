"""How results are shown: sections, plots, tables, pages."""
