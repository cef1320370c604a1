"""The one exception that means "the user's input cannot be used as it is"."""


class InputError(ValueError):
    """A mistake or a defect in what the user gave.

    The message is one sentence for the user: what is wrong, where, and what to do about it.
    The command line prints it and exits with code 2; the GUI shows it as a notification.
    """
