"""Every row of a table: methods run here, renderings imported, numbers quoted."""
