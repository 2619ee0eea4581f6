"""What a deploy changes: the tests write this file anew."""

RELEASE = "first"
