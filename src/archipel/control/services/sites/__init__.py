"""Sites: who may join, who is who, who is here, and what they hold."""
