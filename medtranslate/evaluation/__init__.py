"""How good a translation is: distances between sets of pictures, paired errors, the table."""
