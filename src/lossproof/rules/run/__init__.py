"""Rules about one live loss or a whole run: what only numbers show."""
