"""From outputs to tables: reading results, statistics, tables, plots, report. May import every layer before it."""
