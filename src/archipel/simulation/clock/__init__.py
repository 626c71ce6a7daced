"""Virtual time: how long clients take, who is folded when, what was thrown away. Pure: no real clock, no threads."""
