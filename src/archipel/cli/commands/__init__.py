"""The commands of `archipel`, a few a file; main.py names them and imports none of them before it is called."""
