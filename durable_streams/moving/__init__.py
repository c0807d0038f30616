"""All streams of one store moved to another: ``copying``, by what ``transfers`` says of stores."""
