"""The paper's claims as paired tests over finished runs."""
