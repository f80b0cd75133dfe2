"""The page that shows all results: ``results/report/index.html``, made from tables alone."""
