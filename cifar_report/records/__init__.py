"""What a run leaves: its record, predictions, key and files, and their copies. No torch."""
