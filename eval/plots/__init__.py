"""The numbers of figures: what is drawn of tables and of the runs behind them."""
