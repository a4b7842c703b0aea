"""From measured runs to tables, verdicts, figures and the report."""
