"""How many iterations and seconds each optimizer needs to reach what a baseline reaches (`measure.py`)."""
