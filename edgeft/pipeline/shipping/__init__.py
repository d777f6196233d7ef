"""What ships: the artifact with its report, card and licences, inside its budget."""
