"""Programs that end in every way, in every situation: none may crash or hang."""
