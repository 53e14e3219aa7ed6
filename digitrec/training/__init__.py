"""Labelled datasets to sealed model versions. The only room that imports lightning."""
