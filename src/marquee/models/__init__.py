"""One algorithm a file, in folders by family; base.py says what each promises."""
