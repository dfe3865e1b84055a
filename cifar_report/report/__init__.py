"""The journal: results read from run folders, statistics, figures, sections, export."""
