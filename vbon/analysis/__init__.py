"""Tables from tables: fronts, comparisons, verdicts and excerpts."""
