"""`python -m chatmail` and the console script."""

from chatmail.app.main import main

if __name__ == "__main__":
    main()
