"""What people read: the page and its text, tables and curves, the model card and the datasheet."""
