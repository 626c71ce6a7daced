"""What finished simulations look like: curves over rounds, as a picture, on a page and for other tools."""
