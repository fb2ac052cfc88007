"""What a synthetic set is worth: retained, gap closed, gates and the verdict."""
