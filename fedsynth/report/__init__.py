"""The report's page and text, its tables and curves, the model card and the datasheet."""
