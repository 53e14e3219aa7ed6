"""CSV files to sealed datasets."""
