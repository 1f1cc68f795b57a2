"""Tables and pages as pure functions of records: text, LaTeX, HTML, the static site."""
