"""Tables 1 to 4 and ablations: render and score what is missing, then build the table from records."""
