"""What a synthetic set is worth: references, retained, gap closed, gates and the verdict in words."""
