"""One photo, or a focus bracket, without a scene."""
