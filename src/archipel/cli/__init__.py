"""The door: commands that compose the other rooms, start them, and show people what they say."""
